import { isCluster, isTimeout, partsOf, refusalOf, senderOf } from './clients.js';
import { InvalidArgument, StoreTimeout } from './errors.js';
import { Trip } from './tidegate_wasm.js';

/** The most requests that travel together. */
const MOST_REQUESTS = 8192;
// The turn's other callbacks first, where that can be had.
const soon = (run) => (globalThis.setImmediate ?? globalThis.queueMicrotask)(run);
const couriers = new WeakMap();

/** The courier of a client, for all limiters that have it. */
export function courierOf(client) {
  const known = couriers.get(client);
  if (known !== undefined) return known;
  const courier = new Courier(senderOf(client), isCluster(client) ? 1 : MOST_REQUESTS);
  couriers.set(client, courier);
  return courier;
}

/**
 * Gathers the requests of one turn of the event loop and sends them in one trip; those that come
 * while it is under way go with the next.
 */
class Courier {
  #send;
  #mostRequests;
  #waiting = [];
  #underWay = new Set();
  #moving = false;
  #timer;

  constructor(send, mostRequests) {
    this.#send = send;
    this.#mostRequests = mostRequests;
  }

  /** Promises what `read` makes of the answer to the request that `add` adds to a trip. */
  ask({ add, read, timeoutMs }) {
    return new Promise((resolve, reject) => {
      const deadline = performance.now() + timeoutMs;
      this.#waiting.push({ add, read, timeoutMs, deadline, resolve, reject, open: true });
      this.#expireLater(timeoutMs);
      if (this.#moving) return;
      this.#moving = true;
      soon(() => this.#move());
    });
  }

  async #move() {
    while (this.#waiting.length > 0) {
      const all = this.#waiting;
      this.#waiting = [];
      // Of a cluster each goes its own way, at the same time.
      const trips = [];
      for (let at = 0; at < all.length; at += this.#mostRequests) {
        trips.push(this.#travel(all.slice(at, at + this.#mostRequests)));
      }
      await Promise.all(trips);
    }
    this.#moving = false;
  }

  async #travel(waiting) {
    this.#expire();
    const requests = waiting.filter((request) => request.open);
    if (requests.length === 0) return;
    const travelling = { requests };
    this.#underWay.add(travelling);
    const abandoned = new Promise((resolve) => { travelling.abandon = resolve; });
    await Promise.race([this.#carry(requests), abandoned]);
    this.#underWay.delete(travelling);
    if (this.#underWay.size === 0 && this.#waiting.length === 0) this.#stopTimer();
  }

  async #carry(requests) {
    const trip = new Trip();
    let cause;
    try {
      const places = requests.map((request) => request.add(trip));
      for (let count = trip.commands(); count > 0; count = trip.commands()) {
        const replies = await Promise.allSettled(wordsOf(trip).map(async (words) => this.#send(words)));
        replies.forEach(({ value, reason }, command) => {
          if (reason === undefined && Array.isArray(value)) {
            const { bytes, lengths } = partsOf(value);
            trip.take(command, bytes, lengths);
            return;
          }
          cause = reason ?? new TypeError('a reply has another form');
          const refusal = refusalOf(cause);
          if (refusal === undefined) trip.fail(command, `${cause.name}: ${cause.message}`);
          else trip.refuse(command, refusal);
        });
      }
      requests.forEach((request, number) => settle(request, trip, places[number], cause));
    } catch (error) {
      for (const { reject } of requests) reject(error);
    } finally {
      trip.free();
    }
  }

  #expireLater(ms) {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#expire();
    }, ms);
  }

  #stopTimer() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  // Rejects those who have waited long enough. A trip for which nobody waits any more is left to
  // itself: the next can begin.
  #expire() {
    const now = performance.now();
    let next = Infinity;
    const expire = (request) => {
      if (!request.open) return;
      if (request.deadline > now) {
        next = Math.min(next, request.deadline);
        return;
      }
      request.open = false;
      request.reject(new StoreTimeout(`the store did not answer within ${request.timeoutMs} ms`));
    };
    this.#waiting.forEach(expire);
    for (const { requests, abandon } of this.#underWay) {
      requests.forEach(expire);
      if (!requests.some(({ open }) => open)) abandon();
    }
    if (next < Infinity) this.#expireLater(Math.ceil(next - now));
  }
}

function settle(request, trip, place, cause) {
  if (!request.open) return;
  request.open = false;
  try {
    request.resolve(request.read(trip, place));
  } catch (error) {
    request.reject(because(error, cause));
  }
}

// An error of the store is due to what the client has thrown.
function because(error, cause) {
  if (error.code !== 'store_error' || cause === undefined) return error;
  if (cause instanceof InvalidArgument) return cause;
  const due = isTimeout(cause) ? new StoreTimeout(error.message) : error;
  Object.defineProperty(due, 'cause', { value: cause, configurable: true, writable: true });
  return due;
}

/** The words of each command that is to be sent now. */
function wordsOf(trip) {
  const [words, lengths] = [trip.words(), trip.word_lengths()];
  const commands = [];
  let at = 0;
  for (let place = 0; place < lengths.length; ) {
    const count = lengths[place++];
    const command = [];
    for (let word = 0; word < count; word++) {
      const length = lengths[place++];
      command.push(words.subarray(at, at + length));
      at += length;
    }
    commands.push(command);
  }
  return commands;
}
