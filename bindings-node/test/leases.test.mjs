// Leases on a real Redis, by one process.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { CostTooLarge, InvalidArgument, StoreError, createLimiter } from 'tidegate';

import { RedisServer } from './redis-server.mjs';

const LEASE = { ttlMs: 400 };
const DEADLINE_MS = 20_000;

let redis;

before(async () => {
  redis = await RedisServer.start();
});

after(() => redis.remove());

function leased(limits) {
  return createLimiter({ limits, store: redis.url, storeTimeoutMs: 30_000, lease: LEASE });
}

async function warm(limiter, key) {
  const end = performance.now() + DEADLINE_MS;
  while ((await limiter.check(key)).source !== 'lease') {
    assert.ok(performance.now() < end, 'no slice came');
    await sleep(1);
  }
}

test('a hot key is spent from a slice', async () => {
  const limiter = leased('1000/s');
  await warm(limiter, 'hot');
  const decision = await limiter.check('hot');
  assert.deepEqual([decision.source, decision.limit, decision.limitName], ['lease', 1000, '1000/s']);
  assert.equal((await limiter.peek('hot')).source, 'redis');
  const sources = (await limiter.checkMany(['hot', 'cold'])).map(({ source }) => source);
  assert.deepEqual(sources, ['lease', 'redis']);
  await assert.rejects(limiter.check('hot', { cost: 1001 }), CostTooLarge);
  limiter.close();
  await assert.rejects(limiter.check('hot'), StoreError);
});

test('closing gives the slice back', async () => {
  const limiter = leased('100/s burst 100');
  await warm(limiter, 'k');
  limiter.close();
  const direct = createLimiter({ limits: '100/s burst 100', store: redis.url });
  assert.ok((await direct.peek('k')).remaining >= 90);
  direct.close();
});

test('options out of bounds are named', () => {
  const build = (lease, limits = '100/s', store = 'redis://127.0.0.1:1') => createLimiter({ limits, store, lease });
  const bad = [
    {}, { ttlMs: 99 }, { ttlMs: 60_001 }, { ttlMs: 100.5 }, { ttlMs: '1000' }, { ttlMs: 1000, maxShare: 0 },
    { ttlMs: 1000, maxShare: 1.1 }, { ttlMs: 1000, maxShare: NaN }, { ttlMs: 1000, share: 1 },
  ];
  for (const lease of bad) assert.throws(() => build(lease), InvalidArgument, JSON.stringify(lease));
  assert.throws(() => build({ ttlMs: 1000 }, '9/s'), { name: 'InvalidArgument', message: /10 tokens/ });
  assert.throws(() => build({ ttlMs: 1000 }, '100/s', 'memory://'), { name: 'InvalidArgument', message: /Redis/ });
  assert.throws(() => build({ ttlMs: 1000 }, '100/s', 'shm://leases'), { name: 'InvalidArgument', message: /Redis/ });
});
