/**
 * Renews the slices of a limiter's buckets in the background, for as long as somebody holds the
 * limiter. Which are due, and what they ask for, the engine says.
 */
export class LeaseKeeper {
  #engine;
  #courier;
  #timeoutMs;
  #timer;
  #isHurrying = false;
  #underWay = new Set();

  constructor(engine, courier, timeoutMs) {
    this.#engine = engine;
    this.#courier = courier;
    this.#timeoutMs = timeoutMs;
  }

  /** To be called after each check: there may be a slice to take, or to take soon. */
  look() {
    const wait = this.#engine.renew_in();
    if (wait === undefined || (this.#timer !== undefined && (wait > 0 || this.#isHurrying))) return;
    this.#isHurrying = wait === 0;
    clearTimeout(this.#timer);
    this.#timer = later(new WeakRef(this), wait);
  }

  /** Takes and renews what is due. */
  renew() {
    this.#timer = undefined;
    this.#isHurrying = false;
    this.#send(this.#engine.renew());
    this.look();
  }

  /** Gives all slices back, with those that are on their way. */
  async close() {
    clearTimeout(this.#timer);
    await Promise.all(this.#underWay);
    this.#send(this.#engine.give_back());
  }

  #send(trip) {
    if (trip === undefined) return;
    const tooLate = setTimeout(() => trip.end('the store did not answer in time'), this.#timeoutMs);
    tooLate.unref?.();
    const carried = this.#courier.carry(trip).finally(() => {
      clearTimeout(tooLate);
      this.#underWay.delete(carried);
    });
    this.#underWay.add(carried);
  }
}

// It keeps neither the limiter nor the process alive.
function later(keeper, wait) {
  const timer = setTimeout(() => keeper.deref()?.renew(), wait);
  timer.unref?.();
  return timer;
}
