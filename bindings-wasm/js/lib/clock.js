/** Clocks, and conversions between nanoseconds and milliseconds. */

import { describe, invalid } from './arguments.js';

export const NANOS_PER_MILLI = 1_000_000n;
const END_OF_TIMELINE = (1n << 64n) - 1n;

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

/**
 * The default clock. It is monotonic, and aligned to the Unix epoch once, when it is made: so
 * windows are aligned to the epoch, and later steps of the wall clock change nothing.
 */
export class MonotonicClock {
  #start = Date.now() - performance.now();

  /** The time in milliseconds, with a fraction. */
  millis() {
    return this.#start + performance.now();
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

function checkNanos(name, nanos) {
  if (typeof nanos === 'bigint' && nanos >= 0n && nanos <= END_OF_TIMELINE) return nanos;
  throw invalid(name, `a time must be a bigint of nanoseconds from 0 to 2^64 - 1, but is ${describe(nanos)}`);
}
