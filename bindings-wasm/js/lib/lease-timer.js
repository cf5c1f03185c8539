/** The timer that renews leased slices. */

import { runtime } from './runtime.js';

/**
 * Renews the slices of a limiter's buckets in the background, for as long as the limiter is not
 * collected. The engine says which slices are due, and makes their requests.
 */
export class LeaseTimer {
  #engine;
  #transport;
  #timeoutMs;
  #timer;
  #isHurrying = false;

  constructor(engine, transport, timeoutMs) {
    this.#engine = engine;
    this.#transport = transport;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Sets the timer if need be. It is to be called after each check, which may make a slice due. Where a timer is that
   * of a request, the caller renews the slices that are due itself, and waits for the promise that this returns.
   */
  look() {
    const wait = this.#engine.renew_in();
    if (runtime.isolatesRequests) return wait === 0 ? this.#renewNow() : undefined;
    if (wait === undefined || (this.#timer !== undefined && (wait > 0 || this.#isHurrying))) return;
    this.#isHurrying = wait === 0;
    clearTimeout(this.#timer);
    this.#timer = later(new WeakRef(this), wait);
    return undefined;
  }

  /** Sends the requests for the slices that are due. */
  renew() {
    this.#timer = undefined;
    this.#isHurrying = false;
    this.#engine.renew();
    this.#transport.flush(this.#timeoutMs);
    this.look();
  }

  /** Gives all slices back. */
  close() {
    clearTimeout(this.#timer);
    this.#engine.give_back();
    this.#transport.flush(this.#timeoutMs);
  }

  #renewNow() {
    this.#engine.renew();
    return this.#transport.flush(this.#timeoutMs);
  }
}

// Sets a timer that keeps neither the limiter nor the process alive.
function later(timer, wait) {
  const handle = setTimeout(() => timer.deref()?.renew(), wait);
  handle.unref?.();
  return handle;
}
