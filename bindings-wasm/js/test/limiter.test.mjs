/** The limiter in memory: checks, decisions, arguments and options. */

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import * as api from 'tidegate-wasm';

const { createLimiter, limit, FakeClock, Limit, Limiter } = api;
const { CostTooLarge, InvalidArgument, InvalidLimit, StoreError, TidegateError } = api;

const SECOND = 1_000_000_000n;

test('a burst, a refusal, and the wait that it names', async () => {
  const clock = new FakeClock(7n * SECOND);
  const limiter = createLimiter({ limits: '2/s', clock });
  assert.equal((await limiter.check('key', { cost: 2 })).remaining, 0);
  const refused = await limiter.check('key');
  assert.deepEqual({ ...refused }, {
    allowed: false, limit: 2, remaining: 0, retryAfterMs: 500, resetAfterMs: 1000, limitName: '2/s', source: 'memory',
  });
  clock.advance(refused.retryAfterMs);
  assert.ok(limiter.checkSync('key').allowed);
});

test('durations are rounded up: waiting for what was said is enough', () => {
  const clock = new FakeClock(SECOND);
  const limiter = createLimiter({ limits: '3/s burst 1', clock });
  assert.ok(limiter.checkSync('key').allowed);
  const { retryAfterMs } = limiter.checkSync('key');
  assert.equal(retryAfterMs, 334);
  clock.advance(retryAfterMs);
  assert.ok(limiter.checkSync('key').allowed);
});

test('peek spends nothing', async () => {
  const limiter = createLimiter({ limits: '2/min' });
  assert.equal((await limiter.peek('key', { cost: 0 })).remaining, 2);
  assert.equal(limiter.peekSync('key', 0).remaining, 2);
  limiter.checkSync('key', 2);
  assert.deepEqual([limiter.peekSync('key', 0).allowed, limiter.peekSync('key', 0).remaining], [true, 0]);
});

test('a peek answers what the check after it answers', async () => {
  const limiter = createLimiter({ limits: ['3/h', '5/d'], clock: new FakeClock() });
  for (const key of ['key', ['key', 'org']]) {
    for (const cost of [2, 1, 1, 3, 0]) {
      const peeked = [await limiter.peek(key, { cost }), limiter.peekSync(key, cost)];
      const checked = limiter.checkSync(key, cost);
      assert.deepEqual(peeked, [checked, checked]);
    }
    assert.deepEqual(limiter.peekSync(key), limiter.checkSync(key));
    assert.deepEqual(await limiter.peek(key), await limiter.check(key));
    assert.throws(() => limiter.peekSync(key, 4), CostTooLarge);
    await assert.rejects(limiter.peek(key, { cost: 4 }), CostTooLarge);
    await assert.rejects(limiter.peek(key, { tokens: 1 }), InvalidArgument);
  }
  assert.deepEqual([limiter.peekSync('key').allowed, limiter.peekSync('another').allowed], [false, true]);
});

test('several limits: all allow or none is charged, and the binding one is named', () => {
  const clock = new FakeClock(SECOND);
  const perDay = limit('3/d window', { name: 'per day' });
  const limiter = createLimiter({ limits: ['2/s', perDay, { tokens: 100, periodMs: 1000 }], clock });
  assert.deepEqual(limiter.limits.map(({ name }) => name), ['2/s', 'per day', '100/s']);
  assert.equal(limiter.checkSync('key', 2).limitName, '2/s');
  clock.advance(1000);
  const refused = limiter.checkSync('key', 2);
  assert.deepEqual([refused.allowed, refused.limitName, refused.limit], [false, 'per day', 3]);
  assert.equal(limiter.checkSync('key', 1).remaining, 0);
});

test('each key has its own bucket, whatever it is made of', () => {
  const limiter = createLimiter({ limits: '1/h' });
  const keys = ['a', 'A', 'ä', '\u00e4b', '漢字', '🌊', '🌊🌊', 'x'.repeat(1024), 'ä'.repeat(512), '\0', ' '];
  for (const key of keys) assert.ok(limiter.checkSync(key).allowed, key);
  for (const key of keys) assert.ok(!limiter.checkSync(key).allowed, key);
});

test('a key is the same as a string and as its bytes', () => {
  const limiter = createLimiter({ limits: '1/h' });
  assert.ok(limiter.checkSync('🌊 tide').allowed);
  assert.ok(!limiter.checkSync(new TextEncoder().encode('🌊 tide')).allowed);
  assert.ok(!limiter.checkSync(Buffer.from('🌊 tide')).allowed);
});

test('limiters do not share buckets', () => {
  const [one, other] = [createLimiter({ limits: '1/h' }), createLimiter({ limits: '1/h' })];
  assert.ok(one.checkSync('key').allowed);
  assert.ok(other.checkSync('key').allowed);
});

