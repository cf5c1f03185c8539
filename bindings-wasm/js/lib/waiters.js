/** The callers of `acquire` that wait in line. */

import { offAbort, onAbort } from './abort.js';
import { RateLimited } from './errors.js';

/** Refuses to wait for a signal that has aborted. */
export function throwIfAborted(signal) {
  if (signal?.aborted) throw signal.reason;
}

/** The error of a call that gets no slot in time. `tier` is that of the limit that bound the decision. */
export function tooLate(decision, tier, { key, timeoutMs }) {
  const { limitName, retryAfterMs } = decision;
  const within = timeoutMs === Infinity ? 'for another caller' : `within ${timeoutMs} ms`;
  const message = `rate limited by ${limitName}: no slot ${within}; retry after ${retryAfterMs} ms`;
  return new RateLimited(message, decision, Array.isArray(key) ? key[tier] : key);
}

/** The callers that wait for the buckets of one limiter. */
export class Waiters {
  #waiters = new Set();

  get size() {
    return this.#waiters.size;
  }

  /**
   * Promises the answer to a call, given by its `key`, `timeoutMs` and `signal`. `join` lets the
   * waiter that it gets join its line, and returns a function that makes it leave the line.
   */
  add(call, join) {
    return new Promise((resolve, reject) => {
      const waiter = new Waiter(this.#waiters, call, resolve, reject);
      try {
        waiter.leaveOnAbort(join(waiter));
      } catch (error) {
        waiter.fail(error);
      }
    });
  }

  /** Rejects all callers, who are then out of the line. */
  failAll(error) {
    for (const waiter of [...this.#waiters]) waiter.fail(error);
  }
}

class Waiter {
  #waiters;
  #call;
  #resolve;
  #reject;
  #abort;

  constructor(waiters, call, resolve, reject) {
    this.#waiters = waiters;
    this.#call = call;
    this.#resolve = resolve;
    this.#reject = reject;
    waiters.add(this);
  }

  /** Calls `leave` and rejects when the signal of the call aborts. */
  leaveOnAbort(leave) {
    const { signal } = this.#call;
    if (signal === undefined || !this.#waiters.has(this)) return;
    this.#abort = () => {
      this.fail(signal.reason);
      leave();
    };
    onAbort(signal, this.#abort);
  }

  /** Resolves to an allowed decision, and rejects with a refusal. Returns false if the caller has left. */
  answer(decision, tier) {
    if (!this.#end()) return false;
    if (decision.allowed) this.#resolve(decision);
    else this.#reject(tooLate(decision, tier, this.#call));
    return true;
  }

  fail(error) {
    if (this.#end()) this.#reject(error);
  }

  #end() {
    if (this.#abort !== undefined) offAbort(this.#call.signal, this.#abort);
    return this.#waiters.delete(this);
  }
}
