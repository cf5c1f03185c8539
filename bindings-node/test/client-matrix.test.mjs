/** Each client of the matrix that the documents promise, with the same operations on a real server. */

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import { Redis as Upstash } from '@upstash/redis';
import { GlideClient, Logger, ProtocolVersion } from '@valkey/valkey-glide';
import { Redis as Ioredis } from 'ioredis';
import { Redis as Ioredis5 } from 'ioredis-5';
import { createClient } from 'redis';
import { createClient as createClient4 } from 'redis-4';
import { createClient as createClient5 } from 'redis-5';
import { CorruptBucket, createLimiter } from 'tidegate';

import { startForwarder } from '../../tests/end_to_end/upstash_forwarder.mjs';
import { RedisServer } from './redis-server.mjs';

const PATIENT_MS = 30_000;
const KEY_PREFIX = 'app:';

const ioredis = (Client, options) => ({ port }) => {
  const client = new Client({ port, ...options });
  return { client, end: () => client.disconnect() };
};

const nodeRedis = (create, options) => async ({ port }) => {
  const client = create({ socket: { port }, ...options });
  await client.connect();
  return { client, end: () => client.disconnect?.() };
};

const glide = (protocol) => async ({ port }) => {
  Logger.init('off'); // It would log each script that the server does not know yet.
  const client = await GlideClient.createClient({ addresses: [{ host: '127.0.0.1', port }], protocol });
  return { client, end: () => client.close() };
};

const upstash = (options) => async ({ port }) => {
  const { url, close } = await startForwarder({ redisPort: port, token: 'secret' });
  return { client: new Upstash({ url, token: 'secret', enableTelemetry: false, ...options }), end: close, isTextOnly: true };
};

const CLIENTS = {
  'ioredis 6': ioredis(Ioredis),
  'ioredis 6, automatic pipelining': ioredis(Ioredis, { enableAutoPipelining: true }),
  'ioredis 6, keyPrefix': ioredis(Ioredis, { keyPrefix: KEY_PREFIX }),
  'ioredis 6, keyPrefix and automatic pipelining': ioredis(Ioredis, { keyPrefix: KEY_PREFIX, enableAutoPipelining: true }),
  'ioredis 5': ioredis(Ioredis5),
  'ioredis 5, automatic pipelining': ioredis(Ioredis5, { enableAutoPipelining: true }),
  'ioredis 5, keyPrefix': ioredis(Ioredis5, { keyPrefix: KEY_PREFIX }),
  'node-redis 4': nodeRedis(createClient4),
  'node-redis 5, RESP2': nodeRedis(createClient5, { RESP: 2 }),
  'node-redis 5, RESP3': nodeRedis(createClient5, { RESP: 3 }),
  'node-redis 6, RESP2': nodeRedis(createClient, { RESP: 2 }),
  'node-redis 6, RESP3': nodeRedis(createClient, { RESP: 3 }),
  'Valkey GLIDE, RESP2': glide(ProtocolVersion.RESP2),
  'Valkey GLIDE, RESP3': glide(ProtocolVersion.RESP3),
  Upstash: upstash(),
  'Upstash, automatic pipelining off': upstash({ enableAutoPipelining: false }),
  'Upstash, answers not decoded': upstash({ automaticDeserialization: false, responseEncoding: false }),
};

for (const [kind, connect] of Object.entries(CLIENTS)) {
  describe(kind, () => {
    const before_ = kind.includes('keyPrefix') ? KEY_PREFIX : '';
    let redis;
    let store;
    let end;
    let isTextOnly;

    before(async () => {
      redis = await RedisServer.start();
      ({ client: store, end, isTextOnly = false } = await connect(redis));
    });

    after(async () => {
      await end();
      await redis.remove();
    });

    beforeEach(() => redis.run('FLUSHALL'));

    const over = (options) => createLimiter({ store, prefix: 'tidegate', storeTimeoutMs: PATIENT_MS, denyCacheMs: 0, ...options });

    test('each operation, on the bucket of a limiter with a URL', async () => {
      const limits = ['20/d', '30/d'];
      const limiter = over({ limits });
      const other = createLimiter({
        limits, store: redis.url, prefix: `${before_}tidegate`, storeTimeoutMs: PATIENT_MS, denyCacheMs: 0,
      });
      assert.equal((await limiter.check('k')).remaining, 19);
      assert.equal((await other.check('k')).remaining, 18);
      const many = await limiter.checkMany(['k', { key: 'k', cost: 2 }, 'other', ['{k}a', '{k}b'], { key: 'k', cost: [0, 1] }]);
      assert.deepEqual(many.map(({ remaining }) => remaining), [17, 15, 19, 19, 15]);
      assert.equal((await limiter.peek('k', 5)).remaining, 10);
      assert.equal((await limiter.settle('k', 2, 4)).remaining, 13);
      assert.equal((await limiter.credit('k', 1)).remaining, 14);
      const slot = await limiter.reserve('k', { cost: 4 });
      assert.deepEqual([slot.allowed, slot.delayMs, await slot.cancel()], [true, 0, true]);
      assert.equal((await limiter.acquire('k', { cost: 4 })).remaining, 10);
      assert.equal((await other.peek('k', 0)).remaining, 10);
      await limiter.hold('k', 60_000);
      const held = await limiter.check('k');
      assert.deepEqual([held.allowed, held.source], [false, 'redis']);
      assert.ok(held.retryAfterMs > 30_000 && held.retryAfterMs <= 60_000);
      assert.equal((await limiter.reset('k')).remaining, 20);
      assert.equal((await other.check('k', 20)).allowed, true);
      assert.equal((await limiter.check('k')).allowed, false);
      await limiter.ping();
      assert.deepEqual(redis.run('KEYS', '*').split('\n').filter((key) => !key.startsWith(`${before_}tidegate:{`)), []);
    });

    test('a script that the server has forgotten is sent again', async () => {
      const limiter = over({ limits: '10/d' });
      await limiter.check('k');
      for (const remaining of [8, 7]) {
        redis.run('SCRIPT', 'FLUSH');
        const [check] = await Promise.all([limiter.check('k'), limiter.hold('other', 1000), limiter.checkMany(['a', 'b'])]);
        assert.equal(check.remaining, remaining);
      }
    });

    test('a bucket that holds something else is told', async () => {
      const limiter = over({ limits: '10/d' });
      redis.run('SET', `${before_}tidegate:{k}`, 'not a bucket');
      await assert.rejects(limiter.check('k'), CorruptBucket);
      const [good, bad] = await Promise.allSettled([limiter.check('good'), limiter.check('k')]);
      assert.deepEqual([good.value.remaining, bad.reason.code], [9, 'corrupt_bucket']);
    });

    test('keys of any characters, and of any bytes where the client sends bytes', async () => {
      const limiter = over({ limits: '10/d' });
      const keys = ['', 'ü€🦀', '{a}%', '12', 'null', '"', 'k'.repeat(2000), ...(isTextOnly ? [] : [Uint8Array.of(255, 0, 128)])];
      for (const remaining of [9, 8]) {
        const decisions = await limiter.checkMany(keys);
        assert.deepEqual(decisions.map((decision) => decision.remaining), keys.map(() => remaining));
      }
    });
  });
}
