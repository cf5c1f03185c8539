/** Sends the requests of limiters over a Redis client of the program's own, in batches. */

import { Alarm } from './alarm.js';
import { commandsOf, isCluster, isTextOnly, isTimeout, partsOf, refusalOf, senderOf } from './clients.js';
import { view } from './engine.js';
import { StoreTimeout } from './errors.js';
import { Batch, Client } from './tidegate_wasm.js';

/** The most requests in one batch. */
const MAX_REQUESTS = 8192;
/** How many batch objects are kept for later: making one costs more than a batch takes. */
const MAX_SPARE = 16;
// After the turn's other callbacks, where the runtime can do that.
const soon = (run) => (globalThis.setImmediate ?? globalThis.queueMicrotask)(run);
const transports = new WeakMap();

/** The transport of a client, for all limiters that use the client. */
export function transportOf(client) {
  const known = transports.get(client);
  if (known !== undefined) return known;
  const transport = new Transport(client);
  transports.set(client, transport);
  return transport;
}

/**
 * Gathers the requests of one turn of the event loop and sends them in one batch. Requests that
 * come while it is in flight share the next one. The engine decides what is sent, and what follows
 * from the replies.
 */
class Transport {
  /** The engine's part. */
  engine = new Client();
  #send;
  #maxRequests;
  #lastId = 0;
  // The callers, by the number of their call.
  #callers = new Map();
  // The batches that somebody waits for.
  #inFlight = new Set();
  // The batches among them that were in flight when some caller's timeout was over. Their callers may have
  // been told without a reply, so it can be that nobody waits for the replies that are left.
  #overdue = new Set();
  // Batch objects that are free to be used again.
  #spare = [];
  #isScheduled = false;
  #sendWaiting = () => this.#sendBatches();
  #alarm = new Alarm(() => this.#expire());

  constructor(client) {
    this.#send = senderOf(client);
    this.#maxRequests = isCluster(client) ? 1 : MAX_REQUESTS;
    /** Whether the client can send text only, and no other bytes. */
    this.textOnly = isTextOnly(client);
  }

  /** Promises what `read` makes of the answer to the call that `start` makes under a number. */
  ask(start, read, timeoutMs) {
    return new Promise((resolve, reject) => {
      const id = (this.#lastId + 1) >>> 0;
      this.#lastId = id;
      this.#callers.set(id, { read, resolve, reject });
      try {
        start(id);
      } catch (error) {
        // No answer will come, and a caller that stays registered would keep the alarm set.
        this.#callers.delete(id);
        throw error;
      }
      this.#settle();
      if (this.#callers.size > 0) this.#alarm.ringWithin(timeoutMs);
      this.#schedule();
    });
  }

  /** Sends the requests that the engine has made by itself, which nobody here waits for. */
  flush(timeoutMs) {
    if (this.engine.waiting() === 0) return;
    this.#alarm.ringWithin(timeoutMs);
    this.#schedule();
  }

  // Not async, and with few promises of its own: they would take longer than the rest of it.
  #exchange(batch, done) {
    let left = 0;
    const breakOff = (error) => {
      left = 0;
      batch.end(`${error.name}: ${error.message}`);
      this.#settle(error);
      done();
    };
    const took = (command, value, reason) => {
      if (left === 0) return;
      try {
        this.#settle(take(batch, command, value, reason));
        left -= 1;
        if (left === 0) this.#exchange(batch, done);
        else if (this.#overdue.has(batch)) this.#leaveIfUnawaited(batch);
      } catch (error) {
        breakOff(error);
      }
    };
    try {
      left = batch.commands();
      if (left === 0) {
        done();
        return;
      }
      const words = view(Uint8Array, batch.words_pointer(), batch.words_length());
      const lengths = view(Uint32Array, batch.lengths_pointer(), batch.lengths_length());
      commandsOf(words, lengths, left).forEach((own, command) => {
        this.#sendCommand(own).then((value) => took(command, value), (reason) => took(command, undefined, reason));
      });
    } catch (error) {
      breakOff(error);
    }
  }

  #sendCommand(words) {
    try {
      return Promise.resolve(this.#send(words));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #schedule() {
    if (this.#isScheduled || this.#inFlight.size > 0 || this.engine.waiting() === 0) return;
    this.#isScheduled = true;
    soon(this.#sendWaiting);
  }

  #sendBatches() {
    // Over a cluster's client each request is a batch of its own, and all are sent at once.
    for (let batch = this.#nextBatch(); batch !== undefined; batch = this.#nextBatch()) this.#start(batch);
    this.#isScheduled = false;
    this.#schedule();
  }

  #nextBatch() {
    const batch = this.#spare.pop() ?? new Batch();
    const hasRequests = this.engine.next_batch(batch, this.#maxRequests);
    this.#settle();
    if (hasRequests) return batch;
    this.#spare.push(batch);
    return undefined;
  }

  #start(batch) {
    this.#inFlight.add(batch);
    this.#exchange(batch, () => {
      this.#leave(batch);
      if (this.#spare.length < MAX_SPARE) this.#spare.push(batch);
      else batch.free();
      this.#restIfIdle();
      // Requests that came meanwhile share a batch with those that answered callers make next.
      this.#schedule();
    });
  }

  // The alarm may be set for a deadline that no caller has any more, so it cannot find this out.
  #leaveIfUnawaited(batch) {
    const left = batch.expire();
    this.#settle();
    if (left !== undefined) return;
    this.#leave(batch);
    this.#restIfIdle();
    this.#schedule();
  }

  #leave(batch) {
    this.#inFlight.delete(batch);
    this.#overdue.delete(batch);
  }

  /** Settles the promises whose answers are there. `cause` becomes the cause of a store's error. */
  #settle(cause) {
    for (let id = this.engine.take_answer(); id !== undefined; id = this.engine.take_answer()) {
      const { read, resolve, reject } = this.#callers.get(id);
      this.#callers.delete(id);
      try {
        resolve(read(this.engine));
      } catch (error) {
        reject(because(error, cause));
      }
    }
    this.#restIfIdle();
  }

  #restIfIdle() {
    if (this.#callers.size === 0 && this.#inFlight.size === 0) this.#alarm.rest();
  }

  // Tells the callers whose timeout is over. A batch that nobody waits for any more is left to
  // itself: the next one can leave.
  #expire() {
    let next = this.engine.expire() ?? Infinity;
    for (const batch of this.#inFlight) {
      this.#overdue.add(batch);
      const left = batch.expire();
      if (left === undefined) this.#leave(batch);
      else next = Math.min(next, left);
    }
    this.#settle();
    this.#schedule();
    if (next < Infinity) this.#alarm.ringWithin(next);
  }
}

/** Hands a reply to the batch, and returns the error that it is or shows. */
function take(batch, command, value, reason) {
  if (reason === undefined && Array.isArray(value)) {
    const { bytes, lengths } = partsOf(value);
    batch.take(command, bytes, lengths);
    return undefined;
  }
  const cause = reason ?? new TypeError('a reply has another form');
  const refusal = refusalOf(cause);
  if (refusal === undefined) batch.fail(command, `${cause.name}: ${cause.message}`, isTimeout(cause));
  else batch.refuse(command, refusal);
  return cause;
}

function because(error, cause) {
  if (cause !== undefined && (error.code === 'store_error' || error instanceof StoreTimeout)) {
    Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true });
  }
  return error;
}
