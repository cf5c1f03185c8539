/** A cost for each limit, in one atomic call, on the stores that processes share. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

import { CostTooLarge, InvalidArgument, RateLimited, createLimiter } from 'tidegate';

import { STORES } from './client-kinds.mjs';
import { RedisServer } from './redis-server.mjs';

const PATIENT_MS = 30_000;

for (const kind of ['memory', 'shm', ...Object.keys(STORES)]) {
  describe(kind, () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidegate-costs-'));
    let redis;
    let store;
    let end;
    let tests = 0;

    before(async () => {
      redis = await RedisServer.start();
      const others = {
        memory: async () => ({ client: 'memory://', end() {} }),
        shm: async () => ({ client: `shm://test?dir=${folder}`, end() {} }),
      };
      ({ client: store, end } = await (STORES[kind] ?? others[kind])(redis));
    });

    after(async () => {
      await end();
      await redis.remove();
      rmSync(folder, { recursive: true, force: true });
    });

    // Each test has buckets of its own.
    beforeEach(() => { tests++; });

    const open = () => {
      const shared = kind === 'memory' ? {} : { prefix: `test-${tests}` };
      const remote = kind === 'memory' || kind === 'shm' ? {} : { storeTimeoutMs: PATIENT_MS };
      return createLimiter({ limits: ['60/d', '90000/d'], store, ...shared, ...remote });
    };

    test('all limits are charged, or none', async () => {
      const limiter = open();
      assert.equal((await limiter.check('k', [1, 1500])).allowed, true);
      const refused = await limiter.check('k', { cost: [1, 88_501] });
      assert.deepEqual([refused.allowed, refused.limitName], [false, '90000/d']);
      assert.equal((await limiter.peek('k', [59, 88_500])).allowed, true);
      assert.equal((await limiter.peek('k', [60, 0])).allowed, false);
      assert.equal((await limiter.check('k', [0, 88_500])).allowed, true);
      assert.equal((await limiter.check('k', [59, 0])).allowed, true);
      assert.equal((await limiter.check('k', [0, 0])).allowed, true);
      assert.equal((await limiter.check('k', [0, 1])).allowed, false);
      limiter.close();
    });

    test('every operation takes a cost for each limit', async () => {
      const limiter = open();
      const holds = async (requests, tokens, key = 'k') => {
        assert.equal((await limiter.peek(key, [requests, tokens])).allowed, true);
        if (requests < 60) assert.equal((await limiter.peek(key, [requests + 1, 0])).allowed, false);
        if (tokens < 90_000) assert.equal((await limiter.peek(key, [0, tokens + 1])).allowed, false);
      };
      const reservation = await limiter.reserve('k', { cost: [2, 4000] });
      assert.deepEqual(reservation.cost, [2, 4000]);
      await holds(58, 86_000);
      await reservation.settle([2, 1000]);
      await holds(58, 89_000);
      assert.equal(await (await limiter.reserve('k', { cost: [58, 1] })).cancel(), true);
      await holds(58, 89_000);
      await limiter.settle('k', [0, 1000], [1, 500]);
      await holds(57, 89_500);
      await limiter.credit('k', [3, 100]);
      await holds(60, 89_600);
      const many = await limiter.checkMany([{ key: 'k', cost: [60, 1] }, 'k', { key: 'k', cost: [0, 2] }]);
      assert.deepEqual(many.map(({ allowed }) => allowed), [true, false, true]);
      assert.equal((await limiter.acquire('w', { cost: [1, 90_000], timeoutMs: 0 })).allowed, true);
      await assert.rejects(limiter.acquire('w', { cost: [1, 10], timeoutMs: 10 }), RateLimited);
      const charge = await limiter.reserving('model', { cost: [1, 4000], timeoutMs: 0 });
      await charge.settle([1, 1500]);
      await holds(59, 88_500, 'model');
      await assert.rejects(limiter.reserving('model', { cost: [1, 4000] }, () => Promise.reject(new RangeError())), RangeError);
      await holds(59, 88_500, 'model');
      limiter.close();
    });

    test('a caller waits for the last of its limits', async () => {
      const shared = kind === 'memory' ? {} : { prefix: `test-${tests}` };
      const limiter = createLimiter({ limits: ['100/s burst 1', '10000/s burst 500'], store, ...shared });
      const start = performance.now();
      await Promise.all(Array.from({ length: 10 }, () => limiter.acquire('k', { cost: [1, 400] })));
      // Nine times 400 tokens beyond the first 500, at 10,000 tokens a second.
      assert.ok(performance.now() - start >= 340);
      limiter.close();
    });

    test('a wrong cost is named', async () => {
      const limiter = open();
      await assert.rejects(limiter.check('k', [1, 90_001]), CostTooLarge);
      for (const wrong of [[1], [1, 1, 1], [], [1, -1], [1, 1.5], [1, '2'], [1, undefined], Object.assign([], { 1: 1 })]) {
        await assert.rejects(limiter.check('k', wrong), InvalidArgument);
        await assert.rejects(limiter.settle('k', wrong, 0), InvalidArgument);
        await assert.rejects(limiter.credit('k', wrong), InvalidArgument);
      }
      assert.equal((await limiter.peek('k', [60, 90_000])).allowed, true);
      limiter.close();
    });
  });
}
