/** What a limiter answers while its Redis fails. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { InvalidArgument, RateLimited, StoreError, StoreHealth, createLimiter } from 'tidegate';

import { CLIENTS, STORES } from './client-kinds.mjs';
import { RedisServer, until } from './redis-server.mjs';

const NOBODY = 'redis://127.0.0.1:1';
const FAILURES_TO_OPEN = 3;

const limiterOn = (store, options) => createLimiter({ limits: '60/s', store, storeTimeoutMs: 50, ...options });

for (const [kind, connect] of Object.entries(STORES)) {
  describe(kind, () => {
    /** Starts a server for `use` alone, and runs `use` with a store of this kind on that server. */
    const withStore = async (use) => {
      const server = await RedisServer.start();
      const { client, end } = await connect(server);
      try {
        await use(client, server);
      } finally {
        await end();
        await server.remove();
      }
    };
    const withDeadStore = (use) => withStore(async (store, server) => {
      await server.kill();
      await use(store);
    });

    test('errors are the default, and say when the store is asked again', () => withDeadStore(async (store) => {
      const limiter = limiterOn(store);
      for (let turn = 0; turn < FAILURES_TO_OPEN; turn++) await assert.rejects(limiter.check('k'), StoreError);
      await assert.rejects(limiter.check('k'), /not asked, as it keeps failing \(.*\); again in \d+ ms/);
      assert.ok(limiter.storeHealth instanceof StoreHealth);
      const { lastError, sinceMs, ...counts } = limiter.storeHealth;
      assert.deepEqual(counts, { state: 'open', failures: FAILURES_TO_OPEN, fallbacks: 0 });
      assert.ok(lastError instanceof StoreError && !/not asked/.test(lastError.message), lastError.message);
      assert.ok(sinceMs >= 0 && sinceMs < 60_000, `${sinceMs}`);
    }));

    test('an outage is two warnings, however many calls fail', () => withStore(async (store, server) => {
      const warnings = [];
      const listen = ({ code, message }) => code === 'TIDEGATE_STORE' && warnings.push(message);
      process.on('warning', listen);
      try {
        const options = { onStoreError: 'deny', storeTimeoutMs: 3000 };
        const [limiter, other] = [limiterOn(store, options), limiterOn(store, options)];
        await until('the first answer', async () => (await limiter.check('k')).source === 'redis');
        await limiter.ping();
        await server.kill();
        await assert.rejects(limiter.ping(), StoreError);
        for (let turn = 0; turn < 50; turn++) {
          assert.equal((await limiter.check('k')).source, 'fallback');
          assert.equal((await other.check('k')).source, 'fallback');
        }
        await until('a warning', async () => warnings.length > 0);
        assert.deepEqual([warnings.length, /keeps failing/.test(warnings[0])], [1, true], `${warnings}`);
        await server.start();
        await until('its return', async () => (await limiter.check('k')).source === 'redis');
        await until('the second warning', async () => warnings.length > 1);
        assert.match(warnings.at(-1), /answers again/);
        await limiter.ping();
        limiter.close();
        await assert.rejects(limiter.ping(), /closed/);
      } finally {
        process.off('warning', listen);
      }
    }));

    test("words of the command are not taken for the server's", () => withDeadStore(async (store) => {
      for (const word of ['CORRUPT key 1', 'NOSCRIPT no']) {
        const error = await limiterOn(store, { storeTimeoutMs: 3000 }).check(word).catch((caught) => caught);
        assert.equal(error.code, 'store_error', `${error}`);
      }
    }));

    test('allow and deny answer for the store', () => withDeadStore(async (store) => {
      const allow = limiterOn(store, { onStoreError: 'allow' });
      for (let turn = 0; turn < 20; turn++) {
        const { allowed, remaining, source } = await allow.check('k', { cost: 40 });
        assert.deepEqual([allowed, remaining, source], [true, 20, 'fallback']);
      }
      const reservation = await allow.reserve('k', { cost: 60 });
      assert.equal(reservation.delayMs, 0);
      assert.equal(await reservation.cancel(), true);
      await assert.rejects(allow.settle('k', 1, 2), StoreError);
      const deny = limiterOn(store, { onStoreError: 'deny' });
      const { allowed, retryAfterMs, source } = await deny.check('k');
      assert.deepEqual([allowed, source], [false, 'fallback']);
      assert.ok(retryAfterMs > 0 && retryAfterMs <= 1000);
      await assert.rejects(deny.acquire('k'), RateLimited);
      assert.equal(deny.storeHealth.fallbacks, 2);
    }));

    test('local decides by a share of the limit', () => withDeadStore(async (store) => {
      const limiter = limiterOn(store, { onStoreError: 'local', peers: 3 });
      const first = await limiter.check('k');
      assert.deepEqual([first.allowed, first.limit, first.limitName, first.source], [false, 20, '60/s', 'fallback']);
      const later = await limiter.acquire('k');
      assert.deepEqual([later.allowed, later.source], [true, 'fallback']);
      assert.ok(await (await limiter.reserve('k')).cancel());
    }));

    test('what was spent of a share is charged when the store is back', () => withStore(async (store, server) => {
      const limiter = limiterOn(store, { limits: '60/min burst 60', onStoreError: 'local', peers: 1 });
      await until('the first answer', async () => (await limiter.peek('k', { cost: 0 })).source === 'redis');
      await server.kill();
      await until('its failure', async () => (await limiter.peek('k', { cost: 0 })).source === 'fallback');
      assert.equal((await limiter.acquire('k', { cost: 2 })).source, 'fallback');
      await server.start();
      await until('its return', async () => (await limiter.peek('k', { cost: 0 })).source === 'redis');
      let look;
      await until('the charge', async () => {
        look = await limiter.peek('k', { cost: 0 });
        return look.remaining < 60;
      });
      assert.deepEqual([look.source, look.remaining], ['redis', 58]);
    }));

    test('what was allowed meanwhile is charged when it is settled', () => withStore(async (store, server) => {
      const limiter = limiterOn(store, { limits: '60/d', onStoreError: 'allow' });
      await until('the first answer', async () => (await limiter.peek('k', { cost: 0 })).source === 'redis');
      await server.kill();
      await until('its failure', async () => (await limiter.peek('k', { cost: 0 })).source === 'fallback');
      const reservation = await limiter.reserve('k', { cost: 10 });
      assert.equal(reservation.decision.source, 'fallback');
      await server.start();
      await until('its return', async () => (await limiter.peek('k', { cost: 0 })).source === 'redis');
      assert.equal((await reservation.settle(3)).remaining, 57);
    }));

    test('a hung server is not waited for, and comes back', () => withStore(async (store, server) => {
      const limiter = limiterOn(store, { onStoreError: 'deny' });
      await until('the first answer', async () => (await limiter.check('k')).source === 'redis');
      server.freeze();
      await until('its failure', async () => (await limiter.check('k')) && limiter.storeHealth.state !== 'closed');
      const began = performance.now();
      for (let turn = 0; turn < 1000; turn++) assert.equal((await limiter.check('k')).source, 'fallback');
      assert.ok(performance.now() - began < 5000, 'a thousand timeouts are 50 s');
      server.resume();
      await until('its return', async () => (await limiter.check('k')).source === 'redis');
      limiter.close();
    }));
  });
}

