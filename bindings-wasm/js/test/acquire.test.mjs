/** Waiting for a slot: `acquire` waits once, long enough, and only if it gets its slot. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import * as api from 'tidegate-wasm';

const { createLimiter, FakeClock, RateLimited, TidegateError } = api;

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SECOND = 1_000_000_000n;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Runs `body` with a substitute for setTimeout, and restores the real one afterwards. */
async function withTimers(substitute, body) {
  const real = globalThis.setTimeout;
  globalThis.setTimeout = (callback, ms) => substitute(real, callback, ms);
  try {
    return await body();
  } finally {
    globalThis.setTimeout = real;
  }
}

test('waiters come in order, each at its slot and none before', async () => {
  const limiter = createLimiter({ limits: '200/s burst 1' });
  const started = performance.now();
  const woken = [];
  await Promise.all(Array.from({ length: 20 }, async (_, number) => {
    const { allowed } = await limiter.acquire('key');
    woken.push([number, performance.now() - started]);
    assert.ok(allowed);
  }));
  assert.deepEqual(woken.map(([number]) => number), woken.map((_, number) => number));
  for (const [number, at] of woken) assert.ok(at >= number * 5, `number ${number} after ${at} ms`);
  assert.ok(woken.at(-1)[1] < 5000, `the last after ${woken.at(-1)[1]} ms`);
});

test('a timer that fires early is set again for the rest', async () => {
  const limiter = createLimiter({ limits: '4/s burst 1' });
  let timers = 0;
  const waited = await withTimers((real, callback, ms) => {
    timers++;
    return real(callback, ms / 2);
  }, async () => {
    const started = performance.now();
    await limiter.acquire('key');
    await limiter.acquire('key');
    return performance.now() - started;
  });
  assert.ok(waited >= 250, `waited ${waited} ms`);
  assert.ok(timers > 1 && timers <= 20, `${timers} timers`);
});

test('a wait longer than a timer can hold takes several, one at a time', async () => {
  const limiter = createLimiter({ limits: '1/30d' });
  const controller = new AbortController();
  const set = [];
  await withTimers((real, callback, ms) => {
    set.push(ms);
    if (set.length < 3) return real(callback, 1);
    setImmediate(() => controller.abort());
    return real(callback, ms);
  }, async () => {
    await limiter.acquire('key');
    await assert.rejects(limiter.acquire('key', { signal: controller.signal }), { name: 'AbortError' });
  });
  assert.deepEqual(set, [LONGEST_TIMER_MS, LONGEST_TIMER_MS, LONGEST_TIMER_MS]);
  assert.ok(!process.getActiveResourcesInfo().includes('Timeout'), 'the timer was not cleared');
});

test('a slot later than the timeout is an error at once, which charges nothing', async () => {
  const clock = new FakeClock(7n * SECOND);
  const limiter = createLimiter({ limits: ['2/s burst 1', '100/s'], clock });
  assert.ok((await limiter.acquire('key', { timeoutMs: 0 })).allowed);
  await assert.rejects(limiter.acquire('key', { timeoutMs: 499 }), (error) => {
    assert.ok(error instanceof RateLimited && error instanceof TidegateError);
    assert.equal(error.code, 'rate_limited');
    assert.equal(error.key, 'key');
    const { allowed, retryAfterMs, limitName } = error.decision;
    assert.deepEqual([allowed, retryAfterMs, limitName], [false, 1, '2/s burst 1']);
    assert.match(error.message, /^rate limited by 2\/s burst 1: no slot within 499 ms; retry after 1 ms$/);
    return true;
  });
  assert.equal(clock.now(), 7n * SECOND);
  assert.equal(limiter.reserveSync('key').delayMs, 500);
  await limiter.acquire(['user', 'org']);
  await assert.rejects(limiter.acquire(['user', 'org'], { timeoutMs: 0 }), { key: 'user' });
});

test('a bucket that can owe no more has no slot, however long one waits', async () => {
  const limiter = createLimiter({ limits: '1/100d', clock: new FakeClock(SECOND) });
  await limiter.acquire('key');
  await assert.rejects(limiter.acquire('key'), { code: 'rate_limited', message: /no slot for another caller/ });
});

