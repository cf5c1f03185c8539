/** Answers, errors and limiters as the language's own tools take them: JSON, structuredClone, `using`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FakeClock, Limit, StoreError, createLimiter, limit } from 'tidegate-wasm';

test('a decision is the same after JSON, and without tiers after structuredClone', async () => {
  const limiter = createLimiter({ limits: ['2/d', '9/w'] });
  for (const decision of [limiter.checkSync('key', 2), limiter.checkSync('key')]) {
    const tiers = decision.tiers.map((tier) => ({ ...tier }));
    assert.equal(tiers.length, 2);
    assert.deepEqual(JSON.parse(JSON.stringify(decision)), { ...decision, tiers });
    assert.deepEqual(JSON.parse(JSON.stringify({ decision })).decision, { ...decision, tiers });
    assert.deepEqual(structuredClone(decision), { ...decision });
    assert.deepEqual(structuredClone(decision.toJSON()), { ...decision, tiers });
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

test('a wait in milliseconds is always enough, and never a millisecond more than that', () => {
  for (const text of ['1/36500d window', '1/9007199254740992ns', '1/104d', '3/10s', '7/1000003ns', '3/ms', '1/d burst 104']) {
    for (const nanos of [1n, 999_999n, 1_000_001n, 123_456_789_012_345_678n, 3_153_599_999_999_999_999n]) {
      const clock = new FakeClock(nanos);
      const limiter = createLimiter({ limits: text, clock });
      const { burst } = limiter.limits[0];
      limiter.checkSync('key', burst);
      const { retryAfterMs, resetAfterMs } = limiter.checkSync('key', burst);
      assert.equal(resetAfterMs, retryAfterMs);
      clock.set(nanos + BigInt(retryAfterMs - 1) * 1_000_000n);
      assert.equal(limiter.peekSync('key', burst).allowed, false, `${text} at ${nanos}`);
      clock.set(nanos + BigInt(retryAfterMs) * 1_000_000n);
      assert.equal(limiter.peekSync('key', burst).allowed, true, `${text} at ${nanos}`);
    }
  }
});

test('a period is the same when it is given back', () => {
  const nanos = [1n, 7n, 1_000_001n, 1_234_567_891n, 86_399_999_999_999n, 2n ** 52n + 1n, 2n ** 33n * 1_000_000n - 1n];
  for (const period of nanos) {
    const { periodMs } = limit(`1/${period}ns`);
    assert.equal(periodMs, Number(`${period}e-6`), 'as it is written');
    assert.equal(new Limit({ tokens: 1, periodMs }).toString(), limit(`1/${period}ns`).toString());
  }
  // A double does not hold each nanosecond of these, but it holds their milliseconds.
  for (let ms = 3_153_600_000_000; ms > 3_153_600_000_000 - 1000; ms -= 7) {
    const long = limit(`1/${ms}ms window`);
    assert.equal(long.periodMs, ms);
    assert.equal(new Limit({ tokens: 1, periodMs: ms, shape: 'stepped' }).toString(), long.toString());
  }
  for (const period of [2n ** 33n * 1_000_000n + 1n, 2n ** 53n - 1n, 2n ** 53n]) {
    const { periodMs } = limit(`1/${period}ns`);
    assert.equal(new Limit({ tokens: 1, periodMs }).periodMs, periodMs);
  }
  const tooLong = thrownBy(() => limit({ tokens: 1, periodMs: 2 ** 50 + 0.5 }));
  assert.equal(tooLong.reason, 'number_too_large');
  assert.throws(() => limit({ tokens: 1, periodMs: 1.0000001 }), /a whole number of nanoseconds/);
});

test('a message shows no more than the beginning of a long text', () => {
  for (const text of ['x'.repeat(100_000), '1/s '.repeat(10_000), '1/s; '.repeat(10_000), '\0'.repeat(1000), '\u{1f980}'.repeat(1000)]) {
    const { message, reason } = thrownBy(() => createLimiter({ limits: text }));
    assert.ok(message.length < 1000, `${message.length} characters`);
    assert.match(message, /^invalid limit ".*…" \(\d+ bytes\): at byte \d/);
    assert.equal(reason, 'syntax');
  }
});

function thrownBy(run) {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}
