import { isCluster, isTextOnly, isTimeout, partsOf, refusalOf, senderOf } from './clients.js';
import { StoreTimeout } from './errors.js';
import { Client } from './tidegate_wasm.js';

/** The most requests that travel together. */
const MOST_REQUESTS = 8192;
// The turn's other callbacks first, where that can be had.
const soon = (run) => (globalThis.setImmediate ?? globalThis.queueMicrotask)(run);
const couriers = new WeakMap();

/** The courier of a client, for all limiters that have it. */
export function courierOf(client) {
  const known = couriers.get(client);
  if (known !== undefined) return known;
  const courier = new Courier(client);
  couriers.set(client, courier);
  return courier;
}

/**
 * Gathers the requests of one turn of the event loop and sends them in one trip; those that come
 * while it is under way go with the next. What is sent, and what follows from the replies, the
 * engine says.
 */
class Courier {
  /** The engine's part. */
  engine = new Client();
  #send;
  #mostRequests;
  #lastId = 0;
  // Who waits for the answer of which number.
  #expected = new Map();
  #underWay = new Set();
  #moving = false;
  #timer;
  #timerAt = Infinity;

  constructor(client) {
    this.#send = senderOf(client);
    this.#mostRequests = isCluster(client) ? 1 : MOST_REQUESTS;
    /** Whether no other bytes can be sent than those of a text. */
    this.textOnly = isTextOnly(client);
  }

  /** Promises what `read` makes of the answer to the call that `start` makes under a number. */
  ask(start, read, timeoutMs) {
    return new Promise((resolve, reject) => {
      this.#lastId = (this.#lastId + 1) >>> 0;
      this.#expected.set(this.#lastId, { read, resolve, reject });
      start(this.#lastId);
      this.#tell();
      if (this.#expected.size > 0) this.#expireLater(timeoutMs);
      if (this.#moving || this.engine.waiting() === 0) return;
      this.#moving = true;
      soon(() => this.#move());
    });
  }

  /** Sends what a trip of the engine's says, until it says no more. */
  async carry(trip) {
    try {
      for (let count = trip.commands(); count > 0; count = trip.commands()) {
        const replies = await Promise.allSettled(wordsOf(trip).map(async (words) => this.#send(words)));
        replies.forEach((reply, command) => this.#tell(take(trip, command, reply)));
      }
    } catch (error) {
      trip.end(`${error.name}: ${error.message}`);
      this.#tell(error);
    }
  }

  async #move() {
    while (this.engine.waiting() > 0) {
      // Of a cluster each goes its own way, at the same time.
      const trips = [];
      for (let trip = this.#depart(); trip !== undefined; trip = this.#depart()) trips.push(this.#travel(trip));
      await Promise.all(trips);
    }
    this.#moving = false;
  }

  #depart() {
    const trip = this.engine.depart(this.#mostRequests);
    this.#tell();
    return trip;
  }

  async #travel(trip) {
    const travelling = { trip };
    this.#underWay.add(travelling);
    const abandoned = new Promise((resolve) => { travelling.abandon = resolve; });
    await Promise.race([this.carry(trip), abandoned]);
    this.#underWay.delete(travelling);
  }

  /** Settles the promises whose answers are there; an error of the store is due to `cause`. */
  #tell(cause) {
    for (let id = this.engine.take_answer(); id !== undefined; id = this.engine.take_answer()) {
      const { read, resolve, reject } = this.#expected.get(id);
      this.#expected.delete(id);
      try {
        resolve(read(this.engine));
      } catch (error) {
        reject(because(error, cause));
      }
    }
    if (this.#expected.size === 0) this.#stopTimer();
  }

  #expireLater(ms) {
    const at = performance.now() + ms;
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      this.#expire();
    }, ms);
  }

  #stopTimer() {
    clearTimeout(this.#timer);
    this.#timerAt = Infinity;
  }

  // Answers those who have waited long enough. A trip for which nobody waits any more is left to
  // itself: the next can begin.
  #expire() {
    let next = this.engine.expire() ?? Infinity;
    for (const { trip, abandon } of this.#underWay) {
      const left = trip.expire();
      if (left === undefined) abandon();
      else next = Math.min(next, left);
    }
    this.#tell();
    if (next < Infinity && this.#expected.size > 0) this.#expireLater(next);
  }
}

/** Hands a reply over, and returns the error that it is or shows. */
function take(trip, command, { value, reason }) {
  if (reason === undefined && Array.isArray(value)) {
    const { bytes, lengths } = partsOf(value);
    trip.take(command, bytes, lengths);
    return undefined;
  }
  const cause = reason ?? new TypeError('a reply has another form');
  const refusal = refusalOf(cause);
  if (refusal === undefined) trip.fail(command, `${cause.name}: ${cause.message}`, isTimeout(cause));
  else trip.refuse(command, refusal);
  return cause;
}

function because(error, cause) {
  if (cause !== undefined && (error.code === 'store_error' || error instanceof StoreTimeout)) {
    Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true });
  }
  return error;
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
