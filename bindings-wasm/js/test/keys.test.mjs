/** Keys of any length and any bytes: a key and its stored form in `keys.json` are one bucket. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createLimiter } from 'tidegate-wasm';

import { nonEmpty, readVectors } from './conformance.mjs';

const cases = nonEmpty(readVectors('keys.json').keys).map(({ name, hex, times, stored }) => {
  const bytes = new Uint8Array(Buffer.from(hex.repeat(times), 'hex'));
  return { name, bytes, stored: stored ?? bytes };
});
const limits = ['1/h burst 50', '1/d burst 50'];

test('a key and its stored form are one bucket', () => {
  for (const count of [1, 2]) {
    const limiter = createLimiter({ limits: limits.slice(0, count) });
    for (const { name, bytes, stored } of cases) {
      const before = limiter.checkSync(bytes, 0).remaining;
      assert.equal(limiter.checkSync(bytes).remaining, before - 1, name);
      assert.equal(limiter.checkSync(stored).remaining, before - 2, name);
      const each = Array(count).fill(bytes);
      const first = limiter.checkSync(each).remaining;
      assert.equal(limiter.checkSync(Array(count).fill(stored)).remaining, first - 1, name);
      assert.equal(limiter.checkSync(bytes, 0).remaining, count === 1 ? first - 1 : before - 2, name);
      const text = new TextDecoder().decode(bytes);
      if (Buffer.from(text).equals(bytes)) assert.ok(limiter.checkSync(text).remaining < before - 2, name);
    }
  }
});

test('long keys that differ have buckets of their own, also in the other operations', async () => {
  const limiter = createLimiter({ limits: '2/h' });
  const [one, other] = ['a', 'b'].map((end) => 'ü'.repeat(5000) + end);
  assert.ok((await limiter.acquire(one)).allowed);
  limiter.checkSync(one);
  assert.ok(!limiter.checkSync(one).allowed);
  assert.ok(limiter.checkSync(other).allowed);
  assert.deepEqual(limiter.checkManySync([one, other, other, '']).map(({ allowed }) => allowed), [false, true, false, true]);
  limiter.resetSync(one);
  const reservation = limiter.reserveSync(one, { cost: 2 });
  assert.equal(reservation.delayMs, 0);
  assert.equal(reservation.cancelSync(), true);
  assert.equal(limiter.checkSync(one, 0).remaining, 2);
});
