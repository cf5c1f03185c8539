// The module itself: exact nanoseconds, and what it keeps in memory.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import 'tidegate-wasm';

import { view } from '../dist/engine.js';
import { Engine } from '../dist/tidegate_wasm.js';
import { nonEmpty, readVectors } from './conformance.mjs';

const NANOS_PER_MILLI = 1_000_000n;
const SECOND = 1_000_000_000n;

for (const trace of nonEmpty(readVectors('decide.json').traces)) {
  test(`decide.json to the nanosecond: ${trace.name}`, () => {
    const engine = newEngine(...trace.limits);
    for (const { at, key = 'k', cost, expect, error } of trace.steps) {
      const status = check(engine, key, BigInt(at), cost);
      if (error !== undefined) {
        assert.equal(engine.take_failure().code, error);
        continue;
      }
      const { limit, ...wanted } = expect;
      assert.deepEqual(answer(engine, status), wanted);
    }
    engine.free();
  });
}

test('a bucket that is full again is forgotten, so memory follows the buckets that owe', () => {
  const engine = newEngine('1/s');
  for (let number = 0n; number < 100_000n; number++) {
    // A key owes for a second, so a thousand of them owe at any time.
    const status = check(engine, `key ${number}`, SECOND + (number * SECOND) / 1000n, 1);
    assert.equal(status, 1);
    assert.ok(engine.bucket_count <= 2001, `${engine.bucket_count} buckets after ${number}`);
  }
  engine.free();
});

test('no bucket that owes is forgotten', () => {
  const engine = newEngine('1/d');
  for (let number = 0; number < 10_000; number++) assert.equal(check(engine, `key ${number}`, SECOND, 1), 1);
  for (let number = 0; number < 10_000; number++) assert.equal(check(engine, `key ${number}`, SECOND, 1), 0);
  assert.equal(engine.bucket_count, 10_000);
  engine.free();
});

test('looking keeps no bucket', () => {
  const engine = newEngine('1/s');
  for (let number = 0; number < 100; number++) assert.equal(check(engine, `key ${number}`, SECOND, 0), 1);
  assert.equal(engine.bucket_count, 0);
  engine.free();
});

function newEngine(...limits) {
  const engine = new Engine(limits.join('\n'));
  assert.equal(engine.take_failure(), undefined);
  engine.seed(1n, 2n);
  return engine;
}

function check(engine, key, now, cost) {
  const bytes = new TextEncoder().encode(key);
  view(Uint8Array, engine.key_pointer(), bytes.length).set(bytes);
  return engine.check(bytes.length, Number(now / NANOS_PER_MILLI), Number(now % NANOS_PER_MILLI), cost);
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
