/** Clocks, and conversions between nanoseconds and milliseconds. */

import { describe, invalid } from './arguments.js';
import { brand } from './brand.js';

export const NANOS_PER_MILLI = 1_000_000n;
const END_OF_TIMELINE = (1n << 64n) - 1n;

// The runtime's own function. A test may put another in its place.
const ownSetTimeout = globalThis.setTimeout;
// The latest time that was read, and what is added to the time of the runtime. Numbers in an array
// of doubles change without an allocation.
const monotonic = new Float64Array(2);
const [LATEST, ADDED] = [0, 1];

/**
 * The milliseconds of a clock that never steps back, also when a test puts another clock in the
 * place of `performance.now()`: it then goes on from the latest time.
 */
export function monotonicMillis() {
  const now = performance.now() + monotonic[ADDED];
  if (now >= monotonic[LATEST]) {
    monotonic[LATEST] = now;
    return now;
  }
  monotonic[ADDED] += monotonic[LATEST] - now;
  return monotonic[LATEST];
}

/**
 * Moves the clock to `due`, for a timer that was set for `ms` and has run, if the timer is that of a
 * test that moves timers but not `performance.now()`. A runtime's timer is early by a fraction of a
 * millisecond at most.
 */
export function believeTimer(due, ms) {
  const early = due - monotonicMillis();
  if (globalThis.setTimeout !== ownSetTimeout && early > 2 && early > 0.9 * ms) monotonic[ADDED] += early;
}

/**
 * A clock that stands still until it is told to move, for tests.
 *
 * Times are nanoseconds since the clock's zero, as bigints.
 */
export class FakeClock {
  #now;

  constructor(now = 0n) {
    this.set(now);
  }

  now() {
    return this.#now;
  }

  set(now) {
    this.#now = checkNanos('now', now);
  }

  /** Moves forward by `byMs` milliseconds, which may have a fraction, but not past 2^64 - 1 nanoseconds. */
  advance(byMs) {
    if (typeof byMs !== 'number' || !Number.isFinite(byMs) || byMs < 0) {
      throw invalid('byMs', `it must be a number of milliseconds, at least 0, but is ${describe(byMs)}`);
    }
    const whole = Math.floor(byMs);
    const nanos = BigInt(whole) * NANOS_PER_MILLI + BigInt(Math.round((byMs - whole) * 1e6));
    this.#now = atMostEnd(this.#now + nanos);
  }
}

brand(FakeClock, 'FakeClock');

/**
 * The default clock. It is monotonic, and aligned to the Unix epoch once, when it is made: so
 * windows are aligned to the epoch, and later steps of the wall clock change nothing.
 */
export class MonotonicClock {
  #start = Date.now() - monotonicMillis();

  /** The time in milliseconds, with a fraction. */
  millis() {
    return this.#start + monotonicMillis();
  }
}

/** The time, or the end of the timeline if the time is beyond it. */
export function atMostEnd(nanos) {
  return nanos < END_OF_TIMELINE ? nanos : END_OF_TIMELINE;
}

export function checkClock(clock) {
  if (typeof clock?.now !== 'function') {
    throw invalid('clock', 'it must have a method now() that returns nanoseconds as a bigint');
  }
  return clock;
}

/** Nanoseconds in whole milliseconds, rounded up, so that waiting for this time is always enough. */
export function ceilMillis(nanos) {
  return Number((nanos + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
}

/** A clock's time as the engine takes it: whole milliseconds, and the nanoseconds beyond them. */
export function splitNanos(now) {
  checkNanos('clock', now);
  return [Number(now / NANOS_PER_MILLI), Number(now % NANOS_PER_MILLI)];
}

/** A duration as the engine takes it, to the nearest nanosecond. */
export function splitMillis(ms) {
  const millis = Math.floor(ms);
  return [millis, millis === Infinity ? 0 : Math.round((ms - millis) * 1e6)];
}

/** The nanoseconds until a time in milliseconds of the monotonic clock; 0 if it has passed. */
export function nanosUntil(due) {
  return BigInt(Math.ceil(Math.max(due - monotonicMillis(), 0) * 1e6));
}

function checkNanos(name, nanos) {
  if (typeof nanos === 'bigint' && nanos >= 0n && nanos <= END_OF_TIMELINE) return nanos;
  throw invalid(name, `a time must be a bigint of nanoseconds from 0 to 2^64 - 1, but is ${describe(nanos)}`);
}
