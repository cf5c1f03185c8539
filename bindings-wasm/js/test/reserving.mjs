/** The tests of `reserving` that hold for every store. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

const POLLS = 3000;
const ours = new Error('ours');
const isOurs = (error) => error === ours;
const isUsedUp = { code: 'invalid_argument', message: /^invalid charge: it has been cancelled, settled or disposed of/ };

/**
 * Adds the tests. `make` builds a limiter from its options, on a store of its own for each test. Each
 * test takes the limit of 100 tokens a day, of which none comes back by itself meanwhile.
 */
export function testReserving(make, { Charge, RateLimited }) {
  const limited = () => make({ limits: '100/d' });
  const left = async (limiter, key = 'key') => (await limiter.peek(key, { cost: 0 })).remaining;

  test('what is settled is charged at its true size', async () => {
    const limiter = limited();
    const charge = await limiter.reserving('key', { cost: 40 });
    assert.ok(charge instanceof Charge);
    assert.deepEqual([charge.cost, charge.decision.allowed, charge.decision.remaining], [40, true, 60]);
    assert.equal((await charge.settle(15)).remaining, 85);
    const more = await limiter.reserving('key', { cost: 10 });
    assert.equal((await more.settle(50)).remaining, 35);
    assert.equal(await left(limiter), 35);
  });

  test('a charge is corrected once', async () => {
    const limiter = limited();
    const settled = await limiter.reserving('key', { cost: 40 });
    const settles = await Promise.allSettled([settled.settle(15), settled.settle(5), settled.cancel()]);
    assert.deepEqual(settles.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
    assert.equal(settles[2].value, false);
    await assert.rejects(settled.settle(5), isUsedUp);
    const cancelled = await limiter.reserving('key', { cost: 40 });
    assert.equal(await cancelled.cancel(), true);
    assert.equal(await cancelled.cancel(), false);
    await assert.rejects(cancelled.settle(5), isUsedUp);
    assert.equal(await left(limiter), 85);
  });

  test('what is neither settled nor cancelled when it is disposed of counts at the estimate', async () => {
    const limiter = limited();
    const charge = await limiter.reserving('key', { cost: 40 });
    assert.equal(await charge[Symbol.asyncDispose](), undefined);
    await assert.rejects(charge.settle(15), isUsedUp);
    assert.equal(await charge.cancel(), false);
    assert.equal(await left(limiter), 60);
    const settled = await limiter.reserving('key', { cost: 40 });
    await settled.settle(15);
    await settled[Symbol.asyncDispose]();
    assert.equal(await left(limiter), 45);
  });

  test('a function gets the charge, and what it gives is the answer', async () => {
    const limiter = limited();
    const answer = await limiter.reserving('key', { cost: 40 }, async (charge) => {
      assert.ok(charge instanceof Charge);
      await charge.settle(15);
      return 'answer';
    });
    assert.equal(answer, 'answer');
    let kept;
    assert.equal(await limiter.reserving('key', { cost: 40 }, (charge) => { kept = charge; }), undefined);
    await assert.rejects(kept.settle(15), isUsedUp);
    assert.equal(await left(limiter), 45);
  });

  for (const [how, work] of [['throws', () => { throw ours; }], ['rejects', async () => { throw ours; }]]) {
    test(`a function that ${how} gives all tokens back`, async () => {
      const limiter = limited();
      await assert.rejects(limiter.reserving('key', { cost: 40 }, async (charge) => {
        // Others are charged meanwhile, and all of the estimate comes back nevertheless.
        await limiter.check('key', { cost: 10 });
        return work(charge);
      }), isOurs);
      assert.equal(await left(limiter), 90);
      await assert.rejects(limiter.reserving('key', { cost: 40, onError: 'cancel' }, work), isOurs);
      assert.equal(await left(limiter), 90);
      await assert.rejects(limiter.reserving('key', { cost: 40, onError: 'settle' }, work), isOurs);
      assert.equal(await left(limiter), 50);
    });
  }

  test('an error after a settle changes nothing', async () => {
    const limiter = limited();
    await assert.rejects(limiter.reserving('key', { cost: 40 }, async (charge) => {
      await charge.settle(15);
      throw ours;
    }), isOurs);
    assert.equal(await left(limiter), 85);
  });

  test('it waits as acquire does', async () => {
    const limiter = limited();
    await limiter.check('key', { cost: 100 });
    const never = () => assert.fail('the function was called');
    for (const work of [[], [never]]) {
      await assert.rejects(limiter.reserving('key', { cost: 2, timeoutMs: 10 }, ...work), (error) => {
        return error instanceof RateLimited && error.key === 'key';
      });
      await assert.rejects(limiter.reserving('key', { cost: 2, signal: AbortSignal.timeout(20) }, ...work), {
        name: 'TimeoutError',
      });
      await assert.rejects(limiter.reserving('key', { cost: 101 }, ...work), { code: 'cost_too_large' });
    }
    const { resetAfterMs } = await limiter.peek('key', { cost: 0 });
    assert.ok(resetAfterMs <= 86_400_000, `${resetAfterMs}: those who left owe nothing`);
  });

  test('the caller may change its keys', async () => {
    const limiter = make({ limits: ['100/d', '100/d'] });
    const org = new TextEncoder().encode('org');
    const keys = ['user', org];
    const charge = await limiter.reserving(keys, { cost: 40 });
    keys.length = 0;
    org.fill(0);
    assert.equal((await charge.settle(15)).remaining, 85);
    assert.equal(await left(limiter, ['user', new TextEncoder().encode('org')]), 85);
  });

  test('mistakes charge nothing', async () => {
    const limiter = limited();
    const refused = (name, ...given) => assert.rejects(limiter.reserving(...given), {
      code: 'invalid_argument',
      message: new RegExp(`^invalid ${name}: `),
    });
    await refused('options', 'key');
    await refused('options', 'key', { cost: 1, estimate: 2 });
    await refused('cost', 'key', {});
    await refused('cost', 'key', { cost: -1 });
    await refused('timeoutMs', 'key', { cost: 1, timeoutMs: -1 });
    await refused('signal', 'key', { cost: 1, signal: 5 });
    await refused('work', 'key', { cost: 1 }, 'work');
    await refused('onError', 'key', { cost: 1, onError: 'cancel' });
    for (const onError of ['drop', null, 5]) await refused('onError', 'key', { cost: 1, onError }, () => {});
    for (const key of [5, 1e15, null, ['a', 'b'], [1e15]]) await refused('key', key, { cost: 1 });
    const charge = await limiter.reserving('key', { cost: 40 });
    await assert.rejects(charge.settle(-1), { message: /^invalid actual: / });
    assert.equal((await charge.settle(15)).remaining, 85);
    await assert.rejects(limiter.reserving('key', { cost: 40, onError: 'drop' }, () => {}), {
      message: 'invalid onError: it must be "cancel" or "settle", but is "drop"',
    });
    assert.equal(await left(limiter), 85);
  });
}

// Waits until the store has told the slot of those who wait for the key.
async function hasSlot(limiter) {
  for (let left = POLLS; limiter.waiting('key').untilMs === 0; left--) {
    assert.ok(left > 0, 'nobody waits');
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

/** Adds the test that tokens which come back go to those who wait. */
export function testHandingOn(make) {
  test('tokens that come back go to those who wait', async () => {
    const limiter = make({ limits: '100/d' });
    const charge = await limiter.reserving('key', { cost: 100 });
    const first = limiter.acquire('key', { cost: 30 });
    await hasSlot(limiter);
    await charge.settle(60);
    assert.ok((await first).allowed);
    await limiter.reset('key');
    let second;
    await assert.rejects(limiter.reserving('key', { cost: 100 }, async () => {
      second = limiter.acquire('key', { cost: 30 });
      await hasSlot(limiter);
      throw ours;
    }), isOurs);
    assert.ok((await second).allowed);
  });
}

/** Adds the tests of a store that fails. `spoil` makes buckets unreadable, and `mend` makes them good again. */
export function testFailures(make, { spoil, mend }) {
  const limited = () => make({ limits: '100/d' });
  const left = async (limiter) => (await limiter.peek('key', { cost: 0 })).remaining;

  test('a settle that the store failed can be made again', async () => {
    const limiter = limited();
    const charge = await limiter.reserving('key', { cost: 40 });
    spoil();
    await assert.rejects(charge.settle(15), { code: 'corrupt_bucket' });
    await assert.rejects(charge.cancel(), { code: 'corrupt_bucket' });
    mend();
    assert.equal((await charge.settle(15)).remaining, 85);
    await assert.rejects(charge.settle(15), isUsedUp);
  });

  test('after a failed settle tokens do not come back by themselves', async () => {
    const limiter = limited();
    await assert.rejects(limiter.reserving('key', { cost: 40 }, async (charge) => {
      spoil();
      try {
        await charge.settle(15);
      } finally {
        mend();
      }
    }), { code: 'corrupt_bucket' });
    assert.equal(await left(limiter), 60, 'the store may have carried out the settle');
  });

  test('a failure of the store does not hide the error of the function', async () => {
    const limiter = limited();
    await assert.rejects(limiter.reserving('key', { cost: 40 }, () => {
      spoil();
      throw ours;
    }), isOurs);
    mend();
    assert.equal(await left(limiter), 60);
    await assert.rejects(limiter.reserving('key', { cost: 40 }, () => {
      limiter.close();
      throw ours;
    }), isOurs);
  });
}
