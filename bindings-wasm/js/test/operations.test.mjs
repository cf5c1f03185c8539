/** Operations other than the check: reservations, corrections, holds, several keys, many checks. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as api from 'tidegate-wasm';

const { createLimiter, FakeClock, InvalidArgument, Reservation, StoreError } = api;

const SECOND = 1_000_000_000n;

function limiterAt(limits, now = 7n * SECOND) {
  const clock = new FakeClock(now);
  return { clock, limiter: createLimiter({ limits, clock }) };
}

test('reservations queue up, and one too far charges nothing', async () => {
  const { limiter } = limiterAt('2/s burst 1');
  const slots = [limiter.reserveSync('key'), await limiter.reserve('key'), limiter.reserveSync('key', { cost: 1 })];
  assert.deepEqual(slots.map(({ delayMs }) => delayMs), [0, 500, 1000]);
  assert.ok(slots.every((slot) => slot instanceof Reservation && slot.allowed && slot.decision.allowed));
  for (const maxWaitMs of [0, 1499, 1499.999999]) {
    const { allowed, delayMs, decision, cost } = limiter.reserveSync('key', { maxWaitMs });
    assert.deepEqual([allowed, delayMs, cost, decision.allowed], [false, Infinity, 1, false]);
    assert.equal(decision.retryAfterMs, maxWaitMs === 0 ? 1500 : 1);
  }
  assert.equal(limiter.reserveSync('key', { maxWaitMs: 1500 }).delayMs, 1500);
});

test('a delay is rounded up: waiting for as long is enough', () => {
  const { clock, limiter } = limiterAt('3/s burst 1');
  limiter.reserveSync('key');
  const slot = limiter.reserveSync('key');
  assert.equal(slot.delayMs, 334);
  slot.cancelSync();
  clock.advance(slot.delayMs);
  assert.ok(limiter.checkSync('key').allowed);
});

test('cancelling: all comes back to the last in the queue, nothing from its middle', async () => {
  const { limiter } = limiterAt('2/s burst 1');
  const [, second, third] = [1, 2, 3].map(() => limiter.reserveSync('key'));
  assert.equal(second.cancelSync(), false);
  assert.equal(await third.cancel(), true);
  assert.equal(limiter.reserveSync('key').delayMs, third.delayMs);
});

test('a reservation is used up by a cancel or a settlement', async () => {
  const { limiter } = limiterAt('10/s');
  const cancelled = limiter.reserveSync('key', { cost: 4 });
  assert.equal(cancelled.cancelSync(), true);
  assert.equal(cancelled.cancelSync(), false);
  assert.equal(await cancelled.cancel(), false);
  assert.throws(() => cancelled.settleSync(1), /^InvalidArgument: invalid reservation: it was refused, cancelled or settled/);

  const settled = limiter.reserveSync('key', { cost: 4 });
  assert.equal((await settled.settle(1)).remaining, 9);
  assert.equal(settled.cancelSync(), false);
  await assert.rejects(settled.settle(1), InvalidArgument);

  const refused = limiter.reserveSync('key', { cost: 10, maxWaitMs: 0 });
  assert.equal(refused.cancelSync(), false);
  assert.throws(() => refused.settleSync(1), InvalidArgument);
  assert.equal(limiter.peekSync('key', 0).remaining, 9);
});

test('a settlement with a wrong number leaves the reservation to be settled', () => {
  const { limiter } = limiterAt('10/s');
  const slot = limiter.reserveSync('key', { cost: 4 });
  assert.throws(() => slot.settleSync(-1), /^InvalidArgument: invalid actual: it must be a whole number/);
  assert.equal(slot.settleSync(12).remaining, 0);
  assert.equal(limiter.checkSync('key').retryAfterMs, 300);
});

test('a reservation outlives a growth of the memory and changes of its key', () => {
  const { limiter } = limiterAt('1/d');
  const key = Buffer.from('the key');
  const slot = limiter.reserveSync(key);
  key.fill(0);
  for (let number = 0; number < 100_000; number++) limiter.checkSync(`key ${number}`);
  assert.equal(slot.cancelSync(), true);
  assert.ok(limiter.checkSync('the key').allowed);
});

test('settle, credit, hold and reset, with and without a promise', async () => {
  const { clock, limiter } = limiterAt('10/s');
  assert.equal(limiter.checkSync('key', 4).remaining, 6);
  assert.equal(limiter.settleSync('key', 4, 1).remaining, 9);
  assert.equal((await limiter.settle('key', 0, 14)).remaining, 0);
  assert.equal(limiter.checkSync('key').retryAfterMs, 600);
  assert.equal((await limiter.credit('key', 5)).remaining, 0);
  assert.equal(limiter.creditSync('key', 1000).remaining, 10);

  assert.equal((await limiter.hold('key', 30_000)).remaining, 0);
  assert.equal(limiter.holdSync('key', 1).remaining, 0);
  assert.equal(limiter.checkSync('key').retryAfterMs, 30_000);
  clock.advance(30_000);
  assert.deepEqual([1, 2].map(() => limiter.checkSync('key').allowed), [true, false]);

  limiter.holdSync('key', Infinity);
  assert.equal((await limiter.reset('key')).remaining, 10);
  limiter.checkSync('key', 10);
  assert.equal(limiter.resetSync('key').remaining, 10);
});

test('one key per limit: the user\'s and the organisation\'s bucket, both or neither', async () => {
  const { limiter } = limiterAt(['10/min', '15/min']);
  assert.ok(limiter.checkSync(['user:1', 'org:7'], 10).allowed);
  const refused = await limiter.check(['user:2', Buffer.from('org:7')], { cost: 6 });
  assert.deepEqual([refused.allowed, refused.limitName], [false, '15/min']);
  assert.equal((await limiter.peek(['user:2', 'org:8'], { cost: 0 })).remaining, 10, 'the user was not charged');
  assert.ok(limiter.checkSync(['user:2', 'org:7'], 5).allowed);
  assert.equal(limiter.peekSync(['user:2', 'org:8'], 0).remaining, 5);
  assert.equal(limiter.peekSync(['user:3', 'org:7'], 0).remaining, 0);
});

test('keys per limit: their limit is part of their name, and a single key is another', () => {
  const { limiter } = limiterAt(['10/min', '15/min']);
  assert.equal(limiter.checkSync(['a', 'b'], 10).remaining, 0);
  assert.equal(limiter.peekSync(['b', 'c'], 0).remaining, 10);
  assert.equal(limiter.peekSync(['c', 'a'], 0).remaining, 10);
  assert.equal(limiter.peekSync('a', 0).remaining, 10);
  assert.equal(limiter.checkSync(['a', 'a'], 0).remaining, 0);
});

test('keys per limit of different lengths do not run into each other', () => {
  const { limiter } = limiterAt(['10/min', '10/min']);
  limiter.checkSync(['u', 'organisation:1'], 10);
  assert.equal(limiter.peekSync(['v', 'organisation:2'], 0).remaining, 10);
  limiter.checkSync(['a longer user', 'o'], 10);
  assert.equal(limiter.peekSync(['another user, longer still', 'o'], 0).remaining, 0);
  assert.equal(limiter.peekSync(['a', 'or'], 0).remaining, 10);
});

test('with one limit, one key per limit is that key', () => {
  const { limiter } = limiterAt('10/min');
  assert.equal(limiter.checkSync(['key'], 4).remaining, 6);
  assert.equal(limiter.checkSync('key', 4).remaining, 2);
  const slot = limiter.reserveSync(['key'], { cost: 2 });
  assert.equal(limiter.peekSync('key', 0).remaining, 0);
  assert.equal(slot.cancelSync(), true);
  assert.equal(limiter.resetSync(['key']).remaining, 10);
});

test('keys per limit, in every operation', async () => {
  const { limiter } = limiterAt(['10/min', '15/min', '100/min']);
  const keys = ['ü'.repeat(512), Buffer.alloc(1024, 1), '🌊'];
  const slot = limiter.reserveSync(keys, { cost: 10 });
  keys[0] = 'another';
  assert.equal(slot.cancelSync(), true);
  const same = ['ü'.repeat(512), new Uint8Array(1024).fill(1), '🌊'];
  assert.equal(limiter.peekSync(same, 0).remaining, 10);
  const second = await limiter.reserve(same, { cost: 4 });
  assert.equal((await second.settle(9)).remaining, 1);
  assert.equal(limiter.settleSync(same, 9, 8).remaining, 2);
  assert.equal(limiter.creditSync(same, 3).remaining, 5);
  assert.equal(limiter.holdSync(same, 1000).remaining, 0);
  assert.equal(limiter.resetSync(same).remaining, 10);
  assert.deepEqual(limiter.checkManySync([same, { key: same, cost: 9 }]).map(({ remaining }) => remaining), [9, 0]);
});

test('many checks: each by itself, in order, at one time', async () => {
  const { limiter } = limiterAt('10/s');
  const checks = [{ key: 'a', cost: 8 }, { key: 'a', cost: 8 }, 'b', { key: Buffer.from('a') }, { key: ['b'], cost: 9 }];
  const answers = limiter.checkManySync(checks).map(({ allowed, remaining }) => [allowed, remaining]);
  assert.deepEqual(answers, [[true, 2], [false, 2], [true, 9], [true, 1], [true, 0]]);
  assert.deepEqual(await limiter.checkMany(['a', 'a']).then((all) => all.map(({ allowed }) => allowed)), [true, false]);
  assert.deepEqual(limiter.checkManySync([]), []);

  const ticking = createLimiter({ limits: '1000/s burst 1', clock: { now: () => (ticks += SECOND) } });
  let ticks = SECOND;
  assert.deepEqual(ticking.checkManySync(['a', 'a']).map(({ allowed }) => allowed), [true, false]);
});

test('many checks: a mistake in one charges nothing for any', async () => {
  const { limiter } = limiterAt(['10/s', '20/s']);
  const wrong = [
    [['a', 'x\ud800'], /^invalid key: it must be well-formed/],
    [['a', undefined], /^invalid key: .* but is undefined/],
    [['a', null], /^invalid check: it must be an object, but is null/],
    [['a', {}], /^invalid key: .* but is undefined/],
    [['a', ['b']], /^invalid key: it must be one key, or an array of one for each limit: there are 2 limits, but 1 keys/],
    [['a', ['b', 5]], /^invalid key: .* but is 5/],
    [['a', { key: 'a', cost: -1 }], /^invalid cost/],
    [['a', { key: 'a', price: 1 }], /^invalid check: unknown field "price"; there are key, cost/],
    ['ab', /^invalid checks: they must be an array, but are "ab"/],
    [undefined, /^invalid checks/],
  ];
  for (const [checks, message] of wrong) {
    assert.throws(() => limiter.checkManySync(checks), (error) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.match(error.message, message);
      return true;
    });
    await assert.rejects(limiter.checkMany(checks), InvalidArgument);
  }
  await assert.rejects(limiter.checkMany(['a', { key: 'a', cost: 11 }]), { code: 'cost_too_large', message: /cost of 11 .* burst of 10/ });
  assert.equal(limiter.peekSync('a', 0).remaining, 10);
});

test('wrong arguments of the operations', async () => {
  const { limiter } = limiterAt(['10/s', '20/s']);
  const whole = /^invalid \w+: it must be a whole number from 0 to 2\^53, but is/;
  const wait = /^invalid \w+: it must be a number of milliseconds, at least 0, but is/;
  const wrong = [
    [() => limiter.check(['a']), /there are 2 limits, but 1 keys/],
    [() => limiter.checkSync(['a', 'b', 'c']), /there are 2 limits, but 3 keys/],
    [() => limiter.checkSync([]), /there are 2 limits, but 0 keys/],
    [() => limiter.checkSync(['a', 7]), /^invalid key: it must be a string or a Uint8Array, but is 7/],
    [() => limiter.checkSync(['a', ['b']]), /^invalid key: .* but is an array/],
    [() => limiter.reserve('a', 1), /^invalid options: it must be an object/],
    [() => limiter.reserve('a', { max_wait: 1 }), /^invalid options: unknown field "max_wait"; there are cost, maxWaitMs/],
    [() => limiter.reserve('a', { maxWaitMs: -1 }), wait],
    [() => limiter.reserveSync('a', { maxWaitMs: Number.NaN }), wait],
    [() => limiter.reserveSync('a', { maxWaitMs: '5' }), wait],
    [() => limiter.reserveSync('a', { cost: 1.5 }), whole],
    [() => limiter.acquire('a', null), /^invalid options: it must be an object, but is null/],
    [() => limiter.acquire('a', { timeoutMs: -1 }), wait],
    [() => limiter.acquire('a', { signal: 'stop' }), /^invalid signal: it must be an AbortSignal, but is "stop"/],
    [() => limiter.acquire('a', { cost: -1 }), whole],
    [() => limiter.settle('a', 1), whole],
    [() => limiter.settleSync('a', -1, 1), whole],
    [() => limiter.credit('a', 0.5), whole],
    [() => limiter.creditSync('a'), whole],
    [() => limiter.hold('a', -1), wait],
    [() => limiter.holdSync('a'), wait],
    [() => limiter.reset(), /^invalid key/],
    [() => limiter.resetSync(5), /^invalid key/],
  ];
  for (const [call, message] of wrong) {
    await assert.rejects(async () => call(), (error) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.match(error.message, message);
      return true;
    }, String(call));
  }
  await assert.rejects(limiter.reserve('a', { cost: 11 }), { code: 'cost_too_large' });
  await assert.rejects(limiter.acquire('a', { cost: 11 }), { code: 'cost_too_large' });
  assert.equal(limiter.peekSync('a', 0).remaining, 10);
});

test('a closed limiter refuses every operation', async () => {
  const { limiter } = limiterAt('10/s');
  const slots = [1, 2].map(() => limiter.reserveSync('key'));
  limiter.close();
  const calls = [
    () => limiter.checkMany(['a']), () => limiter.reserve('a'), () => limiter.acquire('a'), () => limiter.settle('a', 1, 2),
    () => limiter.credit('a', 1), () => limiter.hold('a', 1), () => limiter.reset('a'), () => slots[0].cancel(), () => slots[1].settle(1),
  ];
  for (const call of calls) {
    await assert.rejects(async () => call(), (error) => error instanceof StoreError && /closed/.test(error.message), String(call));
  }
});
