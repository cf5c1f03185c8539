/** Both packages in one program: the classes of one know what the other one has made. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as node from 'tidegate';

import * as wasm from '../../bindings-wasm/js/dist/node.js';

const PAIRS = [[node, wasm], [wasm, node], [node, node]];

test('they are two copies', () => assert.notEqual(node.FakeClock, wasm.FakeClock));

test('errors of one are instances of the classes of the other', async () => {
  for (const [one, other] of PAIRS) {
    const limiter = one.createLimiter({ limits: '1/d' });
    limiter.checkSync('key');
    const errors = {
      InvalidLimit: thrownBy(() => one.limit('10/fortnight')),
      InvalidArgument: thrownBy(() => limiter.checkSync(5)),
      CostTooLarge: thrownBy(() => limiter.checkSync('key', 2)),
      RateLimited: await limiter.acquire('key', { timeoutMs: 1 }).catch((error) => error),
    };
    limiter.close();
    errors.StoreError = thrownBy(() => limiter.checkSync('key'));
    for (const [name, error] of Object.entries(errors)) {
      assert.equal(error.name, name);
      assert.ok(error instanceof other.TidegateError && error instanceof Error);
      const classes = ['InvalidLimit', 'InvalidArgument', 'CostTooLarge', 'RateLimited', 'StoreError', 'StoreTimeout', 'CorruptBucket'];
      assert.deepEqual(classes.filter((each) => error instanceof other[each]), [name]);
    }
    const late = new one.StoreTimeout('late');
    assert.ok(late instanceof other.StoreTimeout && late instanceof other.StoreError && !(late instanceof other.CorruptBucket));
  }
});

test('a derived class has its own instances only', () => {
  class Own extends node.StoreError {}
  assert.ok(new Own('own') instanceof Own && new Own('own') instanceof wasm.StoreError);
  assert.ok(!(new node.StoreError('other') instanceof Own) && !(new wasm.StoreError('other') instanceof Own));
  for (const value of [undefined, null, 5, 'text', {}, new Error('foreign'), Object.create(null)]) {
    assert.ok(!(value instanceof node.TidegateError) && !(value instanceof node.FakeClock));
  }
});

test('a FakeClock of one is moved by acquire of the other', async () => {
  for (const [one, other] of PAIRS) {
    const clock = new one.FakeClock();
    assert.ok(clock instanceof other.FakeClock);
    const limiter = other.createLimiter({ limits: '1/d burst 1', clock });
    for (let turn = 0; turn < 3; turn++) await limiter.acquire('key');
    assert.equal(clock.now(), 2n * 86_400_000_000_000n);
    clock.advance(86_400_000);
    assert.equal(limiter.checkSync('key').allowed, true);
    assert.equal(limiter.checkSync('key').allowed, false);
  }
});

test('limits of one are limits of the other', () => {
  for (const [one, other] of PAIRS) {
    const limit = one.limit('10 in any 1s burst 2', { name: 'vendor' });
    const plan = new one.Limits(limit, '100/d');
    assert.ok(limit instanceof other.Limit && plan instanceof other.Limits);
    for (const limits of [[limit, '100/d'], plan]) {
      const limiter = other.createLimiter({ limits, clock: new other.FakeClock() });
      assert.deepEqual(limiter.limits.map(({ name }) => name), ['vendor', '100/d']);
      assert.deepEqual([limiter.checkSync('key', 2).remaining, limiter.checkSync('key').allowed], [0, false]);
      assert.equal(limiter.withLimits(plan).limits[0].toString(), limit.toString());
    }
  }
});

function thrownBy(run) {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}
