/** The timer of waiting lines. */

import { believeTimer, monotonicMillis } from './clock.js';

// The longest time of a timer in browsers and Node. A timer that is set for longer fires at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Calls `ring` when the next slot of the lines has come, or a little before, and is then set again. */
export class LineTimer {
  #ring;
  #timer;
  // The time for which the timer is set, and whether it keeps the process alive.
  #due;
  #keepsAlive;
  // The function that has set it.
  #setTimeout;

  constructor(ring) {
    this.#ring = ring;
  }

  /** Sets the timer for `ms` milliseconds from now; undefined clears it. */
  set(ms, keepsAlive) {
    if (ms === undefined) {
      this.#clear();
      return;
    }
    const due = monotonicMillis() + ms;
    // A timer that rings too early does no harm, and setting it again would take longer. A timer of a
    // test that has ended never rings.
    const isLost = this.#setTimeout !== globalThis.setTimeout;
    if (this.#timer === undefined || due < this.#due || isLost) {
      this.#clear();
      this.#start(due, Math.min(Math.ceil(ms), LONGEST_TIMER_MS));
    }
    if (keepsAlive === this.#keepsAlive) return;
    this.#keepsAlive = keepsAlive;
    // Timers of browsers are numbers, and keep nothing alive.
    if (keepsAlive) this.#timer.ref?.();
    else this.#timer.unref?.();
  }

  #start(due, ms) {
    this.#due = due;
    this.#keepsAlive = true;
    this.#setTimeout = globalThis.setTimeout;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (ms < LONGEST_TIMER_MS) believeTimer(due, ms);
      this.#ring();
    }, ms);
  }

  #clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
