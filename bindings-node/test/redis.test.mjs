/** The shared bucket, on a real Redis. */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { CorruptBucket, CostTooLarge, InvalidArgument, StoreError, StoreTimeout, createLimiter } from 'tidegate';

import { RedisServer, until } from './redis-server.mjs';

const TIMEOUT_MS = 200;
const SLACK_MS = 100;

let redis;
let open = [];

before(async () => {
  redis = await RedisServer.start();
});

after(() => redis.remove());

beforeEach(async () => {
  redis.resume();
  if (redis.run('PING') !== 'PONG') throw new Error('Redis does not answer');
  // Limiters on one URL share a store, and the test before may have opened its breaker.
  const limiter = shared({ limits: '1/d' });
  await until('the store is asked again', () => limiter.peek('ready', { cost: 0 }).then(() => true, () => false));
  redis.run('FLUSHALL');
});

afterEach(() => {
  for (const limiter of open) limiter.close();
  open = [];
});

function shared(options) {
  const limiter = createLimiter({ prefix: 'tidegate', store: redis.url, storeTimeoutMs: TIMEOUT_MS, ...options });
  open.push(limiter);
  return limiter;
}

test('two limiters, a hundred checks at once: exactly the burst is admitted', async () => {
  const [one, other] = [shared({ limits: '40/d' }), shared({ limits: '40/d' })];
  const checks = Array.from({ length: 100 }, (_, number) => (number % 2 ? one : other).check('vendor'));
  const decisions = await Promise.all(checks);
  assert.equal(decisions.filter(({ allowed }) => allowed).length, 40);
  const remainders = decisions.filter(({ allowed }) => allowed).map(({ remaining }) => remaining);
  assert.deepEqual(remainders.sort((a, b) => a - b), Array.from({ length: 40 }, (_, number) => number));
  for (const { source, limit, limitName } of decisions) {
    assert.deepEqual([source, limit, limitName], ['redis', 40, '40/d']);
  }
  assert.equal((await one.peek('vendor', { cost: 0 })).remaining, 0);
});

test('a hundred checks at a time share trips', async () => {
  const limiter = shared({ limits: '3000/d' });
  await limiter.check('key');
  const calls = () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(redis.run('INFO', 'commandstats'))?.[1] ?? 0);
  const before = calls();
  await Promise.all(Array.from({ length: 100 }, async () => {
    for (let number = 0; number < 20; number++) await limiter.check('key');
  }));
  assert.ok(calls() - before <= 0.05 * 2000, `${calls() - before} script calls`);
  assert.equal((await limiter.peek('key', { cost: 0 })).remaining, 3000 - 2001);
});

test('calls are decided in the order in which they were made, each with its own answer', async () => {
  const limiter = shared({ limits: '30/d' });
  const answers = await Promise.allSettled([
    limiter.check('key', { cost: 10 }),
    limiter.check('key', { cost: 10 }),
    limiter.check('key', { cost: 31 }),
    limiter.check('\ud800'),
    limiter.check('🌊'),
    limiter.check('é🌊e', { cost: 2 }),
    limiter.check('key', { cost: 11 }),
    limiter.credit('key', 3),
    limiter.check('key', { cost: 13 }),
    limiter.check(Buffer.from('key')),
    limiter.peek('key', { cost: 0 }),
    limiter.checkMany(['🌊', 'key']),
    limiter.credit('key', 2),
    limiter.check('key'),
    limiter.peek('é🌊e', { cost: 0 }),
  ]);
  const seen = answers.map(({ value, reason }) => {
    if (reason !== undefined) return reason.code;
    return [value].flat().map(({ allowed, remaining }) => `${allowed} ${remaining}`).join();
  });
  assert.deepEqual(seen, [
    'true 20', 'true 10', 'cost_too_large', 'invalid_argument', 'true 29', 'true 28', 'false 10',
    'true 13', 'true 0', 'false 0', 'true 0', 'true 28,false 0', 'true 2', 'true 1', 'true 28',
  ]);
});

test('thousands of checks in one turn, some answered while others are made', async () => {
  const limiter = shared({ limits: '10000/d' });
  const check = async (number) => (await limiter.check(`key ${number % 7}`)).remaining;
  const remaining = await Promise.all(Array.from({ length: 7000 }, (_, number) => check(number)));
  for (let key = 0; key < 7; key++) {
    const own = remaining.filter((_, number) => number % 7 === key);
    assert.deepEqual(own, Array.from({ length: 1000 }, (_, number) => 9999 - number));
  }
});

test('a check made before closing is answered', async () => {
  const limiter = shared({ limits: '10/d' });
  const checks = [limiter.check('key'), limiter.check('key')];
  limiter.close();
  assert.deepEqual((await Promise.all(checks)).map(({ remaining }) => remaining), [9, 8]);
});

