/** Concurrency permits in memory and on a real Redis, shared with other processes. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { Concurrency, CorruptBucket, InvalidArgument, NoPermit, Permit, StoreError, createConcurrency } from 'tidegate';

import { RedisServer, until } from './redis-server.mjs';

const TIMEOUT_MS = 30_000;
const SURFACE = JSON.parse(readFileSync(new URL('../../tests/vectors/surface.json', import.meta.url), 'utf8')).classes;

let redis;

before(async () => {
  redis = await RedisServer.start();
});

after(async () => {
  await redis.remove();
});

for (const source of ['memory', 'redis']) {
  describe(source, () => {
    let names = 0;

    function make(limit, more = {}) {
      const store = source === 'memory' ? 'memory://' : redis.url;
      return createConcurrency({ limit, store, prefix: `permits-${names++}`, storeTimeoutMs: TIMEOUT_MS, ...more });
    }

    test('a permit is held until it is released', async () => {
      const vendor = make(2);
      const first = await vendor.acquire('k', { timeoutMs: 5000 });
      const second = await vendor.acquire('k');
      assert.ok(first instanceof Permit && vendor instanceof Concurrency);
      assert.deepEqual([first.key, first.lost, first.source], ['k', false, source]);
      assert.deepEqual([await vendor.inFlight('k'), await vendor.inFlight()], [2, 0]);
      assert.equal(await vendor.tryAcquire('k'), undefined);
      await assert.rejects(vendor.acquire('k', { timeoutMs: 20 }), (error) => {
        assert.ok(error instanceof NoPermit);
        assert.equal(error.code, 'no_permit');
        return true;
      });
      await first.release();
      await first.release();
      assert.equal(await vendor.inFlight('k'), 1);
      second[Symbol.dispose]();
      await until('the permit is back', async () => (await vendor.inFlight('k')) === 0);
      const third = await vendor.tryAcquire(Buffer.from('k'));
      await third[Symbol.asyncDispose]();
      assert.equal(await vendor.inFlight('k'), 0);
    });

    test('a permit that closing gave back is lost', async () => {
      const vendor = make(1);
      const permit = await vendor.acquire();
      assert.equal(permit.lost, false);
      vendor.close();
      assert.equal(permit.lost, true);
    });

    test('callers are served in order, and one whose signal aborts leaves the line', async () => {
      const vendor = make(1);
      const held = await vendor.acquire();
      const order = [];
      const abort = new AbortController();
      const callers = [0, 1, 2, 3].map(async (number) => {
        const permit = await vendor.acquire('', number === 1 ? { signal: abort.signal } : {});
        order.push(number);
        await permit.release();
      });
      await until('four wait', () => vendor.waiting() === 4);
      abort.abort(new Error('enough'));
      await assert.rejects(callers[1], { message: 'enough' });
      await held.release();
      await Promise.all([callers[0], callers[2], callers[3]]);
      assert.deepEqual(order, [0, 2, 3]);
      assert.equal(vendor.waiting(), 0);
      await assert.rejects(vendor.acquire('', { signal: AbortSignal.abort(new Error('before')) }), { message: 'before' });
    });

    test('a changed limit holds for those who wait, and closing ends their wait', async () => {
      const vendor = make(1);
      await vendor.acquire();
      const second = vendor.acquire();
      await until('one waits', () => vendor.waiting() === 1);
      vendor.setLimit(2);
      assert.ok(await second);
      const third = vendor.acquire();
      await until('one waits', () => vendor.waiting() === 1);
      vendor.close();
      await assert.rejects(third, StoreError);
      await assert.rejects(vendor.acquire(), StoreError);
      await assert.rejects(vendor.inFlight(), StoreError);
    });
  });
}

test('arguments', async () => {
  for (const options of [
    {}, { limit: 0 }, { limit: 1.5 }, { limit: 1_000_001 }, { limit: 1, ttlMs: 99 }, { limit: 1, ttlMs: Number.NaN },
    { limit: 1, store: undefined }, { limit: 1, store: {} }, { limit: 1, store: 'shm://x' }, { limit: 1, onStoreError: 'local' },
    { limit: 1, maxWaiting: 0 }, { limit: 1, storeTimeoutMs: 0 }, { limit: 1, prefix: '' }, { limit: 1, what: 1 },
  ]) {
    assert.throws(() => createConcurrency(options), InvalidArgument, JSON.stringify(options));
  }
  const vendor = createConcurrency({ limit: 1, ttlMs: 1500 });
  assert.deepEqual([vendor.limit, vendor.ttlMs], [1, 1500]);
  for (const key of [7, ['k'], null, '\ud800']) await assert.rejects(vendor.acquire(key), InvalidArgument);
  await assert.rejects(vendor.acquire('k', { timeoutMs: -1 }), InvalidArgument);
  await assert.rejects(vendor.acquire('k', { cost: 1 }), InvalidArgument);
  assert.throws(() => vendor.setLimit(-1), InvalidArgument);
});

test('the names are those of surface.json', () => {
  const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  const members = (own) => Object.getOwnPropertyNames(own.prototype).filter((name) => name !== 'constructor' && name !== 'name').sort();
  const expected = ({ fields, methods }) => [...fields, ...Object.keys(methods)].map((name) => camel(name === 'ttl' ? 'ttl_ms' : name)).sort();
  assert.deepEqual(members(Concurrency), expected(SURFACE.Concurrency));
  assert.deepEqual([...members(Permit), 'key'].sort(), expected(SURFACE.Permit));
});

test('a stranger in the store is a corrupt bucket', async () => {
  redis.run('SET', 'strange:{k}:line', 'x');
  const vendor = createConcurrency({ limit: 1, store: redis.url, prefix: 'strange', storeTimeoutMs: TIMEOUT_MS, onStoreError: 'allow' });
  await assert.rejects(vendor.acquire('k'), CorruptBucket);
});

test('the policies of a store that is down', async () => {
  const open = (onStoreError) => createConcurrency({ limit: 1, store: 'redis://127.0.0.1:1', onStoreError });
  await assert.rejects(open('raise').acquire('k'), StoreError);
  const permit = await open('allow').acquire('k');
  assert.deepEqual([permit.source, permit.lost], ['fallback', false]);
  await permit.release();
  await assert.rejects(open('deny').acquire('k', { timeoutMs: 60_000 }), NoPermit);
  assert.equal(await open('deny').tryAcquire('k'), undefined);
});

test('a process that is killed frees its permit within the ttl', async () => {
  const options = { limit: 1, ttlMs: 1000, store: redis.url, prefix: 'killed', storeTimeoutMs: TIMEOUT_MS };
  const program = `import { createConcurrency } from 'tidegate';
    const permit = await createConcurrency(${JSON.stringify(options)}).acquire('k');
    console.log(permit.source);
    setInterval(() => permit.lost, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(child.stdout, 'data');
    const vendor = createConcurrency(options);
    // It is renewed while the process lives.
    await assert.rejects(vendor.acquire('k', { timeoutMs: 1500 }), NoPermit);
    assert.equal(await vendor.inFlight('k'), 1);
    child.kill('SIGKILL');
    const permit = await vendor.acquire('k', { timeoutMs: TIMEOUT_MS });
    assert.equal(await vendor.inFlight('k'), 1);
    await permit.release();
  } finally {
    child.kill('SIGKILL');
  }
});
