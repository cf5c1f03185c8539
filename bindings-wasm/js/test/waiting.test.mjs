/** The waiting line of `acquire` in memory: who leaves loses nothing, and nobody gets more than the limit. */

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { InvalidArgument, RateLimited, StoreError, createLimiter } from 'tidegate-wasm';

import { assertUsed, mixFor, settleJobs } from './waiting.mjs';

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const turn = () => new Promise((resolve) => { setImmediate(resolve); });

test('with deadlines from outside and too many callers, all of the limit is used', async () => {
  await assertUsed(createLimiter({ limits: '100/s burst 1' }), 100);
});

test('callers that leave together cost the next one nothing', async () => {
  const limiter = createLimiter({ limits: '10/s burst 1' });
  const controller = new AbortController();
  const waits = Array.from({ length: 200 }, () => limiter.acquire('key', { signal: controller.signal }));
  await pause(300);
  controller.abort();
  const left = (await Promise.allSettled(waits)).filter(({ status }) => status === 'rejected');
  assert.ok(left.length >= 150 && left.every(({ reason }) => reason.name === 'AbortError'));
  assert.ok(limiter.peekSync('key', 0).resetAfterMs <= 200, 'the next slot and one more');
  assert.deepEqual(limiter.waiting('key'), { callers: 0, tokens: 0, untilMs: 0 });
});

test('who leaves in the middle lets those behind move up, in their order', async () => {
  const limiter = createLimiter({ limits: '20/s burst 1' });
  const controller = new AbortController();
  const order = [];
  const acquire = (name, options) => limiter.acquire('key', options).then(() => order.push(name), () => {});
  const all = [acquire('first'), acquire('second')];
  for (let number = 0; number < 40; number++) all.push(acquire('leaver', { signal: controller.signal }));
  all.push(acquire('last', { cost: 1 }), acquire('after'));
  await turn();
  controller.abort();
  const { callers, untilMs } = limiter.waiting('key');
  assert.ok(callers <= 3 && untilMs <= 150, `${callers} callers for ${untilMs} ms`);
  await Promise.all(all);
  assert.deepEqual(order, ['first', 'second', 'last', 'after']);
});

test('a hold reaches those who wait, who then go on at the normal pace', async () => {
  const limiter = createLimiter({ limits: '20/s burst 1' });
  const controller = new AbortController();
  const admitted = [];
  const waits = Array.from({ length: 50 }, () => {
    return limiter.acquire('key', { signal: controller.signal }).then(() => admitted.push(performance.now()));
  });
  await pause(75);
  limiter.holdSync('key', 500);
  const heldAt = performance.now();
  const before = admitted.length;
  await pause(700);
  controller.abort();
  const ended = performance.now();
  await Promise.allSettled(waits);
  const after = admitted.slice(before);
  assert.ok(after[0] >= heldAt + 499, `one came ${after[0] - heldAt} ms after the hold began`);
  assert.ok(after.length >= 3 && after.length <= (ended - heldAt - 500) / 50 + 2, `${after.length} after the hold`);
});

test('a reset moves up those who wait', async () => {
  const limiter = createLimiter({ limits: '2/h' });
  limiter.checkSync('key', 2);
  limiter.holdSync('key', 3_600_000);
  const waits = [limiter.acquire('key'), limiter.acquire('key')];
  await turn();
  await limiter.reset('key');
  assert.deepEqual((await Promise.all(waits)).map(({ allowed }) => allowed), [true, true]);
});

test('tokens that a job does not need go to those who wait', async () => {
  const limiter = createLimiter({ limits: '60000/s burst 4000' });
  const share = await settleJobs(limiter, 60, 4000, 1000);
  assert.ok(share >= 0.9 && share <= 1.08, `${share} of the limit was used`);
});

test('credits and cancelled reservations go to those who wait, and the rest to the bucket', async () => {
  const limiter = createLimiter({ limits: '10/h' });
  limiter.checkSync('key', 10);
  const reservation = limiter.reserveSync('key', { cost: 2 });
  const first = limiter.acquire('key', { cost: 3 });
  const second = limiter.acquire('key', { cost: 2 });
  await turn();
  assert.deepEqual(limiter.waiting('key').callers, 2);
  assert.equal((await limiter.credit('key', 3)).remaining, 0);
  assert.ok((await first).allowed);
  assert.equal(await reservation.cancel(), true);
  const before = limiter.waiting('key').untilMs;
  assert.ok(before > 0 && before <= 2 * 360_000, `the slot that was cancelled is ${before} ms away`);
  limiter.creditSync('key', 9);
  assert.ok((await second).allowed);
  assert.equal(limiter.peekSync('key', 0).remaining, 7);
});

test('a signal has one listener, however many wait for it', async () => {
  const limiter = createLimiter({ limits: '10/s burst 1' });
  const another = createLimiter({ limits: '10/s burst 1' });
  another.checkSync('key');
  const controller = new AbortController();
  const { signal } = controller;
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...given) => { listeners++; addEventListener.apply(signal, given); };
  signal.removeEventListener = (...given) => { listeners--; removeEventListener.apply(signal, given); };
  const waits = Array.from({ length: 12 }, () => limiter.acquire('key', { signal }));
  waits.push(another.acquire('key', { signal }));
  assert.equal(listeners, 1);
  await waits[1];
  assert.equal(listeners, 1);
  controller.abort();
  await Promise.allSettled(waits);
  const next = limiter.acquire('key', { signal: new AbortController().signal });
  assert.ok((await next).allowed);
});

