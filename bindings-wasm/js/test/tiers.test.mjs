/** What each limit says to a call, in memory; over clients it is tested in the package for Node. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as api from 'tidegate-wasm';

import { left, testTiers } from './tiers.mjs';

testTiers(api, (limits, options) => api.createLimiter({ limits, ...options }));

test('the methods without a promise say what each limit says', () => {
  const limiter = api.createLimiter({ limits: ['10/d', '25/d', '50/d', '100/d'] });
  assert.deepEqual(left(limiter.checkSync('k', 4)).map(([, remaining]) => remaining), [6, 21, 46, 96]);
  assert.deepEqual(left(limiter.peekSync('k', 0)).map(([, remaining]) => remaining), [6, 21, 46, 96]);
  assert.deepEqual(left(limiter.checkManySync(['k'])[0]).map(([, remaining]) => remaining), [5, 20, 45, 95]);
});

test('tiers is no field of a decision, so that two decisions compare by what they decided', () => {
  const [one, two] = [['10/d'], ['10/d', '10/d']].map((limits) => api.createLimiter({ limits, clock: new api.FakeClock() }).checkSync('k'));
  assert.deepEqual(one, two);
  assert.ok(!Object.keys(two).includes('tiers'));
});
