/** Shared buckets over clients that the program has made with ioredis, node-redis or Upstash. */

import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import { after, before, beforeEach, describe, test } from 'node:test';

import { GlideClusterClient, Logger } from '@valkey/valkey-glide';
import { Cluster, Redis as Ioredis } from 'ioredis';
import { Cluster as EarlierCluster } from 'ioredis-5';
import { createCluster } from 'redis';
import {
  CorruptBucket,
  CostTooLarge,
  InvalidArgument,
  RateLimited,
  StoreError,
  StoreTimeout,
  createLimiter,
} from 'tidegate';

import { readChanges, readOperations, readVectors } from '../../bindings-wasm/js/test/conformance.mjs';
import { CLIENTS } from './client-kinds.mjs';
import { ClockedClient, isInMicros, replayOver } from './clocked-client.mjs';
import { RedisCluster, RedisServer, until } from './redis-server.mjs';

const PATIENT_MS = 30_000;
const SLACK_MS = 300;
const HOUR_MS = 3_600_000;

for (const [kind, connect] of Object.entries(CLIENTS)) {
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

    beforeEach(() => redis.run('FLUSHALL'));

    // The prefix is given, because limiters of these tests share the default one with other limits.
    const over = (options) => createLimiter({ store, prefix: 'tidegate', storeTimeoutMs: PATIENT_MS, denyCacheMs: 0, ...options });
    const native = (limits) => createLimiter({ limits, prefix: 'tidegate', store: redis.url, storeTimeoutMs: PATIENT_MS, denyCacheMs: 0 });
    const calls = () => {
      const [, count] = /cmdstat_evalsha:calls=(\d+)/.exec(redis.run('INFO', 'commandstats')) ?? [0, 0];
      return Number(count);
    };

    test('every operation shares the bucket with the native client', async () => {
      const [limiter, other] = [over({ limits: '20/d' }), native('20/d')];
      const remaining = (decisions) => decisions.map((decision) => decision.remaining);
      assert.deepEqual(remaining(await limiter.checkMany(['k', { key: 'k', cost: 2 }, 'other'])), [19, 17, 19]);
      assert.deepEqual(remaining(await other.checkMany(['k', 'k'])), [16, 15]);
      assert.equal((await limiter.settle('k', 2, 4)).remaining, 13);
      assert.equal((await limiter.settle('k', 4, 2)).remaining, 15);
      assert.equal((await limiter.credit('k', 1)).remaining, 16);
      assert.equal((await limiter.acquire('k', { cost: 3 })).remaining, 13);
      assert.equal((await other.peek('k', { cost: 0 })).remaining, 13);
      await other.hold('k', HOUR_MS);
      const { allowed, retryAfterMs, source, limitName } = await limiter.check('k');
      assert.deepEqual([allowed, source, limitName], [false, 'redis', '20/d']);
      assert.ok(retryAfterMs > HOUR_MS - 60_000 && retryAfterMs <= HOUR_MS);
      assert.equal((await limiter.reset('k')).remaining, 20);
      assert.equal((await other.check('k', { cost: 20 })).allowed, true);
      assert.equal((await limiter.check('k')).allowed, false);
    });

    test('other limits on the default prefix of one client are refused', async () => {
      const byDefault = (limits, options) => createLimiter({ limits, store, storeTimeoutMs: PATIENT_MS, ...options });
      const [api, same] = [byDefault('100/min'), byDefault(['100/min', 'unlimited'], { storeTimeoutMs: 60 })];
      const isRefused = (limits, options) => assert.throws(() => byDefault(limits, options), {
        name: 'InvalidArgument',
        message: /invalid prefix: a limiter of 100\/min and one of 5\/min on one store .* give each a prefix of its own/,
      });
      isRefused('5/min');
      isRefused('5/min', { storeTimeoutMs: 70 });
      assert.equal((await same.check('user')).remaining, 99);
      // What is asked for is not refused: a prefix, limits of a call, and limits without a bucket.
      const login = byDefault('5/min', { prefix: 'login' });
      assert.equal((await login.check('user')).remaining, 4);
      assert.equal((await byDefault('5/min', { prefix: 'tidegate' }).peek('user', 0)).allowed, true);
      assert.equal((await api.check('user', { limits: '5/min' })).allowed, true);
      assert.equal((await byDefault('none').check('user')).allowed, false);
      api.close();
      isRefused('5/min');
      same.close();
      const later = byDefault('5/min');
      assert.throws(() => byDefault('100/min'), { name: 'InvalidArgument' });
      later.close();
    });

    test('reservations', async () => {
      const limiter = over({ limits: '1/h' });
      const first = await limiter.reserve('k');
      assert.deepEqual([first.allowed, first.delayMs, first.decision.source], [true, 0, 'redis']);
      const second = await limiter.reserve('k');
      assert.ok(second.delayMs > HOUR_MS - 60_000 && second.delayMs <= HOUR_MS);
      assert.equal((await limiter.reserve('k', { maxWaitMs: HOUR_MS })).allowed, false);
      assert.equal(await first.cancel(), false);
      assert.deepEqual([await second.cancel(), await second.cancel()], [true, false]);
      await assert.rejects(limiter.acquire('k', { timeoutMs: 1 }), RateLimited);
      const third = await limiter.reserve('k');
      await third.settle(0);
      assert.equal((await limiter.reserve('k')).allowed, true);
    });

    test('one key per limit', async () => {
      const [limiter, other] = [over({ limits: ['10/d', '15/d'] }), native(['10/d', '15/d'])];
      assert.equal((await limiter.check(['a', 'org'], { cost: 10 })).allowed, true);
      const refused = await other.check(['b', 'org'], { cost: 6 });
      assert.deepEqual([refused.allowed, refused.limitName], [false, '15/d']);
      assert.equal((await limiter.check(['b', 'org'], { cost: 5 })).remaining, 0);
      await assert.rejects(limiter.check(['b']), InvalidArgument);
      await assert.rejects(limiter.check(['k', 'k', 'k']), InvalidArgument);
    });

    test('checks of one turn are sent together, in order', async () => {
      const [one, other] = [over({ limits: '60/d' }), over({ limits: '1000/d', prefix: 'other' })];
      await one.peek('warm', { cost: 0 });
      const before = calls();
      const checks = Array.from({ length: 100 }, () => one.check('k'));
      const more = other.checkMany(Array.from({ length: 50 }, (_, number) => `user:${number}`));
      const decisions = await Promise.all(checks);
      assert.deepEqual(
        decisions.map(({ remaining }) => remaining),
        Array.from({ length: 100 }, (_, number) => Math.max(59 - number, 0)),
      );
      assert.equal((await more).length, 50);
      assert.equal(calls() - before, 2, 'a call for each limiter');
    });

    test('calls that come while a batch is in flight form the next batch', async () => {
      const limiter = over({ limits: '500/d' });
      await limiter.peek('warm', { cost: 0 });
      const before = calls();
      redis.freeze();
      const first = limiter.check('k');
      await new Promise((resolve) => setTimeout(resolve, 50));
      const rest = [];
      for (let turn = 0; turn < 5; turn++) {
        rest.push(...Array.from({ length: 10 }, () => limiter.check('k')));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      redis.resume();
      assert.equal((await first).remaining, 499);
      assert.equal((await Promise.all(rest)).at(-1).remaining, 449);
      assert.equal(calls() - before, 2);
    });

    test('forgotten scripts are sent again', async () => {
      const limiter = over({ limits: '10/d' });
      assert.equal((await limiter.check('k')).remaining, 9);
      redis.run('SCRIPT', 'FLUSH');
      assert.equal((await limiter.check('k')).remaining, 8);
      redis.run('SCRIPT', 'FLUSH');
      await limiter.check('k');
      const [check, hold] = await Promise.all([limiter.check('k'), limiter.hold('other', 1000)]);
      assert.deepEqual([check.remaining, hold.remaining], [6, 0]);
    });

    test('foreign values are corrupt, and fail nobody else', async () => {
      const limiter = over({ limits: '10/d' });
      for (const value of ['hello', '5', '{"a":1}', 'true', ' ']) {
        redis.run('SET', 'tidegate:{bad}', value);
        const answers = [limiter.check('good'), limiter.check('bad'), limiter.hold('bad', 1)];
        const [good, ...bad] = await Promise.allSettled(answers);
        assert.equal(good.status, 'fulfilled');
        for (const { reason } of bad) {
          assert.ok(reason instanceof CorruptBucket, `${value}: ${reason}`);
          assert.match(reason.message, /tidegate:\{bad\}/);
        }
      }
      redis.run('DEL', 'tidegate:{bad}');
      redis.run('LPUSH', 'tidegate:{bad}', 'x');
      await assert.rejects(limiter.check('bad'), CorruptBucket);
    });

    test('mistakes charge nothing', async () => {
      const limiter = over({ limits: '10/d' });
      await assert.rejects(limiter.check('k', { cost: 11 }), CostTooLarge);
      await assert.rejects(limiter.reserve('k', { cost: 11 }), CostTooLarge);
      await assert.rejects(limiter.checkMany(['k', { key: 'k', cost: 11 }]), CostTooLarge);
      await assert.rejects(limiter.checkMany(['k', null]), InvalidArgument);
      assert.throws(() => limiter.checkSync('k'), InvalidArgument);
      assert.equal((await limiter.peek('k', { cost: 0 })).remaining, 10);
      limiter.close();
      limiter.close();
      await assert.rejects(limiter.check('k'), { code: 'store_error', message: /closed/ });
    });

    test('a server that hangs is a timeout, for each caller in time', async () => {
      const limiter = over({ limits: '100/d', storeTimeoutMs: 200 });
      await limiter.check('k');
      redis.freeze();
      try {
        const started = performance.now();
        const timed = (answer) => assert.rejects(answer, StoreTimeout).then(() => performance.now() - started);
        const first = timed(limiter.check('k'));
        await new Promise((resolve) => setTimeout(resolve, 100));
        const later = timed(limiter.check('k'));
        assert.ok((await first) >= 199 && (await first) < 200 + SLACK_MS, `${await first} ms`);
        assert.ok((await later) >= 299 && (await later) < 300 + SLACK_MS, `${await later} ms`);
      } finally {
        redis.resume();
      }
      await until('it answers again', () => limiter.check('k').then(() => true, () => false));
    });

    test('a blocked event loop is not the server\'s fault', async () => {
      const limiter = over({ limits: '100/d', storeTimeoutMs: 500 });
      await limiter.check('k');
      const turn = () => new Promise((resolve) => setImmediate(resolve));
      for (const turns of [0, 1, 2]) {
        const checks = Array.from({ length: 10 }, () => limiter.check('k'));
        for (let number = 0; number < turns; number++) await turn();
        const blockedUntil = performance.now() + 1200;
        while (performance.now() < blockedUntil); // what programs do
        assert.ok((await Promise.all(checks)).every(({ source }) => source === 'redis'));
      }
      const { state, failures, fallbacks, lastError } = limiter.storeHealth;
      assert.deepEqual({ state, failures, fallbacks, lastError }, { state: 'closed', failures: 0, fallbacks: 0, lastError: undefined });
    });

    test('a silent server is found out on an event loop that is always late', async () => {
      const limiter = over({ limits: '100/d', storeTimeoutMs: 50 });
      await over({ limits: '100/d' }).check('k');
      redis.freeze();
      try {
        let error;
        limiter.check('k').catch((found) => {
          error = found;
        });
        const patience = performance.now() + PATIENT_MS;
        while (error === undefined && performance.now() < patience) {
          const blockedUntil = performance.now() + 10;
          while (performance.now() < blockedUntil);
          await new Promise((resolve) => setImmediate(resolve));
        }
        assert.ok(error instanceof StoreTimeout, `${error}`);
      } finally {
        redis.resume();
      }
    });

    test('the shorter of two timeouts on one client holds', async () => {
      const [patient, hasty] = [over({ limits: '100/d' }), over({ limits: '100/d', storeTimeoutMs: 100 })];
      await Promise.all([patient.check('k'), hasty.check('k')]);
      redis.freeze();
      try {
        const answers = [patient.check('k')];
        await new Promise((resolve) => setTimeout(resolve, 50));
        const started = performance.now();
        await assert.rejects(hasty.check('k'), StoreTimeout);
        const passed = performance.now() - started;
        assert.ok(passed >= 99 && passed < 100 + SLACK_MS, `${passed} ms`);
        redis.resume();
        assert.equal((await answers[0]).allowed, true);
      } finally {
        redis.resume();
      }
    });

    test('a refusal is kept until its time, or something is given back', async () => {
      const limiter = over({ limits: '2/h', denyCacheMs: 60_000 });
      assert.equal((await limiter.check('k', { cost: 2 })).allowed, true);
      const refused = await limiter.check('k');
      const before = calls();
      const kept = await limiter.check('k');
      assert.deepEqual([refused.allowed, kept.allowed, kept.source, kept.remaining], [false, false, 'redis', 0]);
      assert.ok(kept.retryAfterMs > 0 && kept.retryAfterMs <= refused.retryAfterMs);
      assert.deepEqual((await limiter.checkMany(['k', 'k'])).map(({ allowed }) => allowed), [false, false]);
      assert.equal(calls(), before, 'nothing was asked');
      assert.equal((await limiter.peek('k', { cost: 0 })).remaining, 0);
      assert.equal(calls(), before + 1, 'a look asks');
      await limiter.credit('k', 1);
      assert.equal((await limiter.check('k')).allowed, true);
      assert.equal((await limiter.check('k')).allowed, false);
      await native('2/h').reset('k');
      assert.equal((await limiter.check('k')).allowed, false, 'what others give back is not known yet');
      assert.equal((await over({ limits: '2/h' }).check('k')).allowed, true);
    });

    test('under load nobody is given up who is answered in time', async () => {
      const limiter = over({ limits: '1000000/d', storeTimeoutMs: 500 });
      const end = performance.now() + 1200;
      const callers = Array.from({ length: 20 }, async () => {
        while (performance.now() < end) await limiter.check('k');
      });
      await Promise.all(callers);
    });

    test('keys are those of the table', async () => {
      // redis-cli takes no NUL as an argument.
      const text = readVectors('redis.json').keys.filter(({ redis_key: inRedis }) => !inRedis.includes('\0'));
      assert.ok(text.length > 0);
      for (const { prefix, key, redis_key: inRedis } of text) {
        await over({ limits: '1/h', prefix }).check(key);
        assert.equal(redis.run('DEL', inRedis), '1', `${prefix} ${key}`);
      }
    });

    test('long keys and the empty one are those of the table', async () => {
      const keys = readVectors('keys.json').keys.filter(({ hex, text, stored }) => hex !== '00' && text === stored);
      assert.ok(keys.length > 5);
      const limiter = over({ limits: '1/h burst 50', prefix: 'keys' });
      for (const { name, hex, times, stored } of keys) {
        const bytes = Buffer.from(hex.repeat(times), 'hex');
        if (kind === 'upstash' && !isUtf8(bytes)) continue;
        await limiter.check(isUtf8(bytes) ? bytes.toString() : bytes);
        assert.equal(redis.run('DEL', `keys:{${(stored ?? bytes.toString()) || '%'}}`), '1', name);
      }
    });

    test('bytes as keys', async () => {
      const limiter = over({ limits: '2/d' });
      const key = Uint8Array.of(0xff, 0x00, 0x7b);
      if (kind === 'upstash') {
        await assert.rejects(limiter.check(key), InvalidArgument);
        return;
      }
      assert.equal((await limiter.check(key)).remaining, 1);
      assert.equal((await native('2/d').check(key)).remaining, 0);
    });

    // This test comes last, because it ends the server.
    test("a client's error is the cause", async () => {
      const limiter = over({ limits: '10/d', storeTimeoutMs: 3000 });
      await limiter.check('k');
      await redis.kill();
      const error = await limiter.check('k').catch((caught) => caught);
      assert.ok(error instanceof StoreError, error);
      assert.ok(error.cause instanceof Error, `${error}: ${error.cause}`);
    });
  });
}

