/** Checks of keys. */

import { describe, invalid } from './arguments.js';

/** The most bytes of a key as the engine keeps it. */
export const MAX_KEY = 1024;

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
}

/** Refuses a lone surrogate: encoded, all lone surrogates are the same key. */
export function checkWellFormed(key) {
  if (!key.isWellFormed()) throw invalid('key', 'it must be well-formed Unicode, but has a lone surrogate');
}

export function checkIsBytes(key) {
  if (key instanceof Uint8Array) return;
  throw invalid('key', `it must be a string or a Uint8Array, but is ${describe(key)}`);
}

/** A copy of the key or keys, which the caller cannot change. */
export function ownKeys(key) {
  if (typeof key === 'string') return key;
  if (Array.isArray(key)) return key.map(ownKeys);
  return key instanceof Uint8Array ? new Uint8Array(key) : key; // what is no key is refused elsewhere
}
