/** The waiting line of `acquire` on the stores that processes share: in Redis by every kind of client, and `shm://`. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

import { StoreError, createLimiter } from 'tidegate';

import { assertUsed, mixFor, settleJobs } from '../../bindings-wasm/js/test/waiting.mjs';
import { STORES } from './client-kinds.mjs';
import { RedisServer, until } from './redis-server.mjs';

const PATIENT_MS = 30_000;
// A hold of another process reaches waiters within this time, and what the machine takes.
const LOOK_MS = 100;
const SLACK_MS = 100;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

for (const kind of ['shm', ...Object.keys(STORES)]) {
  describe(kind, () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidegate-waiting-'));
    let redis;
    let store;
    let end;
    let tests = 0;

    before(async () => {
      redis = await RedisServer.start();
      const shm = async () => ({ client: `shm://test?dir=${folder}`, end() {} });
      ({ client: store, end } = await (STORES[kind] ?? shm)(redis));
    });

    after(async () => {
      await end();
      await redis.remove();
      rmSync(folder, { recursive: true, force: true });
    });

    // Each test has buckets of its own.
    beforeEach(() => { tests++; });

    const over = (options) => {
      const forRedis = kind === 'shm' ? {} : { denyCacheMs: 0 };
      return createLimiter({ store, prefix: `test-${tests}`, storeTimeoutMs: PATIENT_MS, ...forRedis, ...options });
    };

    test('with deadlines from outside and too many callers, all of the limit is used', async () => {
      await assertUsed(over({ limits: '100/s burst 1' }), 100);
    });

    test('callers that leave together cost the next one nothing', async () => {
      const limiter = over({ limits: '10/s burst 1' });
      const controller = new AbortController();
      const waits = Array.from({ length: 200 }, () => limiter.acquire('key', { signal: controller.signal }));
      await pause(300);
      controller.abort();
      await Promise.allSettled(waits);
      await until('the slots are back', async () => (await limiter.peek('key', { cost: 0 })).resetAfterMs <= 200);
      const started = performance.now();
      await limiter.acquire('key');
      assert.ok(performance.now() - started <= 200 + SLACK_MS, `waited ${performance.now() - started} ms`);
    });

    test('a hold reaches those who wait, in this process at once', async () => {
      const limiter = over({ limits: '20/s burst 1' });
      const controller = new AbortController();
      const admitted = [];
      const waits = Array.from({ length: 50 }, () => {
        return limiter.acquire('key', { signal: controller.signal }).then(() => admitted.push(performance.now()));
      });
      await pause(75);
      await limiter.hold('key', 500);
      const heldAt = performance.now();
      const before = admitted.length;
      await pause(700);
      controller.abort();
      await Promise.allSettled(waits);
      const later = admitted.slice(before).map((at) => at - heldAt);
      assert.ok(later.length >= 2 && later[0] >= 400, `one came ${later[0]} ms after the hold`);
    });

    test('a hold of another process reaches those who wait within the time of a look', async () => {
      const [limiter, other] = [over({ limits: '20/s burst 1' }), over({ limits: '20/s burst 1' })];
      const controller = new AbortController();
      const admitted = [];
      const waits = Array.from({ length: 50 }, () => {
        return limiter.acquire('key', { signal: controller.signal }).then(() => admitted.push(performance.now()));
      });
      await pause(150);
      await other.hold('key', 10_000);
      const heldAt = performance.now();
      await pause(800);
      controller.abort();
      await Promise.allSettled(waits);
      const late = admitted.filter((at) => at > heldAt + LOOK_MS + SLACK_MS);
      assert.deepEqual(late.map((at) => at - heldAt), []);
      if (kind !== 'shm') assert.equal(redis.run('KEYS', `test-${tests}:*:hold`), `test-${tests}:{key}:hold`);
    });

    test('a reset moves up those who wait, here and in other processes', async () => {
      const [limiter, other] = [over({ limits: '2/h' }), over({ limits: '2/h' })];
      await limiter.hold('key', 3_600_000);
      const waits = [limiter.acquire('key'), limiter.acquire('key')];
      await until('both wait', () => limiter.waiting('key').untilMs > 3_600_000);
      await limiter.reset('key');
      await Promise.all(waits);
      assert.equal((await other.peek('key', { cost: 0 })).remaining, 0);
    });

    test('tokens that a job does not need go to those who wait', async () => {
      const share = await settleJobs(over({ limits: '60000/s burst 4000' }), 60, 4000, 1000);
      assert.ok(share >= 0.9 && share <= 1.08, `${share} of the limit was used`);
    });

    test('credits and cancelled reservations go to those who wait, and the rest to the bucket', async () => {
      const limiter = over({ limits: '10/h' });
      await limiter.check('key', { cost: 10 });
      const reservation = await limiter.reserve('key', { cost: 2 });
      const [first, second] = [limiter.acquire('key', { cost: 3 }), limiter.acquire('key', { cost: 2 })];
      await until('both wait', () => limiter.waiting('key').untilMs > 0);
      assert.equal((await limiter.credit('key', 3)).remaining, 0);
      assert.ok((await first).allowed);
      assert.equal(await reservation.cancel(), true);
      const { callers, untilMs } = limiter.waiting('key');
      assert.ok(callers === 1 && untilMs <= 2 * 360_000, `the slot that was cancelled is ${untilMs} ms away`);
      await limiter.credit('key', 9);
      assert.ok((await second).allowed);
      assert.equal((await limiter.peek('key', { cost: 0 })).remaining, 7);
    });

    test('whatever happens to those who wait, the limit is kept and everybody is answered', async () => {
      const limiter = over({ limits: '500/s burst 10' });
      await mixFor(1500, limiter, { rate: 500, burst: 10 });
    });

    test('a close tells those who wait, also for a reservation, and gives their slots back', async () => {
      const [limiter, other] = [over({ limits: '1/h' }), over({ limits: '1/h' })];
      await limiter.check('key');
      const waiting = limiter.acquire('key');
      await until('it waits', () => limiter.waiting('key').untilMs > 0);
      const underWay = limiter.acquire('key');
      limiter.close();
      for (const { reason } of await Promise.allSettled([waiting, underWay, limiter.acquire('key')])) {
        assert.ok(reason instanceof StoreError && /closed/.test(reason.message), `${reason}`);
      }
      await until('the slots are back', async () => (await other.peek('key', { cost: 0 })).resetAfterMs <= 3_600_000);
    });

    test('a line is bounded for each key', async () => {
      const limiter = over({ limits: '1/h', maxWaiting: 2 });
      await limiter.check('key');
      const controller = new AbortController();
      const { signal } = controller;
      const waits = [limiter.acquire('key', { signal }), limiter.acquire('key', { signal })];
      await until('both wait', () => limiter.waiting('key').untilMs > 0);
      assert.deepEqual([limiter.waiting('key').callers, limiter.waiting('another').callers], [2, 0]);
      await assert.rejects(limiter.acquire('key'), ({ code, decision }) => {
        return code === 'rate_limited' && decision.retryAfterMs > 3_600_000;
      });
      controller.abort();
      await Promise.allSettled(waits);
      assert.equal(limiter.waiting('key').callers, 0);
    });
  });
}