describe('operations.json over a client', () => {
  const traces = [...readOperations(), ...readChanges()].filter(isInMicros);
  let redis;
  let client;

  before(async () => {
    redis = await RedisServer.start();
    client = new Ioredis({ port: redis.port });
  });

  after(async () => {
    client.disconnect();
    await redis.remove();
  });

  test('there are some in microseconds', () => assert.ok(traces.length >= 25));

  for (const [number, trace] of traces.entries()) {
    test(trace.name, async () => {
      const options = { prefix: String(number), storeTimeoutMs: PATIENT_MS, denyCacheMs: 0 };
      assert.deepEqual(await replayOver(new ClockedClient(client), trace, options), []);
    });
  }
});

test('a client that never answers holds up only those who asked it then', async () => {
  const redis = await RedisServer.start();
  const client = new Ioredis({ port: redis.port });
  let asked = 0;
  const store = {
    callBuffer(...command) {
      asked += 1;
      return asked === 1 ? new Promise(() => {}) : client.callBuffer(...command);
    },
  };
  try {
    const limiter = createLimiter({ limits: '10/d', store, storeTimeoutMs: 300 });
    await assert.rejects(limiter.check('k'), StoreTimeout);
    assert.equal((await limiter.check('k')).remaining, 9);
  } finally {
    client.disconnect();
    await redis.remove();
  }
});

