/** The WebAssembly module by itself: exact nanoseconds, and which keys have room. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import '../dist/index.js';

import { view } from '../dist/engine.js';
import { Engine, seed } from '../dist/tidegate_wasm.js';
import { nonEmpty, readOperations, readVectors } from './conformance.mjs';

const NANOS_PER_MILLI = 1_000_000n;
const SECOND = 1_000_000_000n;

seed(1n, 2n);

for (const trace of nonEmpty(readVectors('decide.json').traces)) {
  test(`decide.json to the nanosecond: ${trace.name}`, () => {
    const engine = newEngine(...trace.limits);
    for (const { at, key = 'k', cost, expect, error } of trace.steps) {
      const status = check(engine, key, BigInt(at), cost);
      if (error !== undefined) {
        assert.equal(engine.take_failure().code, error);
        continue;
      }
      const { limit, tiers, ...wanted } = expect;
      assert.deepEqual(answer(engine, status), wanted);
    }
    engine.free();
  });
}

for (const trace of readOperations()) {
  test(`operations.json to the nanosecond: ${trace.name}`, () => {
    const engine = newEngine(...trace.limits);
    const slots = new Map();
    let at = 0n;
    for (const { at: text, op, expect, error, reservation, ...call } of trace.steps) {
      if (text !== undefined) at = BigInt(text);
      const length = writeKey(engine, 'k');
      if (op === 'cancel') view(BigUint64Array, engine.slot_pointer(), SLOT_WORDS).set(slots.get(reservation));
      const status = operations[op](engine, length, split(at), call);
      if (error !== undefined) {
        assert.equal(engine.take_failure().code, error);
        continue;
      }
      if (expect === undefined) continue;
      if (op === 'cancel') {
        assert.deepEqual({ restored: status === 1 }, expect);
        continue;
      }
      const slot = view(BigUint64Array, engine.slot_pointer(), SLOT_WORDS).slice();
      if (reservation !== undefined) slots.set(reservation, slot);
      const { limit, tiers, delay = '0', ...wanted } = expect;
      assert.deepEqual(answer(engine, status), wanted);
      if (op === 'reserve' && wanted.allowed) assert.equal(String(slot[0]), delay);
    }
    engine.free();
  });
}

test('a bucket that is full again gives its room to a new key', () => {
  const engine = newEngine({ maxKeys: 1500 }, '1/s');
  for (let number = 0n; number < 100_000n; number++) {
    // A key owes for a second, so a thousand of them owe at any time.
    const status = check(engine, `key ${number}`, SECOND + (number * SECOND) / 1000n, 1);
    assert.equal(status, 1);
  }
  assert.deepEqual(pressure(engine), { evicted: 0, denied: 0 });
  engine.free();
});

test('no bucket that owes is forgotten', () => {
  const engine = newEngine({ maxKeys: 10_000 }, '1/d');
  for (let number = 0; number < 9_000; number++) assert.equal(check(engine, `key ${number}`, SECOND, 1), 1);
  for (let number = 0; number < 9_000; number++) assert.equal(check(engine, `key ${number}`, SECOND, 1), 0);
  assert.deepEqual(pressure(engine), { evicted: 0, denied: 0 });
  engine.free();
});

test('looking takes no room', () => {
  const engine = newEngine({ maxKeys: 1, deniesWhenFull: true }, '1/s');
  for (let number = 0; number < 100; number++) assert.equal(check(engine, `key ${number}`, SECOND, 0), 1);
  for (let number = 0; number < 8; number++) assert.equal(check(engine, `other ${number}`, SECOND, 1), 1);
  assert.deepEqual(pressure(engine), { evicted: 0, denied: 0 });
  assert.equal(check(engine, 'one more', SECOND, 1), 0);
  assert.deepEqual(pressure(engine), { evicted: 0, denied: 1 });
  engine.free();
});

test('keys per limit give their room to new keys once full, too', () => {
  const engine = newEngine({ maxKeys: 1500 }, '1/s', '1000/s');
  for (let number = 0n; number < 20_000n; number++) {
    const keys = [`user ${number}`, 'everybody'].map((key) => new TextEncoder().encode(key));
    for (const [tier, key] of keys.entries()) {
      view(Uint8Array, engine.key_pointer() + tier * 1024, key.length).set(key);
    }
    view(Uint32Array, engine.key_lengths_pointer(), 2).set(keys.map(({ length }) => length));
    // A thousand users come in a second, and each owes for a second, so a thousand owe at any time.
    assert.equal(engine.check(ONE_FOR_EACH, ...split(SECOND + (number * SECOND) / 1000n), 1) & 1, 1);
  }
  assert.deepEqual(pressure(engine), { evicted: 0, denied: 0 });
  engine.free();
});

// The words of a reservation.
const SLOT_WORDS = 15;

// The key length that says that there is one key for each limit.
const ONE_FOR_EACH = 0xffff_ffff;

function newEngine(...given) {
  const { maxKeys = 1_000_000, deniesWhenFull = false } = typeof given[0] === 'object' ? given.shift() : {};
  const engine = new Engine(given.join('\n'), 10_000, false, maxKeys, deniesWhenFull);
  assert.equal(engine.take_failure(), undefined);
  return engine;
}

function check(engine, key, now, cost) {
  return engine.check(writeKey(engine, key), ...split(now), pass(engine, cost));
}

function pressure(engine) {
  return { evicted: engine.evicted(), denied: engine.denied() };
}

const operations = {
  check: (engine, length, at, { cost }) => engine.check(length, ...at, pass(engine, cost)),
  peek: (engine, length, at, { cost }) => engine.peek(length, ...at, pass(engine, cost)),
  reserve: (engine, length, at, { cost, max_wait: maxWait }) =>
    engine.reserve(length, ...at, pass(engine, cost), ...split(BigInt(maxWait))),
  cancel: (engine, length, at) => engine.cancel(length, ...at),
  settle: (engine, length, at, { charged, actual }) =>
    engine.correct(length, ...at, 0, pass(engine, charged), pass(engine, actual, 4), 0, 0),
  credit: (engine, length, at, { tokens }) => engine.correct(length, ...at, 1, pass(engine, tokens), 0, 0, 0),
  hold: (engine, length, at, { wait }) => engine.correct(length, ...at, 2, 0, 0, ...split(BigInt(wait))),
  reset: (engine, length, at) => engine.correct(length, ...at, 3, 0, 0, 0, 0),
};

// Tokens as the engine takes them: a number, or the negated count of those that have been written.
function pass(engine, tokens, place = 0) {
  if (typeof tokens === 'number') return tokens;
  view(Float64Array, engine.costs_pointer(), 8).set(tokens, place);
  return -tokens.length;
}

function writeKey(engine, key) {
  const bytes = new TextEncoder().encode(key);
  view(Uint8Array, engine.key_pointer(), bytes.length).set(bytes);
  return bytes.length;
}

function split(nanos) {
  return [Number(nanos / NANOS_PER_MILLI), Number(nanos % NANOS_PER_MILLI)];
}

function answer(engine, status) {
  const [remaining] = view(Float64Array, engine.answer_pointer(), 1);
  const [retryAfter, resetAfter] = view(BigUint64Array, engine.answer_pointer() + 3 * 8, 2);
  return {
    allowed: (status & 1) === 1,
    remaining,
    retry_after: String(retryAfter),
    reset_after: String(resetAfter),
    tier: status >>> 1,
  };
}
