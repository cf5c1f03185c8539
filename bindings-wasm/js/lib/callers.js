/** The callers that share a Redis client: the part that all transports have in common. */

import { isCluster, isTextOnly, placeOf, senderOf } from './clients.js';
import { because } from './exchange.js';
import { Client } from './tidegate_wasm.js';

// The most requests in one batch. Over a cluster's client each request is a batch of its own.
const MAX_REQUESTS = 8192;

/** The callers of a client, each of which gets the answer to its call of the engine. */
export class Callers {
  /** The engine's part of the transport: the queues of requests and answers. */
  engine;
  /** The function that sends the words of a command. */
  send;
  /** The most requests in one batch. */
  maxRequests;
  #lastId = 0;
  // The callers by the id of their call.
  #callers = new Map();

  constructor(client) {
    this.engine = new Client(placeOf(client));
    this.send = senderOf(client);
    this.maxRequests = isCluster(client) ? 1 : MAX_REQUESTS;
    /** Whether the client can send text only, and no other bytes. */
    this.textOnly = isTextOnly(client);
  }

  /** The number of callers that have no answer yet. */
  get count() {
    return this.#callers.size;
  }

  /** Whether the caller under this id has no answer yet. */
  isWaiting(id) {
    return this.#callers.has(id);
  }

  /**
   * Registers a caller, who gets the answer to the call that `start` makes under an id. Returns the id. It is to be
   * followed by `takeAnswers` and `flush`, or by `forget`, in the same turn.
   */
  enter(caller, start) {
    const id = (this.#lastId + 1) >>> 0;
    this.#lastId = id;
    this.#callers.set(id, caller);
    try {
      start(id);
    } catch (error) {
      // No answer will come, and a caller that stays registered would keep timers set.
      this.#callers.delete(id);
      throw error;
    }
    return id;
  }

  /** Forgets a caller that will get no answer. */
  forget(id) {
    this.#callers.delete(id);
  }

  /** Hands over the answers that have come. A store's error gets `cause` as its cause. */
  takeAnswers(cause) {
    for (let id = this.engine.take_answer(); id !== undefined; id = this.engine.take_answer()) {
      // A caller that was forgotten is not there.
      const caller = this.#callers.get(id);
      this.#callers.delete(id);
      try {
        caller?.resolve(caller.read(this.engine));
      } catch (error) {
        caller.reject(because(error, cause));
      }
    }
  }
}
