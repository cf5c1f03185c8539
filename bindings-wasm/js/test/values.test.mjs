/** Answers, errors and limiters as the language's own tools take them: JSON, structuredClone, `using`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { StoreError, createLimiter, limit } from 'tidegate-wasm';

test('a decision is the same after JSON and after structuredClone', async () => {
  const limiter = createLimiter({ limits: '2/d' });
  for (const decision of [limiter.checkSync('key', 2), limiter.checkSync('key')]) {
    assert.deepEqual(JSON.parse(JSON.stringify(decision)), { ...decision });
    assert.deepEqual(structuredClone(decision), { ...decision });
  }
  assert.equal(structuredClone(limiter.pressure).evicted, 0);
  assert.equal(structuredClone(limiter.storeHealth).state, 'closed');
});

test('JSON of an error has what a client needs to know, and nothing of the program', async () => {
  const limiter = createLimiter({ limits: '1/d' });
  limiter.checkSync('key');
  const limited = await limiter.acquire('key', { timeoutMs: 1 }).catch((error) => error);
  const { name, code, message, key, decision, ...rest } = JSON.parse(JSON.stringify(limited));
  assert.deepEqual([name, code, message, key, rest], ['RateLimited', 'rate_limited', limited.message, 'key', {}]);
  assert.deepEqual(decision, { ...limited.decision });
  const ofBytes = await limiter.acquire(Uint8Array.of(1, 2), { cost: 1 }).then(() => limiter.acquire(Uint8Array.of(1, 2), { timeoutMs: 1 })).catch((error) => error);
  assert.deepEqual(JSON.parse(JSON.stringify(ofBytes)).key, [1, 2]);
  const invalid = thrownBy(() => limit('10/fortnight'));
  assert.deepEqual(JSON.parse(JSON.stringify(invalid)), {
    name: 'InvalidLimit', code: 'invalid_limit', message: invalid.message, reason: invalid.reason,
  });
  const tooLarge = thrownBy(() => limiter.checkSync('key', 2));
  assert.deepEqual(JSON.parse(JSON.stringify({ error: tooLarge })).error, {
    name: 'CostTooLarge', code: 'cost_too_large', message: tooLarge.message,
  });
});

test('structuredClone of an error keeps what an Error keeps', async () => {
  const limiter = createLimiter({ limits: '1/d' });
  const error = thrownBy(() => limiter.checkSync('key', 2));
  const clone = structuredClone(error);
  assert.ok(clone instanceof Error);
  assert.equal(clone.message, error.message);
  assert.deepEqual(structuredClone(error.toJSON()), error.toJSON());
});

test('a limiter is closed by `using`', () => {
  const limiter = createLimiter({ limits: '1/d' });
  limiter.checkSync('key');
  limiter[Symbol.dispose]();
  assert.throws(() => limiter.checkSync('key'), StoreError);
  limiter[Symbol.dispose]();
});

function thrownBy(run) {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}