test('the default clock runs, and is aligned to the epoch', async () => {
  const limiter = createLimiter({ limits: '1/20ms' });
  const started = performance.now();
  assert.ok(limiter.checkSync('key').allowed);
  while (!limiter.checkSync('key').allowed) {
    assert.ok(performance.now() - started < 5000, 'no token came back in 5 s');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.ok(performance.now() - started >= 19);

  const day = 86_400_000;
  const window = createLimiter({ limits: '1/d window' });
  window.checkSync('key');
  const { resetAfterMs } = window.peekSync('key', 0);
  const untilMidnight = day - (Date.now() % day);
  const difference = Math.abs(resetAfterMs - untilMidnight);
  assert.ok(Math.min(difference, day - difference) < 2000, `${resetAfterMs} against ${untilMidnight}`);
});

test('each of many keys has its own bucket, while the memory grows under the views', () => {
  const limiter = createLimiter({ limits: '1/d' });
  const keys = 300_000;
  for (let number = 0; number < keys; number++) assert.ok(limiter.checkSync(`key ${number}`).allowed);
  for (let number = 0; number < keys; number++) assert.ok(!limiter.checkSync(`key ${number}`).allowed);
});

test('a clock that uses the limiter itself does no harm', () => {
  let limiter;
  let nested = false;
  const clock = {
    now() {
      if (!nested) {
        nested = true;
        limiter.checkSync('another key, and a longer one');
      }
      return SECOND;
    },
  };
  limiter = createLimiter({ limits: '1/h', clock });
  assert.ok(limiter.checkSync('key').allowed);
  assert.ok(!limiter.checkSync('key').allowed);
});

test('a closed limiter answers with an error, and can be closed again', async () => {
  const limiter = createLimiter({ limits: '1/s' });
  limiter.checkSync('key');
  limiter.close();
  limiter.close();
  assert.throws(() => limiter.checkSync('key'), StoreError);
  await assert.rejects(limiter.check('key'), { code: 'store_error', message: /closed/ });
});

test('limits: each form, and what it means', () => {
  const text = limit('100/min burst 20');
  assert.deepEqual({ ...text }, { tokens: 100, periodMs: 60_000, burst: 20, shape: 'smooth', name: '100/min burst 20' });
  assert.deepEqual({ ...limit({ tokens: 100, periodMs: 60_000, burst: 20 }) }, { ...text });
  assert.equal(limit(text), text);
  assert.equal(limit(text, { name: 'mine' }).name, 'mine');
  assert.equal(String(new Limit(text)), '100/min burst 20');
  assert.equal(String(limit({ tokens: 5, periodMs: 0.005 })), '5/5us');
  assert.equal(String(limit({ tokens: 5, periodMs: 1000, shape: 'stepped', burst: 9 })), '5/s burst 9 stepped');
  assert.throws(() => { text.burst = 1000; }, TypeError);
});

test('a period that no number of milliseconds expresses survives a round trip', () => {
  const exact = limit('3 in any 104d');
  assert.equal(String(limit(exact)), String(exact));
  assert.equal(createLimiter({ limits: exact }).limits[0], exact);
});

test('wrong limits are refused with the bound they break', () => {
  const reasons = [
    ['10/fortnight', 'unknown_unit'], ['0/s', 'tokens_not_positive'], ['-3/s', 'tokens_not_positive'], ['', 'syntax'],
    [{ tokens: 0, periodMs: 1000 }, 'tokens_not_positive'], [{ tokens: -1, periodMs: 1000 }, 'tokens_not_positive'],
    [{ tokens: 1, periodMs: 0 }, 'period_not_positive'], [{ tokens: 1, periodMs: -5 }, 'period_not_positive'],
    [{ tokens: 1, periodMs: 1000, burst: 0 }, 'burst_not_positive'],
    [{ tokens: 1, periodMs: 0.5, shape: 'stepped' }, 'stepped_period'],
    [[], 'tier_count'], [['1/s', '2/s', '3/s', '4/s', '5/s'], 'tier_count'],
  ];
  for (const [limits, reason] of reasons) {
    assert.throws(() => createLimiter({ limits }), (error) => {
      assert.ok(error instanceof InvalidLimit && error instanceof TidegateError && error instanceof Error);
      assert.deepEqual([error.code, error.reason], ['invalid_limit', reason]);
      return true;
    }, reason);
  }
});

test('wrong arguments are refused with their name and bound', async () => {
  const limiter = createLimiter({ limits: '10/s' });
  const wrong = [
    [() => createLimiter(), /^invalid options: it must be an object/],
    [() => createLimiter({}), /^invalid limits: give one to four/],
    [() => createLimiter({ limit: '1/s' }), /^invalid options: unknown field "limit"/],
    [() => createLimiter({ limits: 5 }), /^invalid limit: .* but is 5/],
    [() => createLimiter({ limits: '1/s', clock: {} }), /^invalid clock: it must have a method now/],
    [() => createLimiter({ limits: '1/s', clock: { now: () => 5 } }).checkSync('key'), /^invalid clock: .* but is 5/],
    [() => limit({ tokens: 1.5, periodMs: 1000 }), /^invalid tokens: it must be a whole number .* but is 1.5/],
    [() => limit({ tokens: '1', periodMs: 1000 }), /^invalid tokens: .* but is "1"/],
    [() => limit({ tokens: 1, periodMs: Number.NaN }), /^invalid periodMs: .* but is NaN/],
    [() => limit({ tokens: 1, periodMs: 1 / 3 }), /^invalid periodMs: it must be a whole number of nanoseconds/],
    [() => limit({ tokens: 1, period: 1000 }), /^invalid limit: unknown field "period"/],
    [() => limit({ tokens: 1, periodMs: 1000, shape: 'round' }), /^invalid shape: .* but is "round"/],
    [() => limit('1/s', { name: '' }), /^invalid name/],
    [() => limiter.checkSync('a\ud800b'), /^invalid key: it must be well-formed Unicode/],
    [() => limiter.checkSync(`${'ä'.repeat(2000)}\ud800`), /^invalid key: it must be well-formed Unicode/],
    [() => limiter.checkSync(undefined), /^invalid key: it must be a string or a Uint8Array, but is undefined/],
    [() => limiter.checkSync(42), /^invalid key: .* but is 42/],
    [() => limiter.checkSync('key', -1), /^invalid cost: it must be a whole number from 0 to 2\^53, but is -1/],
    [() => limiter.checkSync('key', 0.5), /^invalid cost: .* but is 0.5/],
    [() => limiter.checkSync('key', Infinity), /^invalid cost: .* but is Infinity/],
    [() => limiter.checkSync('key', '1'), /^invalid cost: .* but is "1"/],
    [() => limiter.checkSync('key', { tokens: 1 }), /^invalid options: unknown field "tokens"/],
    [() => limiter.check('key', '5'), /^invalid cost: .* but is "5"/],
    [() => limiter.check('key', { costs: 5 }), /^invalid options: unknown field "costs"/],
    [() => limiter.check('key', { cost: -5 }), /^invalid cost/],
    [() => new FakeClock(5), /^invalid now: .* but is 5/],
    [() => new FakeClock(-1n), /^invalid now: .* but is -1n/],
    [() => new FakeClock(1n << 64n), /^invalid now/],
    [() => new FakeClock().advance(-1), /^invalid byMs/],
  ];
  for (const [call, message] of wrong) {
    await assert.rejects(async () => call(), (error) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.match(error.message, message);
      assert.equal(error.code, 'invalid_argument');
      return true;
    }, String(call));
  }
  assert.equal(limiter.peekSync('key', 0).remaining, 10, 'nothing was charged');
});