test('a cluster of ioredis, of node-redis and of Valkey GLIDE', async () => {
  const cluster = await RedisCluster.start();
  const rootNodes = cluster.ports.map((port) => ({ host: '127.0.0.1', port }));
  const ioredis = new Cluster(rootNodes);
  const pipelining = new Cluster(rootNodes, { enableAutoPipelining: true });
  const earlier = new EarlierCluster(rootNodes, { enableAutoPipelining: true });
  const nodeRedis = createCluster({ rootNodes: rootNodes.map((socket) => ({ socket })) });
  Logger.init('off'); // It would log each script that a server does not know yet.
  const glide = await GlideClusterClient.createClient({ addresses: rootNodes });
  try {
    await nodeRedis.connect();
    const users = Array.from({ length: 30 }, (_, number) => `user:${number}`);
    for (const [turn, store] of [ioredis, pipelining, earlier, nodeRedis, glide].entries()) {
      const limiter = createLimiter({ limits: '10/d', store, storeTimeoutMs: PATIENT_MS });
      const decisions = await limiter.checkMany([...users, ...users]);
      const [first, second] = [9 - 2 * turn, 8 - 2 * turn];
      assert.deepEqual(decisions.map(({ remaining }) => remaining), [...users.map(() => first), ...users.map(() => second)]);
      assert.equal((await limiter.credit('user:1', 0)).remaining, second);
    }
  } finally {
    for (const client of [ioredis, pipelining, earlier]) client.disconnect();
    nodeRedis.destroy();
    glide.close();
    await cluster.remove();
  }
});

test('what is no client', () => {
  for (const store of [{}, [], null, 5, () => {}]) {
    assert.throws(() => createLimiter({ limits: '1/s', store }), InvalidArgument);
  }
  const client = { sendCommand() {} };
  assert.throws(() => createLimiter({ limits: '1/s', store: client, clock: { now: () => 0n } }), InvalidArgument);
  assert.throws(() => createLimiter({ limits: '1/s', store: client, prefix: '' }), InvalidArgument);
});