test('costs, peeks, bytes as keys and several limits', async () => {
  const limiter = shared({ limits: ['10/d', { tokens: 4, periodMs: 86_400_000, shape: 'stepped', name: 'four' }] });
  assert.equal((await limiter.check('🌊', { cost: 3 })).limitName, 'four');
  assert.equal((await limiter.peek(Buffer.from('🌊'), { cost: 0 })).remaining, 1);
  const refused = await limiter.check('🌊', { cost: 2 });
  assert.deepEqual([refused.allowed, refused.limitName], [false, 'four']);
  assert.ok(refused.retryAfterMs > 0 && Number.isInteger(refused.retryAfterMs));
  await assert.rejects(limiter.check('🌊', { cost: 5 }), CostTooLarge);
});

test('the bucket is under prefix:{key}', async () => {
  await shared({ limits: '10/d' }).check('user:{42}');
  await shared({ limits: '10/d', prefix: 'api' }).check('user');
  assert.deepEqual(redis.run('KEYS', '*').split('\n').sort(), ['api:{user}', 'tidegate:{user:%7B42%7D}']);
});

test('SCRIPT FLUSH in the middle changes nothing', async () => {
  const limiter = shared({ limits: '10/d' });
  assert.equal((await limiter.check('key')).remaining, 9);
  redis.run('SCRIPT', 'FLUSH');
  assert.equal((await limiter.check('key')).remaining, 8);
});

test('FLUSHALL in the middle makes buckets full again', async () => {
  const limiter = shared({ limits: '10/d' });
  assert.equal((await limiter.check('key', { cost: 10 })).remaining, 0);
  redis.run('FLUSHALL');
  assert.equal((await limiter.check('key')).remaining, 9);
});

test('a value that Tidegate did not write is an error, and is left alone', async () => {
  redis.run('SET', 'tidegate:{text}', 'hello');
  redis.run('LPUSH', 'tidegate:{list}', 'hello');
  const limiter = shared({ limits: '10/d' });
  for (const key of ['text', 'list']) {
    await assert.rejects(limiter.check(key), (error) => {
      assert.ok(error instanceof CorruptBucket && error instanceof StoreError);
      assert.equal(error.code, 'corrupt_bucket');
      return true;
    });
  }
  assert.equal(redis.run('GET', 'tidegate:{text}'), 'hello');
  assert.equal((await limiter.check('another')).remaining, 9);
});

test('Redis killed: errors in time; started again: works again', async () => {
  const limiter = shared({ limits: '10/d' });
  await limiter.check('key');
  await redis.kill();
  for (let attempt = 0; attempt < 5; attempt++) {
    const started = performance.now();
    await assert.rejects(limiter.check('key'), (error) => {
      assert.ok(error instanceof StoreError, String(error));
      assert.ok(['store_error', 'store_timeout'].includes(error.code), error.code);
      return true;
    });
    const took = performance.now() - started;
    assert.ok(took <= TIMEOUT_MS + SLACK_MS, `it took ${took} ms`);
  }
  await redis.start();
  await until('the limiter works again', async () => (await answer(limiter, 'key'))?.allowed);
});

test('Redis frozen: store_timeout in time, and the event loop goes on', async () => {
  const limiter = shared({ limits: '10/d' });
  await limiter.check('key');
  redis.freeze();
  let turns = 0;
  const turning = setInterval(() => { turns++; }, 10);
  const started = performance.now();
  await assert.rejects(limiter.check('key'), (error) => {
    assert.ok(error instanceof StoreTimeout && error instanceof StoreError);
    assert.match(error.message, /within 200 ms/);
    return true;
  });
  const took = performance.now() - started;
  clearInterval(turning);
  assert.ok(took >= TIMEOUT_MS - 1 && took <= TIMEOUT_MS + SLACK_MS, `it took ${took} ms`);
  assert.ok(turns >= 5, `${turns} turns of the event loop`);
  redis.resume();
  await until('the limiter works again', async () => (await answer(limiter, 'key'))?.allowed);
});

test('a hundred checks on a frozen Redis all end in time', async () => {
  const limiter = shared({ limits: '1000/d' });
  await limiter.check('key');
  redis.freeze();
  const started = performance.now();
  const settled = await Promise.allSettled(Array.from({ length: 100 }, () => limiter.check('key')));
  const took = performance.now() - started;
  redis.resume();
  for (const { reason } of settled) assert.equal(reason?.code, 'store_timeout');
  assert.ok(took <= TIMEOUT_MS + SLACK_MS, `it took ${took} ms`);
});

test('every operation on a frozen Redis ends in time', async () => {
  const limiter = shared({ limits: ['1000/d', '1000/d'] });
  const slots = [await limiter.reserve('key'), await limiter.reserve('key')];
  redis.freeze();
  const started = performance.now();
  const settled = await Promise.allSettled([
    limiter.checkMany(['key', 'another']), limiter.check(['key', 'another']), limiter.reserve('key'), limiter.acquire('another'),
    limiter.settle('key', 1, 2), limiter.credit('key', 1), limiter.hold('key', 1), limiter.reset('key'),
    slots[0].cancel(), slots[1].settle(2),
  ]);
  const took = performance.now() - started;
  redis.resume();
  for (const { reason } of settled) assert.equal(reason?.code, 'store_timeout');
  assert.ok(took <= TIMEOUT_MS + SLACK_MS, `it took ${took} ms`);
});

