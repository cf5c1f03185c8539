/** Sends the requests of limiters over a Redis client, in runtimes where no request may wait for another one. */

import { Callers } from './callers.js';
import { monotonicMillis } from './clock.js';
import { exchange } from './exchange.js';
import { Batch } from './tidegate_wasm.js';

// How long after its deadline a turn is forgotten. Until then, the timer of a request that still runs has
// answered the callers. A request that the runtime has ended has no timer any more.
const GRACE_MS = 5000;

/**
 * Gathers the calls of one turn of the event loop, which belong to one request of the runtime, and sends them in
 * one batch at once. Each turn has a timer of its own, which that request sets.
 */
export class TurnTransport extends Callers {
  #turn = new Turn();
  // The turns that were sent and are not over, in the order in which they were sent.
  #sent = new Set();

  /** Promises what `read` makes of the answer to the call that `start` makes under an id. */
  call(start, read, timeoutMs) {
    return new Promise((resolve, reject) => {
      const id = this.enter({ read, resolve, reject }, start);
      this.takeAnswers();
      if (this.isWaiting(id)) this.#turn.ids.push(id);
      this.#schedule(timeoutMs);
    });
  }

  /** Sends the requests that the engine has made by itself, and promises their end; undefined if there are none. */
  flush(timeoutMs) {
    if (this.engine.waiting() === 0) return undefined;
    const { over } = this.#turn;
    this.#schedule(timeoutMs);
    return over;
  }

  // Lets the turn be sent after the other calls that the current callback makes. These are calls of the same
  // request, because a runtime runs all microtasks of a callback before it goes on with another request.
  #schedule(timeoutMs) {
    if (this.engine.waiting() === 0) return;
    this.#turn.timeoutMs = Math.max(this.#turn.timeoutMs, timeoutMs);
    queueMicrotask(() => this.#sendTurn());
  }

  #sendTurn() {
    if (this.engine.waiting() === 0) return;
    this.#forgetEnded();
    const turn = this.#turn;
    this.#turn = new Turn();
    turn.forgetAt = monotonicMillis() + turn.timeoutMs + GRACE_MS;
    this.#sent.add(turn);
    for (let batch = this.#nextBatch(); batch !== undefined; batch = this.#nextBatch()) turn.batches.add(batch);
    for (const batch of [...turn.batches]) this.#start(batch, turn);
    if (turn.batches.size === 0) this.#end(turn);
    else turn.timer = setTimeout(() => this.#expire(turn), turn.timeoutMs);
  }

  #nextBatch() {
    const batch = new Batch();
    const hasRequests = this.engine.next_batch(batch, this.maxRequests, false);
    this.takeAnswers();
    if (hasRequests) return batch;
    batch.free();
    return undefined;
  }

  #start(batch, turn) {
    exchange(batch, {
      send: this.send,
      settle: (cause) => this.takeAnswers(cause),
      isGone: () => !turn.batches.has(batch),
      done: () => {
        turn.batches.delete(batch);
        batch.free();
        if (turn.batches.size === 0) this.#end(turn);
      },
    });
  }

  #end(turn) {
    clearTimeout(turn.timer);
    this.#sent.delete(turn);
    turn.finish();
  }

  // Answers the callers of the turn whose timeout is over.
  #expire(turn) {
    const lefts = [...turn.batches].map((batch) => batch.expire()).filter((left) => left !== undefined);
    this.takeAnswers();
    // A clock of the runtime may be a little behind its timers.
    if (lefts.length > 0) turn.timer = setTimeout(() => this.#expire(turn), Math.max(Math.min(...lefts), 1));
    else turn.finish();
  }

  // Frees what is left of requests that the runtime has ended. The engine then takes their calls as not made.
  #forgetEnded() {
    const now = monotonicMillis();
    for (const turn of this.#sent) {
      if (turn.forgetAt > now) continue;
      const batches = [...turn.batches];
      turn.batches.clear();
      for (const batch of batches) batch.free();
      for (const id of turn.ids) this.forget(id);
      this.#sent.delete(turn);
    }
  }
}

/** The calls of one turn of the event loop. */
class Turn {
  ids = [];
  batches = new Set();
  timeoutMs = 0;
  timer;
  forgetAt;
  #over;
  #finish;

  /** Resolves when every call has been answered or its timeout is over. It belongs to the request that asks first. */
  get over() {
    this.#over ??= new Promise((resolve) => {
      this.#finish = resolve;
    });
    return this.#over;
  }

  finish() {
    this.#finish?.();
  }
}
