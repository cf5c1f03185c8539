/** Checks of keys. */

import { describe, invalid } from './arguments.js';

export const MAX_KEY = 1024;
// The most bytes of UTF-8 that one unit of UTF-16 takes.
const MAX_BYTES_PER_UNIT = 3;
const encoder = new TextEncoder();

/** Refuses what is neither one key nor an array of one key for each of `limits` limits. */
export function checkKeys(key, limits) {
  if (!Array.isArray(key)) {
    checkKey(key);
  } else if (key.length === limits) {
    key.forEach(checkKey);
  } else {
    const counts = `there are ${limits} limits, but ${key.length} keys`;
    throw invalid('key', `it must be one key, or an array of one for each limit: ${counts}`);
  }
}

function checkKey(key) {
  if (typeof key === 'string') checkWellFormed(key);
  else checkIsBytes(key);
  const mayBeTooLong = typeof key === 'string' && key.length * MAX_BYTES_PER_UNIT > MAX_KEY;
  const length = mayBeTooLong ? encoder.encode(key).length : key.length;
  if (length === 0 || length > MAX_KEY) throw badKeyLength(key);
}

/** Refuses a lone surrogate: encoded, all lone surrogates are the same key. */
export function checkWellFormed(key) {
  if (!key.isWellFormed()) throw invalid('key', 'it must be well-formed Unicode, but has a lone surrogate');
}

export function checkIsBytes(key) {
  if (key instanceof Uint8Array) return;
  throw invalid('key', `it must be a string or a Uint8Array, but is ${describe(key)}`);
}

export function badKeyLength(key) {
  const length = typeof key === 'string' ? encoder.encode(key).length : key.length;
  return invalid('key', `it must be 1 to ${MAX_KEY} bytes long, but has ${length}`);
}

/** A copy of the key or keys, which the caller cannot change. */
export function ownKeys(key) {
  if (typeof key === 'string') return key;
  if (Array.isArray(key)) return key.map(ownKeys);
  return key instanceof Uint8Array ? new Uint8Array(key) : key; // what is no key is refused elsewhere
}