test('a cost above the burst is an error, not a wait', async () => {
  const limiter = createLimiter({ limits: ['10/s', '5/min'] });
  assert.throws(() => limiter.checkSync('key', 6), (error) => {
    assert.ok(error instanceof CostTooLarge);
    assert.match(error.message, /cost of 6 .* burst of 5/);
    return true;
  });
  await assert.rejects(limiter.check('key', { cost: 2 ** 53 }), { code: 'cost_too_large' });
  assert.equal(limiter.peekSync('key', 0).remaining, 5);
});

test('import and require give the same classes', () => {
  const required = createRequire(import.meta.url)('tidegate-wasm');
  assert.equal(required.createLimiter, createLimiter);
  assert.ok(required.createLimiter({ limits: '1/s' }) instanceof Limiter);
});

test('a limiter takes memory of the module only once it is used', () => {
  const make = () => Array.from({ length: 20_000 }, () => createLimiter({ limits: '10/s' }));
  const before = process.memoryUsage().external;
  const unused = make();
  const taken = process.memoryUsage().external - before;
  assert.ok(taken < 1 << 20, `limiters that nobody uses took ${taken} bytes`);
  assert.deepEqual({ ...unused[0].pressure }, { evicted: 0, denied: 0 });
  assert.equal(unused[0].checkSync('key').allowed, true);
  for (const limiter of unused) limiter.close();
  for (const call of [() => unused[1].checkSync('key'), () => unused[1].withLimits('1/s')]) assert.throws(call, { code: 'store_error' });
  assert.throws(() => createLimiter({ limits: [] }), { code: 'invalid_limit', reason: 'tier_count' });
});
