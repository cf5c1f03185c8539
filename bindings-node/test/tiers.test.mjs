/** What each limit says to a call, on every store that Node has. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import * as api from 'tidegate';

import { testTiers } from '../../bindings-wasm/js/test/tiers.mjs';
import { STORES } from './client-kinds.mjs';
import { RedisServer } from './redis-server.mjs';

const PATIENT_MS = 30_000;

for (const kind of ['memory', 'shm', ...Object.keys(STORES)]) {
  describe(kind, () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidegate-tiers-'));
    let redis;
    let store;
    let end;
    let prefixes = 0;

    before(async () => {
      redis = await RedisServer.start();
      const others = {
        memory: async () => ({ client: 'memory://', end() {} }),
        shm: async () => ({ client: `shm://tiers?dir=${folder}`, end() {} }),
      };
      ({ client: store, end } = await (STORES[kind] ?? others[kind])(redis));
    });

    after(async () => {
      await end();
      await redis.remove();
      rmSync(folder, { recursive: true, force: true });
    });

    const make = (limits, options) =>
      api.createLimiter({ limits, store, prefix: `tiers-${prefixes++}`, storeTimeoutMs: PATIENT_MS, ...options });

    testTiers(api, make, { takesLimits: kind !== 'shm' });

    if (STORES[kind] === undefined) return;
    test('a lease knows only the limit it was leased under', async () => {
      const limiter = make(['1000/s', '100000/min'], { lease: { ttlMs: 400 } });
      let decision = await limiter.check('hot');
      while (decision.source !== 'lease') {
        assert.equal(decision.tiers.length, 2);
        decision = await limiter.check('hot');
      }
      assert.deepEqual(decision.tiers.map(({ limitName }) => limitName), [decision.limitName]);
      limiter.close();
    });
  });
}

for (const onStoreError of ['allow', 'deny', 'local']) {
  test(`the policy ${onStoreError} says what each limit says`, async () => {
    const peers = onStoreError === 'local' ? { peers: 5 } : {};
    const limiter = api.createLimiter({ limits: ['10/s burst 20', '100/s'], store: 'redis://127.0.0.1:1', onStoreError, ...peers });
    const decision = await limiter.check('k');
    assert.equal(decision.source, 'fallback');
    assert.deepEqual(decision.tiers.map(({ limit }) => limit), onStoreError === 'local' ? [4, 20] : [20, 100]);
    limiter.close();
  });
}
