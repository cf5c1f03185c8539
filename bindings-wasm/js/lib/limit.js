/** Limits, as text or as an object. */

import { checkFields, describe, invalid, isWhole } from './arguments.js';
import { brand } from './brand.js';
import { NANOS_PER_MILLI } from './clock.js';
import { ParsedLimit } from './tidegate_wasm.js';
import { raise, requireMemory } from './engine.js';
import { InvalidLimit } from './errors.js';

const FIELDS = ['tokens', 'periodMs', 'burst', 'shape', 'name'];
const MAX_LIMITS = 4;
// The limits that are a word of the grammar, each with its tokens and its burst.
const WORDS = { unlimited: Infinity, none: 0 };

/** A number of tokens per period, and the burst that can be spent at once. Immutable. */
export class Limit {
  #text;

  /**
   * @param {string | object} description the grammar's text, or its parts
   * @param {{ name?: string }} [options]
   */
  constructor(description, options = {}) {
    checkFields('options', options, ['name']);
    const text = typeof description === 'string' ? description : textOf(description);
    requireMemory();
    const parsed = new ParsedLimit(text);
    raise(parsed);
    this.#text = parsed.text;
    this.tokens = parsed.tokens;
    this.periodMs = millisOf(parsed.period);
    this.burst = parsed.burst;
    this.shape = parsed.shape;
    const given = typeof description === 'string' ? description.trim() : this.#text;
    this.name = checkName(options.name ?? description.name ?? given);
    parsed.free();
    Object.freeze(this);
  }

  /** The canonical text, from which an equal limit can be read. */
  toString() {
    return this.#text;
  }
}

brand(Limit, 'Limit');

/** One to four limits that all must allow, read once: a customer's plan, say. Immutable. */
export class Limits {
  // A text, or limits and texts. A text says all that its limit does, and takes a tenth of the memory.
  #given;

  /** @param {...(string | object)} limits each in any form; one array of them is the same */
  constructor(...limits) {
    const [first] = limits;
    const given = limits.length === 1 && Array.isArray(first) ? first : limits;
    checkCount(given);
    if (given.length === 1 && typeof first === 'string') {
      checkText(first);
      this.#given = first;
    } else {
      this.#given = given.map((one) => (typeof one === 'string' ? checkText(one) : limit(one)));
    }
  }

  /** The limits, in the order they were given. */
  get limits() {
    return Object.freeze(readLimits(this.#given));
  }

  /** A text that is the same for equal limits: of the same numbers, shapes and names. */
  get key() {
    return keyOf(this.limits);
  }

  /** The names, with a comma between them. */
  toString() {
    return this.limits.map(({ name }) => name).join(', ');
  }

  [Symbol.iterator]() {
    return this.limits[Symbol.iterator]();
  }
}

brand(Limits, 'Limits');

/** A text that is the same for equal limits. */
export function keyOf(limits) {
  return limits.map((one) => `${one.name}\n${one}`).join('\n');
}

/** Refuses a number of limits other than one to four. */
export function checkCount({ length }) {
  if (length >= 1 && length <= MAX_LIMITS) return;
  throw new InvalidLimit(`invalid limits: there must be 1 to ${MAX_LIMITS}, but there are ${length}`, 'tier_count');
}

// Refuses what is no text of a limit.
function checkText(text) {
  requireMemory();
  const parsed = new ParsedLimit(text);
  raise(parsed);
  parsed.free();
  return text;
}

// The limits that were read from a text, which does not change: a program that makes a limiter for each of its
// users reads the same few texts again and again.
const known = new Map();
const MAX_KNOWN = 1000;

/** Reads a limit from the grammar's text or from its parts. */
export function limit(description, options) {
  if (options !== undefined) return new Limit(description, options);
  if (description instanceof Limit) return description;
  if (typeof description !== 'string') return new Limit(description);
  let read = known.get(description);
  if (read === undefined) {
    read = new Limit(description);
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(description, read);
  }
  return read;
}

/** Reads one limit, an array of limits, each in any form, or `Limits`, to an array of `Limit`. */
export function readLimits(limits) {
  if (limits === undefined) throw invalid('limits', 'give one to four, such as "100/min"');
  if (limits instanceof Limits) return limits.limits;
  return (Array.isArray(limits) ? limits : [limits]).map((one) => limit(one));
}

// Writes the parts of a limit as a text, because only the grammar decides which limits are valid.
function textOf(description) {
  if (description instanceof Limit) return description.toString();
  if (typeof description !== 'object' || description === null) {
    throw invalid('limit', `it must be a text such as "100/min" or an object, but is ${describe(description)}`);
  }
  if (typeof description[Symbol.iterator] === 'function') {
    const what = Array.isArray(description) ? 'an array' : 'an iterable object';
    throw invalid('limit', `it must be a text such as "100/min" or an object, but is ${what}; give several as an array, [...limits]`);
  }
  checkFields('limit', description, FIELDS);
  const { tokens, periodMs, burst, shape = 'smooth' } = description;
  if (Object.hasOwn(WORDS, shape)) return word(shape, { tokens, periodMs, burst });
  let text = `${wholeNumber('tokens', tokens)}/${duration(periodMs)}`;
  if (burst !== undefined) text += ` burst ${wholeNumber('burst', burst)}`;
  if (shape !== 'smooth' && shape !== 'stepped') {
    throw invalid('shape', `it must be "smooth", "stepped", "unlimited" or "none", but is ${describe(shape)}`);
  }
  return shape === 'stepped' ? `${text} stepped` : text;
}

// The text of a limit without a rate. Its parts are those of the word, or are left out.
function word(shape, parts) {
  for (const [name, value] of Object.entries(parts)) {
    const only = name === 'periodMs' ? 0 : WORDS[shape];
    if (value !== undefined && value !== only) {
      throw invalid(name, `with the shape "${shape}" it must be ${only} or left out, but is ${describe(value)}`);
    }
  }
  return shape;
}

function wholeNumber(name, value) {
  if (isWhole(value)) return value;
  throw invalid(name, `it must be a whole number from 1 to 2^53, but is ${describe(value)}`);
}

function duration(ms) {
  if (typeof ms !== 'number' || !(Math.abs(ms) <= 2 ** 53)) {
    throw invalid('periodMs', `it must be a number of milliseconds up to 2^53, but is ${describe(ms)}`);
  }
  if (Number.isInteger(ms)) return `${ms}ms`;
  const whole = Math.floor(ms);
  const nanos = BigInt(whole) * NANOS_PER_MILLI + BigInt(Math.round((ms - whole) * 1e6));
  if (ms < MAX_EXACT_MS && millisOf(nanos) !== ms) {
    throw invalid('periodMs', `it must be a whole number of nanoseconds, but is ${ms} ms`);
  }
  return `${nanos}ns`;
}

// From here on (99 days) there is less than one double for each nanosecond, so the nearest nanosecond is meant.
const MAX_EXACT_MS = 2 ** 33;

// Nanoseconds in milliseconds. The parts are converted apart where a double does not hold all nanoseconds (2^53, 104 days);
// there only whole milliseconds are periods.
function millisOf(nanos) {
  if (nanos <= 2n ** 53n) return Number(nanos) / 1e6;
  return Number(nanos / NANOS_PER_MILLI) + Number(nanos % NANOS_PER_MILLI) / 1e6;
}

function checkName(name) {
  if (typeof name === 'string' && name !== '') return name;
  throw invalid('name', `it must be a string that is not empty, but is ${describe(name)}`);
}
