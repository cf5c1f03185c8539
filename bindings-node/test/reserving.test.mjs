/** `reserving` on buckets that processes share: in `shm://`, and in Redis over each kind of client and a URL. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe } from 'node:test';

import * as api from 'tidegate';

import { testFailures, testHandingOn, testReserving } from '../../bindings-wasm/js/test/reserving.mjs';
import { STORES } from './client-kinds.mjs';
import { RedisServer } from './redis-server.mjs';

const PATIENT_MS = 30_000;

for (const [kind, connect] of Object.entries(STORES)) {
  describe(kind, () => {
    let redis;
    let store;
    let end;
    let open = [];

    before(async () => {
      redis = await RedisServer.start();
      ({ client: store, end } = await connect(redis));
    });

    after(async () => {
      await end();
      await redis.remove();
    });

    beforeEach(() => redis.run('FLUSHALL'));

    afterEach(() => {
      for (const limiter of open) limiter.close();
      open = [];
    });

    const make = (options) => {
      const limiter = api.createLimiter({ store, storeTimeoutMs: PATIENT_MS, denyCacheMs: 0, ...options });
      open.push(limiter);
      return limiter;
    };

    testReserving(make, api);
    testHandingOn(make);

    const good = (key) => `good ${key}`;
    let spoilt = [];
    testFailures(make, {
      spoil() {
        spoilt = redis.run('KEYS', 'tidegate*').split('\n');
        for (const key of spoilt) {
          redis.run('RENAME', key, good(key));
          redis.run('SET', key, 'not a bucket');
        }
      },
      mend() {
        for (const key of spoilt) redis.run('RENAME', good(key), key);
      },
    });
  });
}

describe('shm', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-reserving-'));
  let number = 0;

  after(() => rmSync(folder, { recursive: true }));

  const make = (options) => api.createLimiter({ store: `shm://t${++number}?dir=${folder}`, ...options });

  testReserving(make, api);
  testHandingOn(make);
});
