/** The tests of `decision.tiers`, which run over each store of a JavaScript package. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

const LIMITS = ['10/d', '25/d window'];
// Calls of one package have keys of their own, because stores may outlive a test.
let keys = 0;

/** What each limit of a decision has left. */
export const left = ({ tiers }) => tiers.map(({ limitName, remaining }) => [limitName, remaining]);

const waits = ({ tiers }) => tiers.map(({ retryAfterMs }) => retryAfterMs > 0);

// What the binding limit says.
const bound = ({ limit, remaining, retryAfterMs, resetAfterMs, limitName }) => ({ limit, remaining, retryAfterMs, resetAfterMs, limitName });

/** Adds the tests; `make` makes a limiter of these limits over the store. */
export function testTiers({ RateLimited, TierDecision }, make, { takesLimits = true } = {}) {
  test('every method says what each limit says', async () => {
    // Without refusals that are remembered, which tell of the buckets as they were.
    const limiter = make(LIMITS, { denyCacheMs: 0 });
    const key = `k${keys++}`;
    const peeked = await limiter.peek(key, 4);
    const decision = await limiter.check(key, 4);
    assert.deepEqual(left(decision), [['10/d', 6], ['25/d window', 21]]);
    assert.deepEqual(left(peeked), left(decision));
    assert.deepEqual({ ...decision.tiers[0] }, bound(decision));
    assert.ok(Object.isFrozen(decision.tiers) && decision.tiers.every((tier) => tier instanceof TierDecision && Object.isFrozen(tier)));
    const refused = await limiter.check(key, 7);
    assert.deepEqual([refused.allowed, left(refused), waits(refused)], [false, left(decision), [true, false]]);
    assert.deepEqual({ ...refused.tiers[0] }, bound(refused));
    // The numbers are those of its own call, although others were made since.
    assert.deepEqual(left(decision), [['10/d', 6], ['25/d window', 21]]);
    const many = await limiter.checkMany([key, { key, cost: 9 }, { key, cost: 0 }]);
    assert.deepEqual(many.map((one) => left(one)[1][1]), [20, 20, 20]);
    assert.deepEqual(many.map(waits), [[false, false], [true, false], [false, false]]);
    const together = await Promise.all([limiter.check(key, 0), limiter.check(key, 8), limiter.peek(key, 0)]);
    assert.deepEqual(together.map((one) => left(one)[0][1]), [5, 5, 5]);
    const reservation = await limiter.reserve(key, { cost: 2 });
    assert.deepEqual(left(reservation.decision), [['10/d', 3], ['25/d window', 18]]);
    assert.deepEqual(left(await reservation.settle(1)), [['10/d', 4], ['25/d window', 19]]);
    const far = await limiter.reserve(key, { cost: 5, maxWaitMs: 0 });
    assert.deepEqual([far.allowed, waits(far.decision)], [false, [true, false]]);
    assert.deepEqual(left(await limiter.acquire(key)), [['10/d', 3], ['25/d window', 18]]);
    assert.deepEqual(left(await limiter.settle(key, 1, 0)), [['10/d', 4], ['25/d window', 19]]);
    assert.deepEqual(left(await limiter.credit(key, 1)), [['10/d', 5], ['25/d window', 20]]);
    await assert.rejects(limiter.acquire(key, { cost: 9, timeoutMs: 0 }), (error) => {
      assert.ok(error instanceof RateLimited);
      assert.ok(error.decision.tiers.some((tier) => tier.limitName === error.decision.limitName));
      return true;
    });
    assert.deepEqual(left(await limiter.reset(key)), [['10/d', 10], ['25/d window', 25]]);
    const each = await limiter.check([`user ${key}`, `org ${key}`], [1, 20]);
    assert.deepEqual(left(each), [['10/d', 9], ['25/d window', 5]]);
    limiter.close();
  });

  test('a single limit says what the decision does', async () => {
    const limiter = make(['10/d']);
    const decision = await limiter.check(`k${keys++}`, 4);
    assert.deepEqual(decision.tiers.map((tier) => ({ ...tier })), [bound(decision)]);
    limiter.close();
  });

  test('unlimited keeps its place, and none is alone', async () => {
    const key = `k${keys++}`;
    const limiter = make(['unlimited', '10/d', 'unlimited', '25/d']);
    for (const decision of [await limiter.check(key, 4), await limiter.peek(key, 0), ...(await limiter.checkMany([{ key, cost: 0 }]))]) {
      assert.deepEqual(left(decision), [['unlimited', Infinity], ['10/d', 6], ['unlimited', Infinity], ['25/d', 21]]);
      assert.equal(decision.limitName, '10/d');
    }
    assert.deepEqual(left(await make(['unlimited', 'unlimited']).check(key)), [['unlimited', Infinity], ['unlimited', Infinity]]);
    const refused = await make(['10/d', 'none']).check(key);
    assert.deepEqual(refused.tiers.map((tier) => ({ ...tier })), [bound(refused)]);
    assert.equal(refused.limitName, 'none');
    limiter.close();
  });

  if (!takesLimits) return;
  test('limits of the call say what they say', async () => {
    const key = `k${keys++}`;
    const limiter = make(['5/d']);
    assert.deepEqual(left(await limiter.check(key, { cost: 4, limits: ['20/d', '25/d'] })), [['20/d', 16], ['25/d', 21]]);
    assert.deepEqual(left(await limiter.check(key)), [['5/d', 0]]);
    limiter.close();
  });
}
