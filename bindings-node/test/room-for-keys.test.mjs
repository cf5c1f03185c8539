/** Which stores take the options of room for keys. Memory itself is tested in bindings-wasm/js. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { InvalidArgument, createLimiter } from '../dist/index.js';

test('memory has the room that is asked for', () => {
  const limiter = createLimiter({ limits: '1/d', store: 'memory://', maxKeys: 10, onFull: 'deny' });
  for (let number = 0; number < 100; number++) limiter.checkSync(`key ${number}`);
  assert.ok(limiter.pressure.denied > 50);
  assert.equal(limiter.pressure.evicted, 0);
});

test('Redis has a bound of its own, and takes the options without effect', () => {
  const client = { callBuffer: async () => null };
  for (const store of ['redis://127.0.0.1:1', client]) {
    const limiter = createLimiter({ limits: '1/d', store, maxKeys: 10, onFull: 'deny' });
    assert.deepEqual({ ...limiter.pressure }, { evicted: 0, denied: 0 });
    limiter.close();
    assert.throws(() => createLimiter({ limits: '1/d', store, maxKeys: 0 }), InvalidArgument);
  }
});

test('shared memory has its room in its URL', () => {
  for (const options of [{ maxKeys: 10 }, { onFull: 'deny' }]) {
    assert.throws(() => createLimiter({ limits: '1/d', store: 'shm://refused', ...options }), (error) => {
      return error instanceof InvalidArgument && error.message.includes('into the URL of shm://');
    });
  }
});
