/**
 * Limiters in a real workerd (Cloudflare Workers), one for each isolate, over Upstash and in memory. The runtime cancels a
 * request that awaits what another request has to do, so nothing of one request may serve another.
 */

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import { RedisServer, until } from '../../bindings-node/test/redis-server.mjs';
import { startForwarder } from '../end_to_end/upstash_forwarder.mjs';
import { Workerd } from './workerd-server.mjs';

// The rules of the runtime: before a promise was tied to the request that has made it, and since.
const COMPATIBILITY_DATES = ['2023-10-01', '2026-01-01'];

let redis;
let forwarder;
let worker;

before(async () => {
  redis = await RedisServer.start();
  forwarder = await startForwarder({ redisPort: redis.port, token: 'secret' });
});

after(async () => {
  await forwarder?.close();
  await redis?.remove();
});

beforeEach(() => redis.run('FLUSHALL'));

const statuses = (answers) => answers.map(({ status, body }) => (status === 200 ? 200 : JSON.stringify([status, body])));
const all200 = (answers) => assert.deepEqual(statuses(answers), answers.map(() => 200));
const atOnce = (count, path) => Promise.all(Array.from({ length: count }, () => worker.get(path)));

for (const date of COMPATIBILITY_DATES) {
  describe(`under the rules of ${date}`, () => {
    before(async () => {
      worker = await Workerd.start(new URL(forwarder.url).host, date);
    });

    after(() => worker.stop());

    for (const limiter of ['shared', 'allowing', 'leased', 'memory', 'small']) {
      test(`${limiter}: requests that overlap, and then one by one, are all answered`, async () => {
        all200(await atOnce(2, `/${limiter}/check`));
        all200(await atOnce(12, `/${limiter}/check`));
        const serial = [];
        for (let turn = 0; turn < 12; turn++) serial.push(await worker.get(`/${limiter}/check`));
        all200(serial);
      });
    }

    for (const operation of ['many', 'twice', 'together', 'reserving']) {
      test(`shared: ${operation} in requests that overlap`, async () => all200(await atOnce(12, `/shared/${operation}`)));
    }

    test('the checks of one turn of a request share a round trip', async () => {
      await worker.get('/shared/check');
      const calls = () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(redis.run('INFO', 'commandstats'))?.[1] ?? 0);
      const before = calls();
      all200([await worker.get('/shared/together')]);
      assert.equal(calls() - before, 1);
    });

    for (const limiter of ['slow', 'slowMemory', 'slowSmall']) {
      test(`${limiter}: each request that waits in acquire gets its slot`, async () => {
        const started = performance.now();
        all200(await atOnce(12, `/${limiter}/acquire`));
        const passed = performance.now() - started;
        assert.ok(passed >= 11 * 20 - 5, `12 slots within ${passed} ms`);
        all200([await worker.get(`/${limiter}/acquire`)]);
      });
    }

    for (const limiter of ['tight', 'tightMemory']) {
      test(`${limiter}: a request whose slot is too far away is told so`, async () => {
        const path = `/${limiter}/acquire?timeout=1000`;
        all200([await worker.get(path)]);
        const refused = await atOnce(12, path);
        assert.deepEqual(refused.map(({ status, body }) => [status, body.code]), refused.map(() => [429, 'rate_limited']));
      });
    }

    test('requests that are cancelled at random leave nothing behind that others wait for', async () => {
      const operations = ['shared/check', 'shared/twice', 'shared/together', 'leased/check', 'slow/acquire', 'slowMemory/acquire', 'allowing/check'];
      const answers = [];
      for (let round = 0; round < 20; round++) {
        const requests = Array.from({ length: 20 }, (_, number) => {
          const isCancelled = Math.random() < 0.4;
          const signal = isCancelled ? AbortSignal.timeout(Math.floor(Math.random() * 15)) : undefined;
          const path = `/${operations[(round + number) % operations.length]}`;
          const answer = worker.get(path, { signal });
          return isCancelled ? answer.then(() => {}, () => {}) : answer.then((each) => answers.push(each));
        });
        await Promise.all(requests);
      }
      all200(answers);
      assert.ok(answers.length > 150, `${answers.length} were not cancelled`);
      for (const operation of operations) all200(await atOnce(2, `/${operation}`));
    });

    test('the timeout and the policy answer while the store hangs, in every request', async () => {
      redis.freeze();
      try {
        const [failed, allowed] = await Promise.all([atOnce(6, '/hasty/check'), atOnce(6, '/allowing/check')]);
        assert.deepEqual(failed.map(({ status, body }) => [status, body.name]), failed.map(() => [503, 'StoreTimeout']));
        assert.deepEqual(allowed.map(({ status, body }) => [status, body.source]), allowed.map(() => [200, 'fallback']));
      } finally {
        redis.resume();
      }
      for (const limiter of ['hasty', 'allowing']) {
        await until(`${limiter} asks Redis again`, async () => (await worker.get(`/${limiter}/check`)).body.source === 'redis');
        all200(await atOnce(12, `/${limiter}/check`));
      }
    });

    test('a hot key is leased, and its renewals are not lost', async () => {
      const leased = async () => (await worker.get('/leased/check')).body.source === 'lease';
      await until('a slice answers', leased);
      await new Promise((resolve) => setTimeout(resolve, 1500)); // longer than the slice lives
      await until('a slice answers again', leased);
    });

    test('the runtime has complained of no request that hung', () => {
      assert.doesNotMatch(worker.output, /hung|different request|hang/);
    });
  });
}
