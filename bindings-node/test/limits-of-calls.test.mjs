/** Limits that come with a call, on the stores that processes share. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import * as api from 'tidegate';

import { testLimitsOfCalls } from '../../bindings-wasm/js/test/limits-of-calls.mjs';
import { STORES } from './client-kinds.mjs';
import { RedisServer } from './redis-server.mjs';

const PATIENT_MS = 30_000;

for (const kind of Object.keys(STORES)) {
  describe(kind, () => {
    let redis;
    let store;
    let end;
    let limiters = 0;

    before(async () => {
      redis = await RedisServer.start();
      ({ client: store, end } = await STORES[kind](redis));
    });

    after(async () => {
      await end();
      await redis.remove();
    });

    // Each limiter has buckets of its own.
    const make = (options) => {
      limiters += 1;
      return api.createLimiter({ ...options, store, prefix: `test-${limiters}`, storeTimeoutMs: PATIENT_MS });
    };
    testLimitsOfCalls(api, kind, make);
  });
}

test('limits of shared memory are those of its file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-plans-'));
  const limiter = api.createLimiter({ limits: '10/s', store: `shm://plans?dir=${folder}` });
  await assert.rejects(limiter.check('k', { limits: '20/s' }), /limits: a limiter on shm:\/\/ takes none/);
  assert.throws(() => limiter.checkSync('k', { limits: '20/s' }), api.InvalidArgument);
  assert.equal(limiter.checkSync('k').allowed, true);
  limiter.close();
  rmSync(folder, { recursive: true, force: true });
});
