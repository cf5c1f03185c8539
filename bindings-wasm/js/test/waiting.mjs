/** Loads for the waiting line, and what is to be seen then. */

import assert from 'node:assert/strict';

// The time in which the line fills. After it a pause of the event loop finds callers that wait.
const FILLING_S = 0.5;

// A busy machine may stop the process for longer than callers wait, and then tokens pass unused.
const ATTEMPTS = 3;

/**
 * Asserts that at least 95 % of the limit, `rate` tokens a second with a burst of 1, is used in each
 * of four seconds when 1.5 times as many callers arrive, and never more than the limit in all.
 */
export async function assertUsed(limiter, rate) {
  const counts = [];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { admitted, elapsed } = await arriveFor(limiter, FILLING_S + 4, 1.5 * rate, `key ${attempt}`);
    assert.ok(admitted.length <= rate * elapsed + 1, `${admitted.length} in ${elapsed} s`);
    const within = (from) => admitted.filter((at) => at >= from && at < from + 1).length;
    counts.push([0, 1, 2, 3].map((second) => within(FILLING_S + second)));
    if (counts.at(-1).every((count) => count >= 0.95 * rate)) return;
  }
  assert.fail(`admitted in each second: ${counts.join('; ')}`);
}

// Lets `rate` callers a second arrive, each of which waits at most 300 ms by a signal of its own.
// Returns the times at which callers were admitted, in seconds.
async function arriveFor(limiter, seconds, rate, key) {
  // A client has connected and the scripts are loaded before the time counts.
  await limiter.acquire('another key');
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const admitted = [];
  const waits = [];
  for (let arrived = 0; elapsed() < seconds;) {
    // A loop that was late lets those arrive who should have.
    for (; arrived < rate * elapsed(); arrived++) {
      const wait = limiter.acquire(key, { signal: AbortSignal.timeout(300) });
      waits.push(wait.then(() => admitted.push(elapsed()), (error) => assert.equal(error.name, 'TimeoutError')));
    }
    await new Promise((resolve) => { setTimeout(resolve, 4); });
  }
  await Promise.all(waits);
  return { admitted, elapsed: elapsed() };
}

/**
 * Lets jobs wait for `estimate` tokens each, of which each uses `actual`. Returns the share of the
 * limit of 60,000 tokens a second that they have used.
 */
export async function settleJobs(limiter, jobs, estimate, actual, key = 'key') {
  const started = performance.now();
  await Promise.all(Array.from({ length: jobs }, async () => {
    await limiter.acquire(key, { cost: estimate });
    await limiter.settle(key, estimate, actual);
  }));
  const seconds = (performance.now() - started) / 1000;
  return (jobs * actual) / (60_000 * seconds);
}

/**
 * Mixes callers, deadlines, aborts, settles, cancelled reservations and holds at random for `ms`
 * milliseconds. In the end everybody has an answer, nobody waits, and no stretch of time had more
 * tokens than the limit allows.
 */
export async function mixFor(ms, limiter, { rate, burst }, key = 'key') {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const random = randomFrom(seed);
  const below = (bound) => Math.floor(random() * bound);
  const spent = [];
  const waits = [];
  const started = performance.now();
  let groups = [new AbortController()];
  const arrive = async () => {
    const cost = 1 + below(burst / 2);
    const options = [{ cost }, { cost, timeoutMs: below(100) }, { cost, signal: AbortSignal.timeout(below(60)) },
      { cost, signal: groups.at(-1).signal }][below(4)];
    await limiter.acquire(key, options);
    const charge = { at: performance.now(), tokens: cost };
    spent.push(charge);
    if (below(3) > 0) return;
    // What comes back at once was never used.
    const actual = below(cost + 1);
    charge.tokens = actual;
    await limiter.settle(key, cost, actual);
  };
  const reserve = async () => {
    const reservation = await limiter.reserve(key, { cost: 1 + below(3), maxWaitMs: 50 });
    await new Promise((resolve) => { setTimeout(resolve, below(20)); });
    if (reservation.allowed) await reservation.cancel();
  };
  const answered = { allowed: 0, 'rate_limited': 0, AbortError: 0, TimeoutError: 0 };
  const count = (work) => waits.push(work.then(() => { answered.allowed++; }, ({ code, name }) => {
    answered[typeof code === 'string' ? code : name]++;
  }));
  while (performance.now() - started < ms) {
    for (let arriving = below(12); arriving > 0; arriving--) count(arrive());
    if (below(6) === 0) count(reserve());
    if (below(10) === 0) {
      groups.at(-1).abort();
      groups = [new AbortController()];
    }
    if (below(40) === 0) count(limiter.hold(key, below(80)));
    await new Promise((resolve) => { setTimeout(resolve, below(10)); });
  }
  groups.at(-1).abort();
  await Promise.all(waits);
  assert.deepEqual(Object.keys(answered), ['allowed', 'rate_limited', 'AbortError', 'TimeoutError'], `seed ${seed}`);
  assert.ok(answered.allowed > 50, JSON.stringify(answered));
  assert.deepEqual(limiter.waiting(key), { callers: 0, tokens: 0, untilMs: 0 });
  // Answers are told late at most by what the event loop was busy, so the whole stretch is judged.
  const tokens = spent.reduce((sum, charge) => sum + charge.tokens, 0);
  const most = burst + (rate * (performance.now() - started)) / 1000;
  assert.ok(tokens <= most, `${tokens} of ${most} tokens, seed ${seed}`);
}

// Numbers that look random, from 0 to 1.
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
