/** `readSignal`: what a vendor's response says about its limits. */

import { checkFields, describe, invalid } from './arguments.js';
import { brand } from './brand.js';
import { NANOS_PER_MILLI } from './clock.js';
import { raise, requireMemory } from './engine.js';
import { ReadSignal } from './tidegate_wasm.js';

const OPTIONS = ['profile', 'body', 'now', 'maxHoldMs'];
const ROW_FIELDS = ['header', 'meaning', 'unit', 'group'];
export const DEFAULT_MAX_HOLD_MS = 900_000;
const MAX_STATUS = 999;
// A body without end would be read without end.
const MAX_DEPTH = 8;
const MAX_FIELDS = 1000;
const MOST = 2n ** 64n - 1n;

/** What a response says about the limits of its vendor, frozen. */
export class Signal {
  /** @param {string[]} parts the fields as the engine writes them */
  constructor(parts) {
    const [hold, asked, scope, bucket, remaining, limit, limitName, window, reset, shouldRetry, kind, source] = parts;
    this.holdMs = millis(hold);
    this.askedMs = millis(asked);
    this.scope = scope;
    this.bucket = bucket;
    this.remaining = count(remaining);
    this.limit = count(limit);
    this.limitName = limitName;
    this.windowMs = millis(window);
    this.resetMs = millis(reset);
    this.shouldRetry = shouldRetry === 'true';
    this.kind = kind;
    this.source = source;
    Object.freeze(this);
  }
}

brand(Signal, 'Signal');

/** Reads what a response with this status and these headers says about its vendor's limits. */
export function readSignal(status, headers, options = {}) {
  checkFields('options', options, OPTIONS);
  const response = responseParts(status, headers, options);
  requireMemory();
  return signalOf(new ReadSignal(...response));
}

/** A response as the engine reads it: status, headers, fields of the body, profile, wall clock and longest hold. */
export function responseParts(status, headers, { profile = 'generic', body, now = Date.now(), maxHoldMs = DEFAULT_MAX_HOLD_MS }) {
  if (!Number.isInteger(status) || status < 0 || status > MAX_STATUS) {
    throw invalid('status', `it must be a whole number from 0 to ${MAX_STATUS}, but is ${describe(status)}`);
  }
  return [status, textOfHeaders(headers), textOfBody(body), textOfProfile(profile), nanos('now', now), nanos('maxHoldMs', maxHoldMs)];
}

/** The signal that the engine has read, which is freed. */
export function signalOf(read) {
  raise(read);
  const { text } = read;
  read.free();
  return new Signal(text.split('\0'));
}

// Milliseconds, rounded up, so that waiting for as long as an answer says is enough.
function millis(nanos) {
  const number = count(nanos);
  return number === undefined ? undefined : Math.ceil(number / 1e6);
}

function count(text) {
  if (text === '') return undefined;
  return BigInt(text) === MOST ? Infinity : Number(text);
}

/** The nanoseconds of milliseconds or a Date, at most 2^64 - 1. */
export function nanos(name, ms) {
  const number = ms instanceof Date ? ms.getTime() : ms;
  if (typeof number !== 'number' || !(number >= 0)) {
    throw invalid(name, `it must be a number of milliseconds, at least 0, but is ${describe(ms)}`);
  }
  if (number >= Number(MOST / NANOS_PER_MILLI)) return MOST;
  const whole = Math.floor(number);
  return BigInt(whole) * NANOS_PER_MILLI + BigInt(Math.floor((number - whole) * 1e6));
}

// Headers are a list of pairs, as Headers and Map are, or an object, as of Node's http and of axios.
function textOfHeaders(headers) {
  if (typeof headers !== 'object' || headers === null) {
    throw invalid('headers', `they must be Headers, an object or an array of pairs, but are ${describe(headers)}`);
  }
  const isList = typeof headers[Symbol.iterator] === 'function';
  let text = '';
  for (const pair of isList ? headers : Object.entries(headers)) {
    if (!Array.isArray(pair)) throw invalid('headers', 'each of a list must be an array of a name and a value');
    const [name, value] = pair;
    for (const each of Array.isArray(value) ? value : [value]) text += ended(name, each);
  }
  return text;
}

function textOfBody(body) {
  if (body === undefined || body === null) return '';
  if (typeof body !== 'object') throw invalid('body', `it must be parsed JSON, an object or an array, but is ${describe(body)}`);
  const texts = [];
  addFields(body, '', 0, texts);
  return texts.join('');
}

// The elements of an array have the path of the array, or `[]` if it is the whole body.
function addFields(value, path, depth, texts) {
  if (typeof value !== 'object' || value === null) {
    if (texts.length < MAX_FIELDS) texts.push(ended(path, value));
    return;
  }
  if (depth === MAX_DEPTH) return;
  const entries = Array.isArray(value) ? value.map((each) => [path || '[]', each]) : Object.entries(value).map(([name, each]) => [path === '' ? name : `${path}.${name}`, each]);
  for (const [inner, each] of entries) {
    if (texts.length >= MAX_FIELDS) return;
    addFields(each, inner, depth + 1, texts);
  }
}

function textOfProfile(profile) {
  if (typeof profile === 'string') return withoutEnds(profile);
  if (!Array.isArray(profile)) throw invalid('profile', `it must be a name or an array of rows, but is ${describe(profile)}`);
  if (profile.length === 0) return 'generic';
  return profile.map(textOfRow).join('');
}

function textOfRow(row) {
  checkFields('profile', row, ROW_FIELDS);
  const { header, meaning, unit = 'auto', group = '' } = row;
  for (const [name, part] of Object.entries({ header, meaning, unit, group })) {
    if (typeof part !== 'string') throw invalid('profile', `${name} must be a string, but is ${describe(part)}`);
  }
  return ended(header, meaning) + ended(unit, group);
}

// Two parts as the engine reads them. What is not there says nothing.
function ended(name, value) {
  if (value === undefined || value === null) return '';
  return `${withoutEnds(String(name))}\0${withoutEnds(typeof value === 'number' ? decimal(value) : String(value))}\0`;
}

// Headers have no exponents.
function decimal(number) {
  const text = String(number);
  return text.includes('e-') ? number.toFixed(20) : text.includes('e+') ? BigInt(number).toString() : text;
}

function withoutEnds(text) {
  return text.replaceAll('\0', ' ');
}
