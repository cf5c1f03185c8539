/** Arguments have one shape in every method, and what is given wrongly is refused by name. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CostTooLarge, FakeClock, InvalidArgument, Limiter, Limits, createLimiter, limit } from 'tidegate-wasm';

const REST = { remaining: 7, allowed: true };

test('a cost is a number or the field of an object, in each method with a cost alone', async () => {
  for (const method of ['check', 'checkSync', 'peek', 'peekSync']) {
    for (const cost of [3, { cost: 3 }]) {
      const limiter = createLimiter({ limits: '10/d', clock: new FakeClock() });
      const { remaining, allowed } = await limiter[method]('key', cost);
      assert.deepEqual({ remaining, allowed }, REST, `${method} ${JSON.stringify(cost)}`);
    }
    const limiter = createLimiter({ limits: '10/d' });
    const call = async (cost) => limiter[method]('key', cost);
    for (const none of [undefined, {}, { cost: undefined }]) assert.equal((await call(none)).allowed, true);
    await assert.rejects(call(11), CostTooLarge);
    await assert.rejects(call({ cost: 11 }), CostTooLarge);
    for (const wrong of [-1, 1.5, '3', null, true, { tokens: 3 }, { cost: '3' }]) {
      await assert.rejects(call(wrong), InvalidArgument, `${method} ${JSON.stringify(wrong)}`);
    }
  }
});

test('a limiter is made by createLimiter, and the class says so', () => {
  for (const given of [[], [{ limits: '1/s' }], ['1/s'], [['1/s'], {}]]) {
    assert.throws(() => new Limiter(...given), { name: 'InvalidArgument', message: /createLimiter\(\{ limits/ });
  }
});

test('a signal may be null, as that of fetch', async () => {
  const limiter = createLimiter({ limits: '1000/s burst 1' });
  for (let slot = 0; slot < 3; slot++) assert.equal((await limiter.acquire('key', { signal: null })).allowed, true);
  const charge = await limiter.reserving('key', { cost: 1, signal: null });
  assert.equal(charge.cost, 1);
  await assert.rejects(limiter.acquire('key', { signal: 'none' }), InvalidArgument);
});

test('a store that is given but undefined is refused, because a variable is not set', () => {
  const { TIDEGATE_NOT_SET: store } = process.env;
  assert.throws(() => createLimiter({ limits: '1/s', store }), { name: 'InvalidArgument', message: /store.*undefined.*leave it out/ });
  assert.equal(createLimiter({ limits: '1/s', prefix: undefined, clock: undefined }).checkSync('key').source, 'memory');
});

test('limits in place of the options are told where they belong', () => {
  for (const given of ['10/s', ['10/s', '100/min'], []]) {
    const message = /invalid options: it must be an object, but is .*: write createLimiter\(\{ limits: '10\/s' \}\), or limits: \[\.\.\.\] for several/;
    assert.throws(() => createLimiter(given), { name: 'InvalidArgument', message });
  }
  assert.throws(() => createLimiter(undefined), { name: 'InvalidArgument', message: /must be an object, but is undefined$/ });
});

test('limits are an array or `Limits`, and another collection is told so', () => {
  const texts = ['10/s', '100/min'];
  const generator = (function* () {
    yield* texts;
  })();
  const limiter = createLimiter({ limits: '10/s' });
  for (const given of [new Set(texts), generator, new Map([[1, 2]]), texts.values(), new Uint8Array(2)]) {
    const message = /limit: it must be a text .* but is an iterable object; give several as an array, \[\.\.\.limits\]/;
    for (const use of [
      () => createLimiter({ limits: given }), () => createLimiter({ limits: [given] }), () => new Limits(given),
      () => limiter.withLimits(given), () => limiter.checkSync('key', { limits: given }), () => limit(given),
    ]) {
      assert.throws(use, { name: 'InvalidArgument', message });
    }
  }
  assert.throws(() => limit(texts), { name: 'InvalidArgument', message: /but is an array/ });
  for (const given of [texts, new Limits(...texts), [...new Set(texts)]]) {
    assert.deepEqual(createLimiter({ limits: given }).limits.map(String), texts);
  }
});
