/** Leases on a real Redis, by one process: over a URL, and over clients of the program's own. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { CostTooLarge, InvalidArgument, StoreError, createLimiter } from 'tidegate';

import { STORES } from './client-kinds.mjs';
import { RedisServer, until } from './redis-server.mjs';

const LEASE = { ttlMs: 400 };
const DEADLINE_MS = 20_000;

for (const [kind, connect] of Object.entries(STORES)) {
  describe(kind, () => {
    let redis;
    let store;
    let end;

    before(async () => {
      redis = await RedisServer.start();
      ({ client: store, end } = await connect(redis));
    });

    after(async () => {
      await end();
      await redis.remove();
    });

    const leased = (limits) => createLimiter({ limits, store, storeTimeoutMs: 30_000, lease: LEASE });

    test('a hot key is spent from a slice', async () => {
      const limiter = leased('1000/s');
      await warm(limiter, 'hot');
      const decision = await limiter.check('hot');
      assert.deepEqual([decision.source, decision.limit, decision.limitName], ['lease', 1000, '1000/s']);
      assert.equal((await limiter.peek('hot', { cost: 0 })).source, 'redis');
      // On a busy machine the slice may have lapsed meanwhile.
      while ((await limiter.peek('hot')).source !== 'lease') await warm(limiter, 'hot');
      const sources = (await limiter.checkMany(['hot', 'cold'])).map(({ source }) => source);
      assert.deepEqual(sources, ['lease', 'redis']);
      await assert.rejects(limiter.check('hot', { cost: 1001 }), CostTooLarge);
      limiter.close();
      await assert.rejects(limiter.check('hot'), StoreError);
    });

    test('acquire spends the slice first, and makes a key hot', async () => {
      const limiter = leased('1000/s');
      await until('a slice', async () => (await limiter.acquire('line')).source === 'lease', DEADLINE_MS);
      const before = evals(redis);
      const sources = { lease: 0, redis: 0 };
      await until('the slice pays', async () => {
        sources[(await limiter.acquire('line')).source] += 1;
        return sources.lease === 100;
      });
      const roundTrips = evals(redis) - before;
      assert.ok(roundTrips <= 2 * sources.redis + 50, `${roundTrips} round trips, ${JSON.stringify(sources)}`);
      limiter.close();
    });

    test('an acquire for which the slice has no tokens now waits for those of the bucket', async () => {
      const limiter = leased('100/s');
      await warm(limiter, 'queue');
      const sources = await Promise.all(Array.from({ length: 40 }, () => limiter.acquire('queue'))).then(
        (decisions) => decisions.map(({ allowed, source }) => (allowed ? source : 'refused')),
      );
      assert.ok(sources.includes('redis') && !sources.includes('refused'), sources.join());
      limiter.close();
    });

    test('a cost for each limit is paid by a budget, and what is left goes back', async () => {
      const limits = ['50000000/s burst 100000000', '100000000000/100d window'];
      const limiter = createLimiter({ limits, store, storeTimeoutMs: 30_000, lease: { ttlMs: 2000 } });
      let counts;
      let spent = 0;
      const pay = async (method) => {
        const { source, allowed } = await limiter[method]('apart', { cost: [1 + ((spent * 37) % 1000), 1] });
        assert.ok(allowed);
        counts[source] += 1;
        spent += 1;
        return source;
      };
      const call = async (wanted) => {
        counts = { lease: 0, redis: 0 };
        const pays = async () => {
          await pay('check');
          return counts.lease >= wanted;
        };
        await until('a budget pays', pays, DEADLINE_MS);
      };
      await call(30); // Budgets are small at first.
      const before = evals(redis);
      await call(200);
      assert.ok(counts.lease > counts.redis, JSON.stringify(counts));
      const roundTrips = evals(redis) - before;
      assert.ok(roundTrips <= counts.redis + 100, `${roundTrips} round trips, ${JSON.stringify(counts)}`);
      const paysAcquire = async () => (await pay('check')) === 'lease' && (await pay('acquire')) === 'lease';
      await until('it pays an acquire', paysAcquire, DEADLINE_MS);
      assert.ok((await limiter.peek('apart', { cost: [1, 1] })).allowed);
      limiter.close();
      const direct = createLimiter({ limits, store, storeTimeoutMs: 30_000 });
      const owed = async () => 100_000_000_000 - (await direct.peek('apart', { cost: 0 })).tiers[1].remaining;
      await until('the bucket owes what was spent', async () => (await owed()) === spent, DEADLINE_MS);
      direct.close();
    });

    test('a slice is renewed without a round trip for each check', async () => {
      const limiter = leased('1000/s');
      await warm(limiter, 'busy');
      const before = evals(redis);
      let allowed = 0;
      const end = performance.now() + 4 * LEASE.ttlMs;
      while (performance.now() < end) {
        allowed += (await limiter.check('busy')).allowed;
        await sleep(2);
      }
      const roundTrips = evals(redis) - before;
      assert.ok(allowed > 100, `${allowed} allowed`);
      assert.ok(roundTrips >= 2 && roundTrips <= allowed / 3, `${roundTrips} round trips for ${allowed} calls`);
      limiter.close();
    });

    test('closing gives the slice back', async () => {
      const limiter = leased('100/s burst 100');
      const spent = await warm(limiter, 'k');
      limiter.close();
      const direct = createLimiter({ limits: '100/s burst 100', store: redis.url });
      await until('it is given back', () => redis.run('HLEN', 'tidegate:{k}:leases') === '0');
      assert.ok((await direct.peek('k', { cost: 0 })).remaining + spent >= 98);
      direct.close();
    });

    test('while the store fails a slice is spent to its end', async () => {
      const limiter = createLimiter({ limits: '1000/s', store, storeTimeoutMs: 50, onStoreError: 'deny', lease: LEASE });
      await warm(limiter, 'failing');
      redis.freeze();
      try {
        assert.equal((await limiter.check('failing')).source, 'lease');
        await until('its end', async () => (await limiter.check('failing')).source === 'fallback');
      } finally {
        redis.resume();
      }
      await warm(limiter, 'failing');
      limiter.close();
    });
  });
}

test('a limiter with leases keeps no process alive, and can be collected', async () => {
  const redis = await RedisServer.start();
  const program = `
    import { Redis } from 'ioredis';
    import { createLimiter } from 'tidegate';
    const client = new Redis({ port: ${redis.port} });
    let collected = 0;
    const registry = new FinalizationRegistry(() => { collected++; });
    for (let number = 0; number < 10; number++) {
      const limiter = createLimiter({ limits: '1000/s', store: client, storeTimeoutMs: 5000, lease: { ttlMs: 1000 } });
      while ((await limiter.check('key')).source !== 'lease') await new Promise((resolve) => setTimeout(resolve, 1));
      registry.register(limiter);
    }
    const deadline = Date.now() + 5000;
    while (collected < 5 && Date.now() < deadline) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    console.log(collected >= 5);
    globalThis.held = createLimiter({ limits: '1000/s', store: client, storeTimeoutMs: 5000, lease: { ttlMs: 60_000 } });
    while ((await held.check('key')).source !== 'lease') await new Promise((resolve) => setTimeout(resolve, 1));
    client.disconnect();
  `;
  try {
    const flags = ['--expose-gc', '--input-type=module', '--eval', program];
    const { stdout } = await promisify(execFile)(process.execPath, flags, { cwd: import.meta.dirname, timeout: 20_000 });
    assert.equal(stdout, 'true\n');
  } finally {
    await redis.remove();
  }
});

async function warm(limiter, key) {
  let checks = 0;
  const isLeased = async () => {
    checks += 1;
    return (await limiter.check(key)).source === 'lease';
  };
  await until('a slice', isLeased, DEADLINE_MS);
  return checks;
}

function evals(redis) {
  const [, count] = /cmdstat_evalsha:calls=(\d+)/.exec(redis.run('INFO', 'commandstats')) ?? [0, 0];
  return Number(count);
}

test('options out of bounds are named', () => {
  const build = (lease, limits = '100/s', store = 'redis://127.0.0.1:1') => createLimiter({ limits, store, lease });
  const bad = [
    {}, { ttlMs: 99 }, { ttlMs: 60_001 }, { ttlMs: 100.5 }, { ttlMs: '1000' }, { ttlMs: 1000, maxShare: 0 },
    { ttlMs: 1000, maxShare: 1.1 }, { ttlMs: 1000, maxShare: NaN }, { ttlMs: 1000, share: 1 },
  ];
  for (const lease of bad) assert.throws(() => build(lease), InvalidArgument, JSON.stringify(lease));
  for (const store of ['redis://127.0.0.1:1', { sendCommand() {} }]) {
    assert.throws(() => build({ ttlMs: 1000 }, '9/s', store), { name: 'InvalidArgument', message: /10 tokens/ });
  }
  for (const store of ['memory://', 'shm://leases']) assert.throws(() => build({ ttlMs: 99 }, '100/s', store), InvalidArgument);
});
