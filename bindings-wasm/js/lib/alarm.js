/** A timer for the nearest of many deadlines. */

import { monotonicMillis } from './clock.js';

// A timer that comes later than this shows that the event loop was busy with something else. Timers are late by a
// fraction of it otherwise.
const LATE_MS = 2;
// The runtime's own functions, because a test may put others in their place.
const { setImmediate: ownSetImmediate, setTimeout: ownSetTimeout } = globalThis;
const nextTurn = ownSetImmediate === undefined ? (run) => ownSetTimeout(run, 0) : (run) => ownSetImmediate(run);

/**
 * Calls `ring` when the nearest deadline may have come; `ring` looks which have, and sets the alarm
 * for the next.
 *
 * When nobody waits any more the timer is left to run out, unless that would keep the process alive:
 * setting and clearing a timer for each batch takes as long as everything else that is done for it.
 *
 * The time for which the event loop was blocked by something else is not the store's. A timer that comes late is set
 * again for as long as it was late, and in any case the loop has two turns between a deadline and `ring`, in which replies
 * are read that have come meanwhile. A loop that is always late does not put `ring` off for ever: only a longer delay than
 * the last one counts.
 */
export class Alarm {
  #ring;
  #timer;
  // The time for which the timer was set.
  #ms;
  #isResting = false;
  // When the timer is due.
  #due = 0;
  // The time for which the timer was set again because it had come late.
  #grantedMs = 0;
  #excusedUntil = 0;

  constructor(ring) {
    this.#ring = ring;
  }

  /** Whether no deadline counts now, because the event loop was blocked. */
  get isExcused() {
    return this.#excusedUntil > 0 && monotonicMillis() < this.#excusedUntil;
  }

  /** Lets no deadline count for as long as the event loop was blocked, unless that is no longer than usual. */
  excuse(blockedMs) {
    if (blockedMs > LATE_MS) this.#excusedUntil = Math.max(this.#excusedUntil, monotonicMillis() + blockedMs);
  }

  /** Rings in at most `ms` milliseconds. */
  ringWithin(ms) {
    if (this.#isResting) {
      this.#timer.ref();
      this.#isResting = false;
    }
    if (this.#timer !== undefined) {
      // The timer was set earlier, so it rings within the time.
      if (this.#ms <= ms) return;
      clearTimeout(this.#timer);
    }
    this.#ms = ms;
    this.#due = monotonicMillis() + ms;
    this.#timer = setTimeout(() => this.#ringOrWait(), ms);
  }

  #ringOrWait() {
    this.#timer = undefined;
    if (this.#isResting) {
      this.#isResting = false;
      return; // nobody waits
    }
    const now = monotonicMillis();
    const late = now - this.#due;
    if (late > Math.max(LATE_MS, this.#grantedMs)) {
      this.#grantedMs = late;
      this.excuse(late);
    }
    if (now < this.#excusedUntil) {
      this.ringWithin(this.#excusedUntil - now);
      return;
    }
    this.#grantedMs = 0;
    nextTurn(() => nextTurn(() => this.#ring()));
  }

  /** Lets the alarm rest. The owner calls it when nobody waits any more. */
  rest() {
    this.#grantedMs = 0;
    this.#excusedUntil = 0;
    if (this.#timer === undefined || this.#isResting) return;
    this.#isResting = typeof this.#timer.unref === 'function';
    if (this.#isResting) {
      this.#timer.unref();
    } else {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
  }
}
