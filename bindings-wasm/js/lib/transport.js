/** Sends the requests of limiters in batches over a Redis client that the program has made. */

import { Alarm } from './alarm.js';
import { Callers } from './callers.js';
import { monotonicMillis } from './clock.js';
import { exchange } from './exchange.js';
import { runtime } from './runtime.js';
import { Batch } from './tidegate_wasm.js';
import { TurnTransport } from './turn-transport.js';

// The most batch objects that are kept for later use, because making one costs more than a batch takes.
const MAX_SPARE = 16;
// Runs a function after the other callbacks of this turn of the event loop, if the runtime can do
// that, and otherwise after the current callback.
const soon = (run) => (globalThis.setImmediate ?? globalThis.queueMicrotask)(run);
const transports = new WeakMap();

/** The transport of a client, which all limiters over that client share. */
export function transportOf(client) {
  const known = transports.get(client);
  if (known !== undefined) return known;
  const transport = runtime.isolatesRequests ? new TurnTransport(client) : new Transport(client);
  transports.set(client, transport);
  return transport;
}

/**
 * Gathers the requests of one turn of the event loop and sends them in one batch. Requests that
 * come while it is in flight share the next one. The engine decides what is sent, and what follows
 * from the replies.
 */
class Transport extends Callers {
  // The batches that somebody waits for.
  #inFlight = new Set();
  // The batches that were in flight when some caller's timeout was over. Callers of such a batch may
  // have been answered without a reply, so perhaps nobody waits for its remaining replies.
  #overdue = new Set();
  // Batch objects that are free to be used again.
  #spare = [];
  #isScheduled = false;
  #scheduledAt = 0;
  #sendWaiting = () => this.#sendBatches();
  #alarm = new Alarm(() => this.#expire());
  #watchers = new Set();

  /** Promises what `read` makes of the answer to the call that `start` makes under an id. */
  call(start, read, timeoutMs) {
    return new Promise((resolve, reject) => {
      this.enter({ read, resolve, reject }, start);
      this.takeAnswers();
      if (this.count > 0) this.#alarm.ringWithin(timeoutMs);
      this.#schedule();
    });
  }

  /** Hands over the answers that have come. A store's error gets `cause` as its cause. */
  takeAnswers(cause) {
    super.takeAnswers(cause);
    for (const look of this.#watchers) look();
    this.#restIfIdle();
  }

  /** Calls `look` whenever answers may have come, until `unwatch`. */
  watch(look) {
    this.#watchers.add(look);
  }

  unwatch(look) {
    this.#watchers.delete(look);
  }

  /** Sends the requests that the engine has made by itself, for which no caller waits. */
  flush(timeoutMs) {
    if (this.engine.waiting() === 0) return;
    this.#alarm.ringWithin(timeoutMs);
    this.#schedule();
  }

  #schedule() {
    if (this.#isScheduled || this.#inFlight.size > 0 || this.engine.waiting() === 0) return;
    this.#isScheduled = true;
    this.#scheduledAt = monotonicMillis();
    soon(this.#sendWaiting);
  }

  #sendBatches() {
    // The batch is sent in the turn in which it was scheduled, unless something blocked that.
    this.#alarm.excuse(monotonicMillis() - this.#scheduledAt);
    // Over a cluster's client each request is a batch of its own, and all are sent at once.
    for (let batch = this.#nextBatch(); batch !== undefined; batch = this.#nextBatch()) this.#start(batch);
    this.#isScheduled = false;
    this.#schedule();
  }

  #nextBatch() {
    const batch = this.#spare.pop() ?? new Batch();
    const hasRequests = this.engine.next_batch(batch, this.maxRequests, this.#alarm.isExcused);
    this.takeAnswers();
    if (hasRequests) return batch;
    this.#spare.push(batch);
    return undefined;
  }

  #start(batch) {
    this.#inFlight.add(batch);
    exchange(batch, {
      send: this.send,
      settle: (cause) => this.takeAnswers(cause),
      waits: () => {
        if (this.#overdue.has(batch)) this.#leaveIfUnawaited(batch);
      },
      done: () => {
        this.#leave(batch);
        if (this.#spare.length < MAX_SPARE) this.#spare.push(batch);
        else batch.free();
        this.#restIfIdle();
        // The next batch is sent in a later turn, so that requests that came meanwhile share it with
        // those that the answered callers make next.
        this.#schedule();
      },
    });
  }

  // Lets the next batch be sent if nobody waits for the rest of this one. The alarm cannot find that
  // out, because it may be set for the later deadline of a caller that is answered already.
  #leaveIfUnawaited(batch) {
    const left = batch.expire();
    this.takeAnswers();
    if (left !== undefined) return;
    this.#leave(batch);
    this.#restIfIdle();
    this.#schedule();
  }

  #leave(batch) {
    this.#inFlight.delete(batch);
    this.#overdue.delete(batch);
  }

  #restIfIdle() {
    if (this.count === 0 && this.#inFlight.size === 0) this.#alarm.rest();
  }

  // Answers the callers whose timeout is over. A batch for which nobody waits any more is not waited
  // for, so that the next one can be sent.
  #expire() {
    let next = this.engine.expire() ?? Infinity;
    for (const batch of this.#inFlight) {
      this.#overdue.add(batch);
      const left = batch.expire();
      if (left === undefined) this.#leave(batch);
      else next = Math.min(next, left);
    }
    this.takeAnswers();
    this.#schedule();
    if (next < Infinity) this.#alarm.ringWithin(next);
  }
}
