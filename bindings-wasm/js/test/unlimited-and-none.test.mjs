/** The limits `unlimited` and `none`, for which no store is asked; fixed.json has their answers. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FakeClock, InvalidArgument, InvalidLimit, RateLimited, StoreError, createLimiter, limit } from 'tidegate-wasm';

// A client whose calls all fail, so a call that asks the store is an error.
const down = { callBuffer: () => Promise.reject(new Error('nobody listens')) };

for (const [place, options] of [['in memory', {}], ['over a client that fails', { store: down }]]) {
  test(`unlimited ${place}`, async () => {
    const limiter = createLimiter({ limits: 'unlimited', ...options });
    const decision = await limiter.check('key', { cost: 2 ** 53 });
    assert.deepEqual({ ...decision }, {
      allowed: true,
      limit: Infinity,
      remaining: Infinity,
      retryAfterMs: 0,
      resetAfterMs: 0,
      limitName: 'unlimited',
      source: 'memory',
    });
    await limiter.hold('key', 3_600_000);
    assert.equal((await limiter.acquire('key', { timeoutMs: 0 })).allowed, true, 'a hold has no effect');
    const reservation = await limiter.reserve('key', { cost: 5, maxWaitMs: 0 });
    assert.deepEqual([reservation.allowed, reservation.delayMs, await reservation.cancel()], [true, 0, true]);
    assert.equal((await (await limiter.reserve('key')).settle(1e9)).remaining, Infinity);
    const many = await limiter.checkMany(['a', { key: 'b', cost: 1e9 }]);
    assert.deepEqual(many.map(({ allowed }) => allowed), [true, true]);
    assert.equal((await limiter.peek('key', { cost: 1e9 })).allowed, true);
    limiter.close();
  });

  test(`none ${place}`, async () => {
    const limiter = createLimiter({ limits: ['10/s', limit('none', { name: 'banned' })], ...options });
    for (const decision of [await limiter.check('key'), await limiter.peek('key', { cost: 11 })]) {
      assert.deepEqual({ ...decision }, {
        allowed: false,
        limit: 0,
        remaining: 0,
        retryAfterMs: Infinity,
        resetAfterMs: Infinity,
        limitName: 'banned',
        source: 'memory',
      });
    }
    assert.equal((await limiter.check('key', { cost: 0 })).allowed, true);
    assert.equal((await limiter.reserve('key')).allowed, false);
    await assert.rejects(limiter.acquire('key'), RateLimited);
    assert.equal((await limiter.credit('key', 100)).remaining, 0);
    const many = await limiter.checkMany(['a', { key: ['a', 'b'], cost: 0 }]);
    assert.deepEqual(many.map(({ allowed }) => allowed), [false, true]);
    for (const key of [null, ['a'], ['a', 5]]) await assert.rejects(limiter.check(key), InvalidArgument);
    limiter.close();
    await assert.rejects(limiter.check('key'), StoreError);
  });
}

test('unlimited beside others is as if it were not there', async () => {
  const limits = ['unlimited', '3/s', 'unlimited', '5/min'];
  const limiter = createLimiter({ limits, clock: new FakeClock() });
  assert.deepEqual(limiter.limits.map(String), limits);
  assert.equal(limiter.checkSync('key', 3).limitName, '3/s');
  const { limitName, retryAfterMs, limit: burst } = limiter.checkSync('key', 3);
  assert.deepEqual([limitName, retryAfterMs, burst], ['5/min', 12_000, 5]);
  assert.equal(limiter.checkSync(['plan', 'user', 'other', 'org'], 3).remaining, 0);
  assert.equal(limiter.checkSync(['another', 'user', 'one', 'new']).allowed, false);
  assert.equal(limiter.checkSync(['user', 'new', 'user', 'org'], 3).limitName, '5/min');
  const one = createLimiter({ limits: ['unlimited', '3/s'], clock: new FakeClock() });
  one.checkSync(['plan', 'user'], 3);
  assert.deepEqual([one.checkSync(['another', 'user']).allowed, one.checkSync('user').allowed], [false, false]);
  const shared = createLimiter({ limits: ['unlimited', '3/s'], store: down });
  await assert.rejects(shared.check('key'), StoreError);
});

test('the limits themselves', () => {
  const unlimited = limit('unlimited');
  assert.deepEqual({ ...unlimited }, {
    tokens: Infinity,
    periodMs: 0,
    burst: Infinity,
    shape: 'unlimited',
    name: 'unlimited',
  });
  const none = limit({ shape: 'none', name: 'banned' });
  assert.deepEqual({ ...none }, { tokens: 0, periodMs: 0, burst: 0, shape: 'none', name: 'banned' });
  assert.deepEqual([String(unlimited), String(none)], ['unlimited', 'none']);
  for (const wrong of [{ shape: 'none', tokens: 5 }, { shape: 'unlimited', burst: 1 }, { shape: 'none', periodMs: 1 }]) {
    assert.throws(() => limit(wrong), InvalidArgument);
  }
  for (const text of ['unlimitedly', 'none/s', 'unlimited burst 5']) assert.throws(() => limit(text), InvalidLimit);
});