test('a FakeClock is moved to the slot, so that tests do not wait', async () => {
  const clock = new FakeClock(7n * SECOND);
  const limiter = createLimiter({ limits: '3/min burst 1', clock });
  await Promise.all([1, 2, 3].map(() => limiter.acquire('key')));
  assert.equal(clock.now(), 47n * SECOND);
  await limiter.acquire('another');
  assert.equal(clock.now(), 47n * SECOND);
  limiter.holdSync('key', 3_600_000.000001);
  await limiter.acquire('key');
  assert.equal(clock.now(), 3647n * SECOND + 1n);
});

test('another clock does not change that waits are of real time', async () => {
  const limiter = createLimiter({ limits: '50/s burst 1', clock: { now: () => SECOND } });
  const started = performance.now();
  await limiter.acquire('key');
  await limiter.acquire('key');
  assert.ok(performance.now() - started >= 20);
});

test('an aborted wait gives its slot back, and rejects with the reason', async () => {
  const limiter = createLimiter({ limits: '1/h' });
  limiter.checkSync('key');
  const controller = new AbortController();
  const waiting = limiter.acquire('key', { signal: controller.signal });
  await new Promise((resolve) => { setImmediate(resolve); });
  const { delayMs } = limiter.reserveSync('key', { cost: 0 });
  assert.equal(delayMs, 0, 'a cost of 0 does not wait');
  const before = limiter.peekSync('key', 0).resetAfterMs;
  assert.ok(before > 2 * 3_599_000, `${before}`);
  const reason = new Error('the request is gone');
  controller.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
  assert.ok(limiter.peekSync('key', 0).resetAfterMs <= 3_600_000);
});

test('an aborted signal reserves nothing; one that never aborts is let go of', async () => {
  const limiter = createLimiter({ limits: '50/s burst 1' });
  await assert.rejects(limiter.acquire('key', { signal: AbortSignal.abort() }), { name: 'AbortError' });
  const { signal } = new AbortController();
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...given) => { listeners++; addEventListener.apply(signal, given); };
  signal.removeEventListener = (...given) => { listeners--; removeEventListener.apply(signal, given); };
  assert.equal((await limiter.acquire('key', { signal })).remaining, 0);
  await limiter.acquire('key', { signal });
  assert.equal(listeners, 0);
});

test('a signal that aborts while the slot is being reserved gives it back', async () => {
  const controller = new AbortController();
  const clock = { now: () => { controller.abort(); return SECOND; } };
  const limiter = createLimiter({ limits: '5/h', clock });
  await assert.rejects(limiter.acquire('key', { signal: controller.signal }), { name: 'AbortError' });
  assert.equal(limiter.peekSync('key', 0).remaining, 5);
});

test('an abort after the limiter was closed changes nothing', async () => {
  const limiter = createLimiter({ limits: '1/h' });
  limiter.checkSync('key');
  const controller = new AbortController();
  const waiting = limiter.acquire('key', { signal: controller.signal });
  limiter.close();
  controller.abort();
  await assert.rejects(waiting, { code: 'store_error' });
});

test('a process lives for a wait, and ends once it is aborted', () => {
  const run = (program) => execFileSync(process.execPath, ['--input-type=module', '--eval', `
    import { createLimiter } from 'tidegate-wasm';
    const limiter = createLimiter({ limits: '20/s burst 1' });
    limiter.checkSync('key');
    ${program}
  `], { cwd: HERE, encoding: 'utf8', timeout: 10_000 });
  assert.equal(run("limiter.acquire('key').then(({ allowed }) => console.log(allowed));"), 'true\n');
  assert.equal(run(`
    limiter.holdSync('key', 3_600_000);
    const controller = new AbortController();
    limiter.acquire('key', { signal: controller.signal }).catch(({ name }) => console.log(name));
    setTimeout(() => controller.abort(), 5);
  `), 'AbortError\n');
});
