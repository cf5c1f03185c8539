/** Limits that come with a call, in memory. */

import assert from 'node:assert/strict';
import test from 'node:test';
import * as api from 'tidegate-wasm';

import { testLimitsOfCalls } from './limits-of-calls.mjs';

testLimitsOfCalls(api, 'memory', (options) => api.createLimiter(options));

test('without a promise', () => {
  const limiter = api.createLimiter({ limits: '10/d' });
  const limits = new api.Limits('100/d');
  assert.equal(limiter.checkSync('k', { cost: 4, limits }).remaining, 96);
  assert.equal(limiter.peekSync('k', { cost: 1, limits: '20/d' }).remaining, 15);
  assert.equal(limiter.reserveSync('k', { limits }).allowed, true);
  assert.equal(limiter.withLimits(limits).creditSync('k', 5).remaining, 100);
});

test('a reservation outlives the plan among the kept ones', async () => {
  const limiter = api.createLimiter({ limits: 'none' });
  const reservation = await limiter.reserve('k', { cost: 2, limits: '2/d' });
  for (let number = 0; number < 1100; number += 1) limiter.checkSync('other', { limits: `${number + 1}/d` });
  assert.equal(await reservation.cancel(), true);
  assert.equal(limiter.peekSync('k', { cost: 0, limits: '2/d' }).remaining, 2);
});

test('a plan that the limiter has forgotten is closed by its own close, with the limiter', async () => {
  const limiter = api.createLimiter({ limits: 'none' });
  const forgotten = limiter.withLimits('2/d');
  for (let number = 0; number < 1100; number += 1) limiter.checkSync('other', { limits: `${number + 10}/d` });
  assert.notEqual(limiter.withLimits('2/d'), forgotten);
  forgotten.close();
  await assert.rejects(forgotten.check('k'), api.StoreError);
  assert.throws(() => limiter.withLimits('3/d'), api.StoreError);
});

test('room for keys is bounded under plans too', () => {
  const limiter = api.createLimiter({ limits: '1/d', maxKeys: 10, onFull: 'deny' });
  let allowed = 0;
  for (let key = 0; key < 100; key += 1) allowed += Number(limiter.checkSync(String(key), { limits: '5/d' }).allowed);
  assert.deepEqual([allowed, limiter.pressure.denied], [10, 90]);
});
