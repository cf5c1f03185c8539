/** Checks of keys. */

import { describe, invalid } from './arguments.js';

/** The most bytes of a key as the engine keeps it. */
export const MAX_KEY = 1024;

/**
 * The key, or an array of the program's keys of its own: one key for each of `limits` limits. What is neither is refused,
 * and so is an array with holes. The array is copied, because a Proxy is no array to the addon, and may change.
 */
export function readKeys(key, limits) {
  if (!Array.isArray(key)) return readKey(key);
  const { length } = key;
  if (length !== limits) {
    const counts = `there are ${limits} limits, but ${length} keys`;
    throw invalid('key', `it must be one key, or an array of one for each limit: ${counts}`);
  }
  return Array.from({ length }, (_, at) => readKey(key[at]));
}

function readKey(key) {
  if (typeof key === 'string') checkWellFormed(key);
  else checkIsBytes(key);
  return key;
}

/** Refuses a lone surrogate: encoded, all lone surrogates are the same key. */
export function checkWellFormed(key) {
  if (!key.isWellFormed()) throw invalid('key', 'it must be well-formed Unicode, but has a lone surrogate');
}

export function checkIsBytes(key) {
  // A Proxy of bytes is an instance, but has none.
  if (key instanceof Uint8Array && ArrayBuffer.isView(key)) return;
  throw invalid('key', `it must be a string or a Uint8Array, but is ${describe(key)}`);
}

/** A copy of the key or keys, which the caller cannot change. */
export function ownKeys(key) {
  if (typeof key === 'string') return key;
  if (Array.isArray(key)) return key.map(ownKeys);
  return key instanceof Uint8Array ? new Uint8Array(key) : key; // what is no key is refused elsewhere
}
