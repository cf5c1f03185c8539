/** Checks of keys. */

import { describe, invalid } from './arguments.js';

export const MAX_KEY = 1024;
// No UTF-16 unit takes more bytes than this in UTF-8.
const MAX_BYTES_PER_UNIT = 3;
const encoder = new TextEncoder();

/** Refuses all that is neither one key nor one key for each of so many limits. */
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

/** Refuses half of a surrogate pair: encoded it would be one and the same key as any other half. */
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

/** The same key or keys, which the caller can no longer change. */
export function ownKeys(key) {
  if (typeof key === 'string') return key;
  return Array.isArray(key) ? key.map(ownKeys) : new Uint8Array(key);
}
