/** The limits `unlimited` and `none` on the stores of the addon, none of which is asked for them. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { RateLimited, StoreError, createLimiter } from 'tidegate';

// Nobody listens there, so a call that asks the store is an error.
const DOWN = 'redis://127.0.0.1:1';
const folder = mkdtempSync(join(tmpdir(), 'tidegate-unlimited-'));

after(() => rmSync(folder, { recursive: true, force: true }));

for (const store of [DOWN, `shm://fixed?dir=${folder}`]) {
  test(`no answer of ${store.slice(0, 8)} is needed`, async () => {
    const unlimited = createLimiter({ limits: ['unlimited', 'unlimited'], store });
    const { allowed, limit, remaining, source } = await unlimited.check(['a', 'b'], { cost: 2 ** 53 });
    assert.deepEqual([allowed, limit, remaining, source], [true, Infinity, Infinity, 'memory']);
    assert.equal((await unlimited.acquire('key', { timeoutMs: 0 })).allowed, true);
    const slot = await unlimited.reserve('key', { maxWaitMs: 0 });
    assert.deepEqual([slot.delayMs, slot.decision.remaining, await slot.cancel()], [0, Infinity, true]);
    unlimited.close();

    const none = createLimiter({ limits: ['unlimited', '10/s', 'none'], store });
    const refused = await none.check('key');
    const { retryAfterMs, resetAfterMs, limitName } = refused;
    assert.deepEqual([refused.allowed, refused.limit, refused.remaining], [false, 0, 0]);
    assert.deepEqual([retryAfterMs, resetAfterMs, limitName], [Infinity, Infinity, 'none']);
    assert.deepEqual({ ...(await none.peek('key', { cost: 11 })) }, { ...refused });
    assert.deepEqual((await none.checkMany(['key', { key: 'key', cost: 0 }])).map((it) => it.allowed), [false, true]);
    assert.equal((await none.reserve('key')).allowed, false);
    await assert.rejects(none.acquire('key'), RateLimited);
    none.close();
    await assert.rejects(none.check('key'), StoreError);
  });
}

test('beside unlimited the others keep their store and their places', async () => {
  const store = `shm://beside?dir=${folder}`;
  const limiter = createLimiter({ limits: ['unlimited', '3/d', '5/d'], store });
  assert.equal((await limiter.check(['plan', 'user', 'org'], { cost: 3 })).limitName, '3/d');
  const other = await limiter.check(['plan', 'another', 'org'], { cost: 3 });
  assert.deepEqual([other.allowed, other.limitName, other.source], [false, '5/d', 'shm']);
  limiter.close();
  const remote = createLimiter({ limits: ['unlimited', '3/d'], store: DOWN });
  await assert.rejects(remote.check('key'), StoreError);
  await assert.rejects(remote.checkMany(['key', 'key']), StoreError);
  remote.close();
});
