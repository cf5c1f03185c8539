/** The places of calls that are under way at a time, for `createOutbound`. */

import { offAbort, onAbort } from './abort.js';
import { describe, invalid } from './arguments.js';

const MAX_PLACES = 2 ** 32 - 1;
// The longest time of a runtime's timer.
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What gives places: an object with `acquire`, a count for this process, or a function of the key; undefined for any number. */
export function placesOf(concurrency) {
  if (concurrency === undefined) return undefined;
  if (typeof concurrency === 'function') return (key) => withOptionsAlone(concurrency(key));
  if (typeof concurrency?.acquire === 'function') {
    const places = withOptionsAlone(concurrency);
    return () => places;
  }
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > MAX_PLACES) {
    throw invalid('concurrency', `it must be a whole number from 1 to ${MAX_PLACES}, an object with acquire or a function of the key, but is ${describe(concurrency)}`);
  }
  const places = new Places(concurrency);
  return () => places;
}

// A Concurrency has permits of several keys. Those of a call have the key '', as its `acquire` has by itself.
function withOptionsAlone(places) {
  if (typeof places?.tryAcquire !== 'function') return places;
  return { acquire: (options) => places.acquire('', options) };
}

/** Places of this process, given in the order in which they were asked for. */
class Places {
  #free;
  #waiting = new Set();

  constructor(count) {
    this.#free = count;
  }

  acquire({ timeoutMs, signal }) {
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve(this.#place());
    }
    return new Promise((resolve, reject) => {
      const waiter = { give: () => end(() => resolve(this.#place())) };
      const end = (settle) => {
        this.#waiting.delete(waiter);
        clearTimeout(timer);
        if (signal !== undefined) offAbort(signal, abort);
        settle();
      };
      const abort = () => end(() => reject(signal.reason));
      const timer = timeoutMs <= MAX_TIMER_MS ? setTimeout(() => end(() => resolve(undefined)), timeoutMs) : undefined;
      this.#waiting.add(waiter);
      if (signal !== undefined) onAbort(signal, abort);
    });
  }

  #place() {
    let isTaken = true;
    return {
      release: () => {
        if (!isTaken) return;
        isTaken = false;
        const [next] = this.#waiting;
        if (next === undefined) this.#free += 1;
        else next.give();
      },
    };
  }
}