test('a waiter needs no Redis any more; an aborted one is not kept by it', async () => {
  const limiter = shared({ limits: '2/s burst 1' });
  await limiter.acquire('key');
  const started = performance.now();
  const waiting = limiter.acquire('key');
  const controller = new AbortController();
  const aborted = limiter.acquire('key', { signal: controller.signal });
  await until('both have their slots', async () => (await limiter.peek('key', { cost: 0 })).resetAfterMs > 1000);
  await redis.kill();
  controller.abort();
  await assert.rejects(aborted, { name: 'AbortError' });
  assert.ok((await waiting).allowed);
  const took = performance.now() - started;
  // The slot was half a second after the first one, which was a little before `started`.
  assert.ok(took >= 490 && took < 5000, `it took ${took} ms`);
  await redis.start();
});

test('an unreachable Redis is an error of the check, not of createLimiter', async () => {
  const limiter = shared({ limits: '10/d', store: 'redis://127.0.0.1:1' });
  await assert.rejects(limiter.check('key'), { code: 'store_error' });
});

test('what is wrong with the options is said when the limiter is created', () => {
  const wrong = [
    [{ store: 'redis://127.0.0.1:port' }, /^invalid store/],
    [{ store: 'http://127.0.0.1' }, /^invalid store: its scheme is not known; use memory:/],
    [{ store: 'shm://' }, /^invalid store/],
    [{ store: '127.0.0.1' }, /^invalid store: it has no scheme/],
    [{ store: 'memory://here' }, /^invalid store: nothing may follow/],
    [{ store: 6379 }, /^invalid store: it must be a URL or a Redis client, but is 6379/],
    [{ prefix: '' }, /^invalid prefix/],
    [{ prefix: 'x'.repeat(257) }, /^invalid prefix: .* 1 to 256 bytes/],
    [{ storeTimeoutMs: 0 }, /^invalid storeTimeoutMs: .* from 1 to 60000, but is 0/],
    [{ storeTimeoutMs: 60_001 }, /^invalid storeTimeoutMs/],
    [{ storeTimeoutMs: 1.5 }, /^invalid storeTimeoutMs/],
    [{ clock: { now: () => 0n } }, /^invalid clock: a shared store has a clock of its own/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => shared({ limits: '10/d', ...options }), (error) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});

test('a password in a wrong URL is not repeated', () => {
  assert.throws(() => shared({ limits: '1/s', store: 'redis://user:hunter2@host:port/' }), (error) => {
    assert.ok(!JSON.stringify([error.message, error.stack, { ...error }]).includes('hunter2'));
    return true;
  });
});

test('wrong arguments of a check', async () => {
  const limiter = shared({ limits: '10/d' });
  const wrong = [
    [() => limiter.check('a\ud800b'), /^invalid key: it must be well-formed Unicode/],
    [() => limiter.check(42), /^invalid key: it must be a string or a Uint8Array, but is 42/],
    [() => limiter.check('key', { cost: 1.5 }), /^invalid cost/],
    [() => limiter.check('key', '1'), /^invalid cost/],
    [() => limiter.checkSync('key'), /^invalid store: it is remote/],
    [() => limiter.peekSync('key'), /^invalid store: it is remote/],
  ];
  for (const [call, message] of wrong) {
    await assert.rejects(async () => call(), (error) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});

test('a closed limiter answers with an error, and can be closed again', async () => {
  const limiter = shared({ limits: '10/d' });
  await limiter.check('key');
  limiter.close();
  limiter.close();
  await assert.rejects(limiter.check('key'), { code: 'store_error', message: /closed/ });
});

async function answer(limiter, key) {
  try {
    return await limiter.check(key);
  } catch (error) {
    assert.ok(error instanceof StoreError, String(error));
    return undefined;
  }
}

test('a failed settle or cancel can be called again', async () => {
  const server = await RedisServer.start();
  try {
    const limiter = createLimiter({ limits: '1000/36500d window', store: server.url, prefix: 'again', storeTimeoutMs: 5000 });
    const [settled, cancelled] = [await limiter.reserve('a', { cost: 400 }), await limiter.reserve('b', { cost: 400 })];
    await server.kill();
    await assert.rejects(settled.settle(100), StoreError);
    await assert.rejects(cancelled.cancel(), StoreError);
    await server.start();
    await until('the store is asked again', () => limiter.check('a', { cost: 1000 }).then(() => true, () => false));
    assert.equal((await settled.settle(100)).remaining, 300);
    assert.equal(typeof (await cancelled.cancel()), 'boolean');
    await assert.rejects(settled.settle(100), InvalidArgument);
    limiter.close();
  } finally {
    await server.remove();
  }
});
