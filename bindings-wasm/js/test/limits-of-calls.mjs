/** Tests of limits that come with a call, for any store. */

import assert from 'node:assert/strict';
import test from 'node:test';

/**
 * Adds the tests.
 *
 * @param api the package's exports
 * @param {string} store the store's name, for the names of the tests
 * @param {(options: object) => object} make makes a limiter on that store, with a prefix of its own
 */
export function testLimitsOfCalls(api, store, make) {
  const { Limits, Limit, CostTooLarge, InvalidArgument, InvalidLimit, RateLimited, StoreError } = api;

  test(`${store}: a key has one bucket under the limits of any call`, async () => {
    const limiter = await make({ limits: '10/d' });
    const paid = new Limits('1000/d');
    assert.equal((await limiter.check('a', 4)).remaining, 6);
    const { remaining, limit, limitName } = await limiter.check('a', { limits: paid });
    assert.deepEqual({ remaining, limit, limitName }, { remaining: 995, limit: 1000, limitName: '1000/d' });
    assert.equal((await limiter.peek('a', 0)).remaining, 5);
    assert.equal((await limiter.check('b', { limits: paid })).remaining, 999);
  });

  test(`${store}: every operation works under the limits of a call`, async () => {
    const limiter = await make({ limits: 'none' });
    const plan = ['100/d', '1000/d'];
    const under = limiter.withLimits(plan);
    assert.equal((await limiter.check('k')).allowed, false);
    assert.equal((await limiter.check('k', { cost: [1, 500], limits: plan })).limitName, '100/d');
    const many = await under.checkMany(['k', { key: 'k', cost: 98 }]);
    assert.deepEqual(many.map(({ allowed }) => allowed), [true, true]);
    assert.equal((await limiter.peek('k', { limits: plan })).allowed, false);
    assert.equal((await under.credit('k', 50)).remaining, 50);
    const reservation = await limiter.reserve('k', { cost: 10, limits: plan });
    assert.equal(reservation.delayMs, 0);
    assert.equal(await reservation.cancel(), true);
    assert.equal((await under.settle('k', 0, 10)).remaining, 40);
    assert.equal((await limiter.acquire('k', { cost: 10, limits: plan })).remaining, 30);
    await assert.rejects(limiter.acquire('k', { cost: 31, timeoutMs: 500, limits: plan }), RateLimited);
    const charge = await limiter.reserving('k', { cost: 10, limits: plan });
    assert.equal((await charge.settle(5)).remaining, 25);
    assert.equal(under.waiting('k').callers, 0);
    assert.equal((await under.hold('k', 1_000_000)).remaining, 0);
    assert.equal((await under.reset('k')).remaining, 100);
  });

  test(`${store}: unlimited and none as plans`, async () => {
    const limiter = await make({ limits: '2/d' });
    assert.equal((await limiter.check('k', { cost: 1_000_000, limits: 'unlimited' })).allowed, true);
    assert.equal((await limiter.check('k', { limits: ['2/d', 'none'] })).allowed, false);
    assert.equal((await limiter.check('k', { cost: 2, limits: ['unlimited', '2/d'] })).limitName, '2/d');
    assert.equal((await limiter.check('k')).allowed, false);
  });

  test(`${store}: a text, a limit and Limits are the same plan`, async () => {
    const limiter = await make({ limits: '1/d' });
    for (const limits of ['2/d', new Limit('2/d'), { tokens: 2, periodMs: 86_400_000, name: '2/d' }, ['2/d'], new Limits('2/d')]) {
      assert.equal((await limiter.peek('k', { limits })).remaining, 1);
    }
    assert.equal(limiter.withLimits('2/d'), limiter.withLimits(new Limits('2/d')));
    assert.equal(limiter.withLimits('2/d').withLimits('3/d'), limiter.withLimits('3/d'));
    const named = new Limit('2/d', { name: 'two' });
    assert.equal((await limiter.peek('k', { limits: named })).limitName, 'two');
    assert.equal(String(new Limits('2/d', '1/h')), '2/d, 1/h');
    assert.deepEqual([...new Limits('2/d')].map(String), ['2/d']);
  });

  test(`${store}: what is no plan changes nothing`, async () => {
    const limiter = await make({ limits: '10/s burst 3' });
    for (const limits of ['10', [], Array(5).fill('1/s')]) await assert.rejects(limiter.check('k', { limits }), InvalidLimit);
    for (const limits of [10, [10], null, new Map()]) await assert.rejects(limiter.check('k', { limits }), InvalidArgument);
    await assert.rejects(limiter.check('k', { cost: 3, limits: '2/s' }), CostTooLarge);
    await assert.rejects(limiter.check('k', { cost: [1, 1], limits: '2/s' }), InvalidArgument);
    await assert.rejects(limiter.check('k', { other: 1, limits: '2/s' }), InvalidArgument);
    assert.equal((await limiter.peek('k', 0)).remaining, 3);
  });

  test(`${store}: limits in the wrong place are refused, not ignored`, async () => {
    const limiter = await make({ limits: '10/d' });
    const limits = '20/d';
    await assert.rejects(limiter.check('k', 1, { limits }), InvalidArgument);
    await assert.rejects(limiter.peek('k', 1, { limits }), InvalidArgument);
    await assert.rejects(limiter.checkMany(['k'], { limits }), InvalidArgument);
    await assert.rejects(limiter.settle('k', 1, 1, { limits }), InvalidArgument);
    await assert.rejects(limiter.credit('k', 1, { limits }), InvalidArgument);
    await assert.rejects(limiter.hold('k', 1, { limits }), InvalidArgument);
    await assert.rejects(limiter.reset('k', { limits }), InvalidArgument);
    assert.throws(() => limiter.waiting('k', { limits }), InvalidArgument);
    assert.equal((await limiter.peek('k', 0)).remaining, 10);
  });

  test(`${store}: none refuses whatever the costs, and a failed call changes nothing`, async () => {
    const limiter = await make({ limits: ['60/min', 'none'] });
    for (const cost of [1, [1, 1500], [0, 1]]) {
      assert.equal((await limiter.check('k', { cost })).allowed, false);
      assert.equal((await limiter.check('k', { cost, limits: ['none', '60/min'] })).allowed, false);
    }
    const two = ['1000/d', '1000/d'];
    assert.equal((await limiter.check('debt', { cost: [0, 900], limits: two })).allowed, true);
    await assert.rejects(limiter.check('debt', { cost: 10, limits: '100/s burst 7' }), CostTooLarge);
    assert.equal((await limiter.check('debt', { cost: [0, 500], limits: two })).allowed, false);
  });

  test(`${store}: a key is another bucket in each place`, async () => {
    const limiter = await make({ limits: ['10/d', '100/d'] });
    await limiter.check('any', { limits: '5/s' });
    for (let user = 0; user < 50; user += 1) await limiter.check([`{o}u${user}`, '{o}7']);
    assert.equal((await limiter.check(['{o}7', '{o}o'])).allowed, true);
  });

  test(`${store}: a hold reaches those who wait under other limits, and close tells them`, async () => {
    const limiter = await make({ limits: '1000/s burst 1' });
    const under = limiter.withLimits(['1000/s burst 1', '1000/d']);
    await limiter.hold('k', 300);
    const waiting = under.acquire('k').then(() => 'served', (error) => error);
    while (under.waiting('k').callers === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await limiter.hold('k', 60_000);
    const first = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 700, 'waits'))]);
    assert.equal(first, 'waits');
    under.close();
    assert.ok((await waiting) instanceof StoreError);
    await assert.rejects(limiter.check('k'), StoreError);
    assert.throws(() => limiter.withLimits('3/d'), StoreError);
  });

  test(`${store}: more plans than are kept share their buckets all the same`, async () => {
    const limiter = await make({ limits: '10/d' });
    for (let number = 0; number < 1500; number += 1) {
      const { remaining } = await limiter.check('k', { limits: `${10_000 + number}/d` });
      assert.equal(remaining, 10_000 + number - (number + 1));
    }
  });
}
