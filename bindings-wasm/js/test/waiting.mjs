/** Loads for the waiting line, and what is to be seen then. */

import assert from 'node:assert/strict';

/**
 * Lets 150 callers a second arrive, each of which waits at most 300 ms by a signal of its own.
 * Returns the times at which callers were admitted, in seconds.
 */
export async function arriveFor(limiter, seconds, key = 'key') {
  // A client has connected and the scripts are loaded before the time counts.
  await limiter.acquire('another key');
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const admitted = [];
  const waits = [];
  for (let arrived = 0; elapsed() < seconds;) {
    // A loop that was late lets those arrive who should have.
    for (; arrived < 150 * elapsed(); arrived++) {
      const wait = limiter.acquire(key, { signal: AbortSignal.timeout(300) });
      waits.push(wait.then(() => admitted.push(elapsed()), (error) => assert.equal(error.name, 'TimeoutError')));
    }
    await new Promise((resolve) => { setTimeout(resolve, 4); });
  }
  await Promise.all(waits);
  return { admitted, elapsed: elapsed(), seconds };
}

/** At least 95 % of the limit was used in each full second, and never more than the limit in all. */
export function assertUsed({ admitted, elapsed, seconds }, rate) {
  for (let second = 0; second < seconds; second++) {
    const count = admitted.filter((at) => at >= second && at < second + 1).length;
    assert.ok(count >= 0.95 * rate, `${count} in second ${second}`);
  }
  assert.ok(admitted.length <= rate * elapsed + 1, `${admitted.length} in ${elapsed} s`);
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
