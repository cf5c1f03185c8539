/**
 * A timer for the nearest of many deadlines, which `ring` looks at when it is up.
 *
 * It is left to run out where that keeps no process alive: a timer that is set and cleared for each
 * trip takes as long as all else that is done for it.
 */
export class Alarm {
  #ring;
  #timer;
  // For how long it was set.
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
      // It was set before now.
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

  /** Nobody waits any more. */
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
