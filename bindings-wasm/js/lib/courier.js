import { Alarm } from './alarm.js';
import { commandsOf, isCluster, isTextOnly, isTimeout, partsOf, refusalOf, senderOf } from './clients.js';
import { view } from './engine.js';
import { StoreTimeout } from './errors.js';
import { Client, Trip } from './tidegate_wasm.js';

/** The most requests that travel together. */
const MOST_REQUESTS = 8192;
/** How many trips are kept for later. */
const MOST_SPARE = 16;
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
  // The trips that somebody waits for.
  #underWay = new Set();
  // Those that are over.
  #spare = [];
  #isDeparting = false;
  #depart = () => this.#sendWaiting();
  #alarm = new Alarm(() => this.#expire());

  constructor(client) {
    this.#send = senderOf(client);
    this.#mostRequests = isCluster(client) ? 1 : MOST_REQUESTS;
    /** Whether no other bytes can be sent than those of a text. */
    this.textOnly = isTextOnly(client);
  }

  /** Promises what `read` makes of the answer to the call that `start` makes under a number. */
  ask(start, read, timeoutMs) {
    return new Promise((resolve, reject) => {
      const id = (this.#lastId + 1) >>> 0;
      this.#lastId = id;
      this.#expected.set(id, { read, resolve, reject });
      start(id);
      this.#tell();
      if (this.#expected.size > 0) this.#alarm.ringWithin(timeoutMs);
      this.#departSoon();
    });
  }

  /** Sends what a trip of the engine's says, until it says no more. */
  carry(trip) {
    return new Promise((resolve) => { this.#carry(trip, resolve); });
  }

  // Not async, and few promises of its own: they would take longer than what is done here.
  #carry(trip, done) {
    let left = 0;
    const breakOff = (error) => {
      left = 0;
      trip.end(`${error.name}: ${error.message}`);
      this.#tell(error);
      done();
    };
    const took = (command, value, reason) => {
      if (left === 0) return;
      try {
        this.#tell(take(trip, command, value, reason));
        left -= 1;
        if (left === 0) this.#carry(trip, done);
      } catch (error) {
        breakOff(error);
      }
    };
    try {
      left = trip.commands();
      if (left === 0) {
        done();
        return;
      }
      const words = view(Uint8Array, trip.words_pointer(), trip.words_length());
      const lengths = view(Uint32Array, trip.lengths_pointer(), trip.lengths_length());
      commandsOf(words, lengths, left).forEach((words, command) => {
        this.#ask(words).then((value) => took(command, value), (reason) => took(command, undefined, reason));
      });
    } catch (error) {
      breakOff(error);
    }
  }

  #ask(words) {
    try {
      return Promise.resolve(this.#send(words));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #departSoon() {
    if (this.#isDeparting || this.#underWay.size > 0 || this.engine.waiting() === 0) return;
    this.#isDeparting = true;
    soon(this.#depart);
  }

  #sendWaiting() {
    // Of a cluster each goes its own way, at the same time.
    for (let trip = this.#nextTrip(); trip !== undefined; trip = this.#nextTrip()) this.#travel(trip);
    this.#isDeparting = false;
    this.#departSoon();
  }

  #nextTrip() {
    const trip = this.#spare.pop() ?? new Trip();
    const departs = this.engine.depart(trip, this.#mostRequests);
    this.#tell();
    if (departs) return trip;
    this.#spare.push(trip);
    return undefined;
  }

  #travel(trip) {
    this.#underWay.add(trip);
    this.#carry(trip, () => {
      this.#underWay.delete(trip);
      if (this.#spare.length < MOST_SPARE) this.#spare.push(trip);
      else trip.free();
      // What has come meanwhile travels with what those ask for next who have just been told.
      this.#departSoon();
    });
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
    if (this.#expected.size === 0) this.#alarm.rest();
  }

  // Answers those who have waited long enough. A trip for which nobody waits any more is left to
  // itself: the next can begin.
  #expire() {
    let next = this.engine.expire() ?? Infinity;
    for (const trip of this.#underWay) {
      const left = trip.expire();
      if (left === undefined) this.#underWay.delete(trip);
      else next = Math.min(next, left);
    }
    this.#tell();
    this.#departSoon();
    if (next < Infinity && this.#expected.size > 0) this.#alarm.ringWithin(next);
  }
}

/** Hands a reply over, and returns the error that it is or shows. */
function take(trip, command, value, reason) {
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
