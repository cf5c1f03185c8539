/** `acquire` in runtimes where no request may wait for another one. */

import { throwIfAborted, tooLate } from './waiters.js';

// The longest time of a timer. A timer that is set for longer fires at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Reserves the caller's slot and waits for it with a timer of the caller's own, not in a line that callers share. A
 * slot is given back when the signal aborts, if it is still the last; those behind it do not move up.
 */
export async function acquireAlone(buckets, key, { cost, timeoutMs, signal }) {
  throwIfAborted(signal);
  const slot = await buckets.reserve(key, cost, timeoutMs);
  const { decision, tier, delayMs } = slot;
  if (!decision.allowed) throw tooLate(decision, tier, { key, timeoutMs });
  try {
    await sleep(delayMs, signal);
  } catch (reason) {
    await Promise.resolve(buckets.cancel(slot)).catch(() => {}); // the abort matters more than a failure of the store
    throw reason;
  }
  return decision;
}

async function sleep(ms, signal) {
  throwIfAborted(signal);
  for (let left = ms; left > 0; left -= LONGEST_TIMER_MS) await rest(Math.min(left, LONGEST_TIMER_MS), signal);
}

function rest(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', abort, { once: true });
  });
}
