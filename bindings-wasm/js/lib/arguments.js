/** Checks of arguments that several modules share, and their messages. */

import { InvalidArgument } from './errors.js';

export function invalid(name, message) {
  return new InvalidArgument(`invalid ${name}: ${message}`);
}

/** The words for a value in a message: the value if it is short, or else its kind. */
export function describe(value) {
  if (typeof value === 'string') return value.length <= 40 ? JSON.stringify(value) : 'a longer string';
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`;
}

/** Refuses what is not an object with known fields, so that no misspelt option is ignored. */
export function checkFields(name, value, known) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(name, `it must be an object, but is ${describe(value)}`);
  }
  for (const field of Object.keys(value)) {
    if (!known.includes(field)) {
      throw invalid(name, `unknown field ${describe(field)}; there are ${known.join(', ')}`);
    }
  }
}

/** Refuses what are not the options of a limiter with these fields. Limits that are given in their place are told where they belong. */
export function checkOptions(options, known) {
  if (typeof options === 'string' || Array.isArray(options)) {
    throw invalid('options', `it must be an object, but is ${describe(options)}: write createLimiter({ limits: '10/s' }), or limits: [...] for several`);
  }
  checkFields('options', options, known);
}

/** Whether `value` is a whole number that a double holds exactly. */
export function isWhole(value) {
  return Number.isInteger(value) && Math.abs(value) <= 2 ** 53;
}

/** Returns tokens: a number for every one of `limits` limits, or an array of its own with one for each. */
export function checkTokens(name, tokens, limits) {
  if (!Array.isArray(tokens)) return checkCount(name, tokens);
  if (tokens.length !== limits) {
    throw invalid(name, `one number or ${limits} are needed, but ${tokens.length} were given`);
  }
  return Array.from(tokens, (each) => checkCount(name, each));
}

/** Whether a cost charges no limit. */
export function isFree(cost) {
  return cost === 0 || (typeof cost === 'object' && cost.every((tokens) => tokens === 0));
}

/** Refuses what is not a number of tokens. */
export function checkCount(name, count) {
  if (isWhole(count) && count >= 0) return count;
  throw invalid(name, `it must be a whole number from 0 to 2^53, but is ${describe(count)}`);
}

/** Refuses what is not a number of milliseconds; Infinity is one. */
export function checkWait(name, ms) {
  if (typeof ms === 'number' && ms >= 0) return ms;
  throw invalid(name, `it must be a number of milliseconds, at least 0, but is ${describe(ms)}`);
}

export function checkSignal(signal) {
  if (signal === undefined) return;
  if (typeof signal?.aborted === 'boolean' && typeof signal.addEventListener === 'function') return;
  throw invalid('signal', `it must be an AbortSignal, but is ${describe(signal)}`);
}

/** Refuses a store that is given but undefined. It is a setting that is missing, not a wish for memory. */
export function checkStoreIsGiven(options) {
  if (!Object.hasOwn(options, 'store') || options.store !== undefined) return;
  throw invalid('store', 'it is given but undefined; set it (is a variable of the environment missing?), or leave it out for memory');
}

const MAX_TIMEOUT_MS = 60_000;
const MAX_PREFIX = 256;

/** Refuses what is not a prefix of keys in a store; undefined stands for the default. */
export function checkPrefix(prefix) {
  if (prefix === undefined) return;
  const length = typeof prefix === 'string' ? new TextEncoder().encode(prefix).length : 0;
  if (length >= 1 && length <= MAX_PREFIX) return;
  throw invalid('prefix', `it must be a string of 1 to ${MAX_PREFIX} bytes, but is ${describe(prefix)}`);
}

/** Refuses what is not a store timeout; undefined stands for the default. */
export function checkTimeout(ms) {
  if (ms === undefined || (Number.isInteger(ms) && ms >= 1 && ms <= MAX_TIMEOUT_MS)) return;
  throw invalid('storeTimeoutMs', `it must be a whole number from 1 to ${MAX_TIMEOUT_MS}, but is ${describe(ms)}`);
}
