/**
 * Every operation on the stores that processes share. The clocks of these stores are real, so tests
 * whose result must not depend on time use slow limits.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { InvalidArgument, Pressure, RateLimited, Reservation, StoreError, createLimiter } from 'tidegate';

import { RedisServer, until } from './redis-server.mjs';

const TIMEOUT_MS = 2000;
const HOUR_MS = 3_600_000;

const folder = mkdtempSync(join(tmpdir(), 'tidegate-shared-'));
let redis;

before(async () => {
  redis = await RedisServer.start();
});

after(async () => {
  await redis.remove();
  rmSync(folder, { recursive: true, force: true });
});

const stores = { shm: () => `shm://test?dir=${folder}`, redis: () => redis.url };

for (const [source, url] of Object.entries(stores)) {
  describe(source, () => {
    let names = 0;

    // Two limiters that share buckets with each other, and with no other test.
    function pair(limits, more = {}) {
      const options = { limits, store: url(), prefix: `test-${names++}`, storeTimeoutMs: TIMEOUT_MS, ...more };
      return [createLimiter(options), createLimiter(options)];
    }

    test('what one limiter spends the other misses', async () => {
      const [one, other] = pair(['10/d', '20/d']);
      assert.equal((await one.check('key', { cost: 4 })).remaining, 6);
      const decision = await other.check('key', { cost: 4 });
      assert.deepEqual([decision.remaining, decision.source, decision.limitName], [2, source, '10/d']);
      const refused = await one.check(Buffer.from('key'), { cost: 4 });
      assert.deepEqual([refused.allowed, (await other.peek('key', { cost: 0 })).remaining], [false, 2]);
    });

    test('reservations queue up, and one too far charges nothing', async () => {
      const [one, other] = pair('1/h');
      const slots = [await one.reserve('key'), await other.reserve('key'), await one.reserve('key')];
      slots.forEach((slot, number) => {
        assert.ok(slot instanceof Reservation && slot.allowed && slot.decision.allowed);
        assert.equal(slot.cost, 1);
        assert.ok(Number.isInteger(slot.delayMs));
        assert.ok(slot.delayMs <= number * HOUR_MS && slot.delayMs > number * HOUR_MS - 60_000, `${slot.delayMs}`);
      });
      const refused = await other.reserve('key', { maxWaitMs: 2 * HOUR_MS });
      assert.deepEqual([refused.allowed, refused.delayMs, refused.decision.allowed], [false, Infinity, false]);
      assert.ok(refused.decision.retryAfterMs > HOUR_MS - 60_000 && refused.decision.retryAfterMs <= HOUR_MS);
      assert.equal(await refused.cancel(), false);
      assert.ok((await other.peek('key', { cost: 0 })).resetAfterMs <= 3 * HOUR_MS);
    });

    test('cancelling: the last comes back, one in the middle does not, and only once', async () => {
      const [one, other] = pair('1/h');
      await one.check('key');
      const key = Buffer.from('key');
      const [second, third] = [await one.reserve(key), await other.reserve(key)];
      key.fill(0);
      assert.equal(await second.cancel(), false);
      assert.equal(await third.cancel(), true);
      assert.equal(await third.cancel(), false);
      await assert.rejects(third.settle(0), InvalidArgument);
      const { resetAfterMs } = await other.peek('key', { cost: 0 });
      assert.ok(resetAfterMs > HOUR_MS && resetAfterMs <= 2 * HOUR_MS, `${resetAfterMs}`);
    });

    test('settle, credit, hold and reset', async () => {
      const [one, other] = pair('100/d');
      const slot = await one.reserve('key', { cost: 40 });
      assert.equal((await slot.settle(10)).remaining, 90);
      assert.equal(await slot.cancel(), false);
      await assert.rejects(slot.settle(10), InvalidArgument);
      assert.equal((await other.settle('key', 0, 120)).remaining, 0);
      assert.ok((await one.peek('key', { cost: 0 })).resetAfterMs > 1.29 * 86_400_000);
      assert.equal((await other.credit('key', 100)).remaining, 70);
      assert.equal((await one.hold('key', HOUR_MS)).remaining, 0);
      const { retryAfterMs } = await other.check('key');
      assert.ok(retryAfterMs > HOUR_MS - 60_000 && retryAfterMs <= HOUR_MS, `${retryAfterMs}`);
      assert.equal((await other.hold('key', Infinity)).remaining, 0);
      assert.equal((await other.reset('key')).remaining, 100);
      assert.equal((await one.peek('key', { cost: 0 })).remaining, 100);
    });

    test('one key per limit: all or nothing', async () => {
      const [one, other] = pair(['10/d', '15/d']);
      assert.ok((await one.check(['user:1', 'org:7'], { cost: 10 })).allowed);
      const refused = await other.check(['user:2', Buffer.from('org:7')], { cost: 6 });
      assert.deepEqual([refused.allowed, refused.limitName], [false, '15/d']);
      assert.equal((await one.peek(['user:2', 'org:8'], { cost: 0 })).remaining, 10);
      const slot = await other.reserve(['user:2', 'org:7'], { cost: 5 });
      assert.equal((await one.peek(['user:3', 'org:7'], { cost: 0 })).remaining, 0);
      assert.equal(await slot.cancel(), true);
      assert.equal((await one.peek(['user:3', 'org:7'], { cost: 0 })).remaining, 5);
      assert.equal((await one.settle(['user:3', 'org:7'], 5, 1)).remaining, 9);
      assert.equal((await one.reset(['user:1', 'org:7'])).remaining, 10);
      await assert.rejects(one.check(['user:1']), { code: 'invalid_argument', message: /there are 2 limits, but 1 keys/ });
    });

    test('keys per limit: their limit is part of their name, and a single key is another', async () => {
      const [one, other] = pair(['10/d', '15/d']);
      assert.equal((await one.check(['a', 'b'], { cost: 10 })).remaining, 0);
      assert.equal((await other.peek(['b', 'c'], { cost: 0 })).remaining, 10);
      assert.equal((await other.peek(['c', 'a'], { cost: 0 })).remaining, 10);
      assert.equal((await other.peek('a', { cost: 0 })).remaining, 10);
      assert.equal((await other.peek(['a', 'a'], { cost: 0 })).remaining, 0);
      assert.ok((await other.check(['c', 'c'], { cost: 4 })).allowed);
      assert.equal((await one.peek(['c', 'c'], { cost: 0 })).remaining, 6);
      const [single] = pair('10/d');
      await single.check(['key'], { cost: 4 });
      assert.equal((await single.peek('key', { cost: 0 })).remaining, 6, 'with one limit they are the same');
    });

    test('many checks: in order, each by itself; a mistake in one charges nothing', async () => {
      const [one, other] = pair('10/d');
      const checks = [{ key: 'a', cost: 8 }, { key: 'a', cost: 8 }, 'b', Buffer.from('a'), { key: ['b'], cost: 9 }];
      const answers = await one.checkMany(checks);
      assert.deepEqual(answers.map(({ allowed }) => allowed), [true, false, true, true, true]);
      assert.deepEqual([(await other.peek('a', { cost: 0 })).remaining, (await other.peek('b', { cost: 0 })).remaining], [1, 0]);
      assert.deepEqual(await one.checkMany([]), []);
      await assert.rejects(one.checkMany(['c', null]), InvalidArgument);
      await assert.rejects(one.checkMany(['c', { key: 'c', cost: 11 }]), { code: 'cost_too_large' });
      assert.equal((await other.peek('c', { cost: 0 })).remaining, 10);
    });

    test('waiters of two limiters come at their slots, none before', async () => {
      const [one, other] = pair('100/s burst 1');
      await one.peek('key', { cost: 0 });
      const started = performance.now();
      const woken = await Promise.all(Array.from({ length: 10 }, async (_, number) => {
        const { allowed } = await (number % 2 ? one : other).acquire('key', { timeoutMs: 5000 });
        assert.ok(allowed);
        return performance.now() - started;
      }));
      woken.sort((a, b) => a - b).forEach((at, number) => { assert.ok(at >= number * 10, `${woken}`); });
    });

    test('a slot later than the timeout is an error at once, which charges nothing', async () => {
      const [one, other] = pair(['1/h', '5/h']);
      await one.acquire(['user', 'org']);
      await assert.rejects(other.acquire(['user', 'org'], { timeoutMs: 1000 }), (error) => {
        assert.ok(error instanceof RateLimited);
        assert.deepEqual([error.code, error.key, error.decision.allowed], ['rate_limited', 'user', false]);
        return true;
      });
      assert.ok((await one.peek(['user', 'org'], { cost: 0 })).resetAfterMs <= HOUR_MS);
      await assert.rejects(one.acquire('user', { cost: 2 }), { code: 'cost_too_large' });
    });

    test('an aborted wait gives its slot back', async () => {
      const [one, other] = pair('1/h');
      await one.check('key');
      for (const abortAt of ['while it reserves', 'while it waits']) {
        const controller = new AbortController();
        const waiting = one.acquire('key', { signal: controller.signal });
        if (abortAt === 'while it waits') {
          while ((await other.peek('key', { cost: 0 })).resetAfterMs <= HOUR_MS) await new Promise(setImmediate);
        }
        controller.abort();
        await assert.rejects(waiting, { name: 'AbortError' });
        await until(`the slot is back, aborted ${abortAt}`, async () => {
          return (await other.peek('key', { cost: 0 })).resetAfterMs <= HOUR_MS;
        });
      }
    });

    test('a closed limiter refuses every operation', async () => {
      const [one] = pair('10/d');
      const slots = [await one.reserve('key'), await one.reserve('key')];
      one.close();
      const calls = [
        () => one.check('a'), () => one.checkMany(['a']), () => one.reserve('a'), () => one.acquire('a'),
        () => one.settle('a', 1, 2), () => one.credit('a', 1), () => one.hold('a', 1), () => one.reset('a'),
        () => slots[0].cancel(), () => slots[1].settle(1),
      ];
      for (const call of calls) {
        await assert.rejects(async () => call(), (error) => error instanceof StoreError && /closed/.test(error.message));
      }
    });
  });
}

test('what is on this host answers without a promise, too', () => {
  const limiter = createLimiter({ limits: '10/d', store: stores.shm(), prefix: 'synchronous' });
  assert.equal(limiter.checkSync('key', 4).remaining, 6);
  assert.deepEqual(limiter.checkManySync(['key', 'key']).map(({ remaining }) => remaining), [5, 4]);
  const slot = limiter.reserveSync('key', { cost: 2 });
  assert.equal(limiter.peekSync('key', 0).remaining, 2);
  assert.equal(slot.cancelSync(), true);
  assert.equal(limiter.reserveSync('key').settleSync(3).remaining, 1);
  assert.equal(limiter.settleSync('key', 1, 0).remaining, 2);
  assert.equal(limiter.creditSync('key', 8).remaining, 10);
  assert.equal(limiter.holdSync('key', 1000).remaining, 0);
  assert.equal(limiter.resetSync('key').remaining, 10);
  assert.throws(() => limiter.checkSync('key', 11), { code: 'cost_too_large' });
});

test('shared memory counts what it has no room for, for everybody who shares it', () => {
  const keys = Array.from({ length: 200 }, (_, number) => `user:${number}`);
  for (const [policy, counted] of [['deny', 'denied'], ['evict_idlest', 'evicted']]) {
    const store = `shm://${policy}?max_keys=20&on_full=${policy}&dir=${folder}`;
    const [one, other] = [createLimiter({ limits: '1/d', store }), createLimiter({ limits: '1/d', store })];
    assert.deepEqual({ ...one.pressure }, { evicted: 0, denied: 0 });
    const admitted = one.checkManySync(keys).filter(({ allowed }) => allowed).length;
    assert.ok(other.pressure instanceof Pressure);
    assert.deepEqual(other.pressure, one.pressure);
    assert.ok(other.pressure[counted] > 100, `${policy}: ${other.pressure[counted]}`);
    assert.equal(admitted, keys.length - other.pressure.denied);
  }
});

test('a Redis and memory have room for every key', () => {
  for (const store of [redis.url, 'memory://']) {
    assert.deepEqual({ ...createLimiter({ limits: '1/d', store }).pressure }, { evicted: 0, denied: 0 });
  }
});
