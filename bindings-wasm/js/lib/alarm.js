/** A timer for the nearest of many deadlines. */

/**
 * Calls `ring` when the nearest deadline may have come; `ring` looks which have, and sets the alarm
 * for the next.
 *
 * When nobody waits any more the timer is left to run out, unless that would keep the process alive:
 * setting and clearing a timer for each batch takes as long as everything else that is done for it.
 */
export class Alarm {
  #ring;
  #timer;
  // The time for which the timer was set.
  #ms;
  #isResting = false;

  constructor(ring) {
    this.#ring = ring;
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
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#isResting = false;
      this.#ring();
    }, ms);
  }

  /** To be called when nobody waits any more. */
  rest() {
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