test('limiters of one client and timeout share what is known of it', async () => {
  const server = await RedisServer.start();
  const { client, end } = await CLIENTS.ioredis(server);
  try {
    await server.kill();
    const [one, other] = [limiterOn(client), limiterOn(client, { onStoreError: 'deny' })];
    for (let turn = 0; turn < FAILURES_TO_OPEN; turn++) await assert.rejects(one.check('k'), StoreError);
    assert.equal(other.storeHealth.state, 'open');
    assert.equal((await other.check('k')).source, 'fallback');
    assert.equal(limiterOn(client, { storeTimeoutMs: 51 }).storeHealth.state, 'closed');
  } finally {
    end();
    await server.remove();
  }
});

test('mistakes are named', () => {
  const cases = [
    [{ onStoreError: 'ignore' }, /onStoreError: it must be one of "raise", "allow", "deny", "local"/],
    [{ onStoreError: 'local' }, /peers: onStoreError "local" needs the number of processes/],
    [{ onStoreError: 'local', peers: 0 }, /peers: it must be a whole number from 1 to 1000000, but is 0/],
    [{ onStoreError: 'local', peers: 1.5 }, /peers: it must be a whole number/],
    [{ onStoreError: 'local', peers: 1_000_001 }, /peers: it must be a whole number/],
    [{ onStoreError: 'local', peers: 1_000_000, limits: '5/d' }, /peers: "5\/d" cannot be shared among 1000000/],
    [{ onStoreError: 'deny', peers: 2 }, /peers: it is for onStoreError "local" only/],
    [{ onStoreError: 'ignore', store: 'memory://' }, /onStoreError: it must be one of/],
    [{ onStoreError: 'local', peers: 0, store: 'shm://x' }, /peers: it must be a whole number/],
    [{ denyCacheMs: -1, store: 'memory://' }, /denyCacheMs: it must be a whole number/],
    [{ lease: { ttlMs: 5 }, store: 'memory://' }, /lease: ttlMs must be a whole number/],
  ];
  for (const [options, told] of cases) {
    for (const store of [NOBODY, { sendCommand() {} }]) {
      const build = () => limiterOn(store, options);
      assert.throws(build, (error) => error instanceof InvalidArgument && told.test(error.message));
    }
  }
  assert.deepEqual({ ...createLimiter({ limits: '1/s', onStoreError: 'raise' }).storeHealth },
    { state: 'closed', failures: 0, fallbacks: 0, lastError: undefined, sinceMs: 0 });
});

test('options of a Redis have no effect on memory', async () => {
  const options = [{ onStoreError: 'allow' }, { onStoreError: 'deny' }, { onStoreError: 'local', peers: 3 }, { denyCacheMs: 0 },
    { lease: { ttlMs: 1000 } }, { storeTimeoutMs: 200 }];
  for (const given of options) {
    for (const store of ['memory://', `shm://tidegate-test-${process.pid}?max_keys=100`]) {
      const limiter = createLimiter({ limits: '2/d', store, ...given });
      const turns = [1, 2, 3].map(() => limiter.checkSync('k').allowed);
      assert.deepEqual(turns, [true, true, false], `${store} ${JSON.stringify(given)}`);
      assert.equal((await limiter.check('k')).source, store.split(':')[0]);
      limiter.resetSync('k');
      limiter.close();
    }
  }
});