test('a close tells those who wait, and later calls', async () => {
  const limiter = createLimiter({ limits: '1/h' });
  const [first, second] = [limiter.acquire('key'), limiter.acquire('key')];
  assert.ok((await first).allowed);
  limiter.close();
  await assert.rejects(second, (error) => error instanceof StoreError && /closed/.test(error.message));
  await assert.rejects(limiter.acquire('key'), { code: 'store_error' });
  await assert.rejects(limiter.acquire('key', { signal: AbortSignal.timeout(5) }), { code: 'store_error' });
});

test('a line is bounded for each key, and visible', async () => {
  const limiter = createLimiter({ limits: '10/s burst 2', maxWaiting: 3 });
  limiter.checkSync('key', 2);
  limiter.checkSync('other', 2);
  const controller = new AbortController();
  const { signal } = controller;
  const waits = [1, 2, 1].map((cost) => limiter.acquire('key', { cost, signal }));
  const { callers, tokens, untilMs } = limiter.waiting('key');
  assert.deepEqual([callers, tokens], [3, 4]);
  assert.ok(untilMs > 300 && untilMs <= 400, `${untilMs}`);
  assert.deepEqual(limiter.waiting('other'), { callers: 0, tokens: 0, untilMs: 0 });
  await assert.rejects(limiter.acquire('key'), (error) => {
    assert.ok(error instanceof RateLimited);
    assert.ok(error.decision.retryAfterMs > 250 && error.decision.retryAfterMs <= 400, `${error.decision.retryAfterMs}`);
    return true;
  });
  waits.push(limiter.acquire('other', { signal }));
  assert.equal(limiter.waiting('other').callers, 1);
  controller.abort();
  await Promise.allSettled(waits);
  for (const maxWaiting of [0, 1_000_001, 1.5, '3', null]) {
    assert.throws(() => createLimiter({ limits: '1/s', maxWaiting }), (error) => {
      return error instanceof InvalidArgument && /^invalid maxWaiting: .*from 1 to 1000000/.test(error.message);
    });
  }
});

test('where no wait is needed, acquire costs what check costs', async () => {
  const limiter = createLimiter({ limits: '1000000000/s' });
  const calls = { check: () => limiter.check('key'), acquire: () => limiter.acquire('key') };
  const least = { check: Infinity, acquire: Infinity };
  // Other work of the machine only adds to the time, so the least of many rounds is compared.
  for (let round = 0; round < 60; round++) {
    for (const [name, call] of Object.entries(calls)) {
      const started = performance.now();
      for (let number = 0; number < 4000; number++) await call();
      least[name] = Math.min(least[name], performance.now() - started);
    }
  }
  assert.ok(least.acquire <= 1.5 * least.check, `${least.acquire} and ${least.check} ms`);
});

test('callers of many keys wait and leave side by side', async () => {
  const limiter = createLimiter({ limits: '1/h' });
  const controllers = new Map();
  const waits = [];
  for (let number = 0; number < 3000; number++) {
    const key = `key ${(number * 7919) % 1500}`;
    limiter.checkSync(key);
    const controller = new AbortController();
    controllers.set(number, { key, controller });
    waits.push(limiter.acquire(key, { signal: controller.signal }).catch(({ name }) => name));
  }
  assert.equal(limiter.waiting('key 1').callers, 2);
  for (const [number, { key, controller }] of controllers) {
    const before = limiter.waiting(key).callers;
    controller.abort();
    assert.equal(limiter.waiting(key).callers, before - 1, `${number}`);
  }
  assert.ok((await Promise.all(waits)).every((name) => name === 'AbortError'));
  for (const { key } of controllers.values()) assert.ok(limiter.peekSync(key, 0).resetAfterMs <= 3_600_000);
});

test('whatever happens to those who wait, the limit is kept and everybody is answered', async () => {
  await mixFor(1500, createLimiter({ limits: '500/s burst 10' }), { rate: 500, burst: 10 });
});

test('a key is the same as bytes and as text, alone and in an array', async () => {
  const limiter = createLimiter({ limits: '1/h' });
  limiter.checkSync('key');
  const controller = new AbortController();
  const keys = ['key', new TextEncoder().encode('key'), ['key']];
  const waits = keys.map((key) => limiter.acquire(key, { signal: controller.signal }));
  for (const key of keys) assert.equal(limiter.waiting(key).callers, 3);
  controller.abort();
  await Promise.allSettled(waits);
});

test('the timers of node:test are enough, although they do not move performance.now()', async () => {
  const limiter = createLimiter({ limits: '1/h' });
  await limiter.acquire('key');
  for (const apis of [['setTimeout'], ['setTimeout', 'Date']]) {
    mock.timers.enable({ apis });
    try {
      const waiting = limiter.acquire('key');
      mock.timers.tick(3_600_000);
      assert.ok((await waiting).allowed);
    } finally {
      mock.timers.reset();
    }
  }
});

test('who waits for a timer of a test that has ended is served when another comes', async () => {
  const limiter = createLimiter({ limits: '20/s burst 1' });
  limiter.checkSync('key');
  mock.timers.enable({ apis: ['setTimeout'] });
  const left = limiter.acquire('key');
  mock.timers.reset();
  await Promise.all([left, limiter.acquire('key')]);
});

test('a clock that a test puts back does not stop those who wait', async () => {
  const real = performance.now;
  const limiter = createLimiter({ limits: '50/s burst 1' });
  performance.now = () => real.call(performance) + 3_600_000;
  try {
    await limiter.acquire('key');
  } finally {
    performance.now = real;
  }
  await limiter.acquire('key');
});
