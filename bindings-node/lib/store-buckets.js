/** The buckets of a limiter in a store that processes share (`shm://`, Redis), reached by the addon. */

import {
  Gathering,
  callLocally,
  callRemotely,
  decideLocally,
  decideRemotely,
  decisionOf,
  loadAddon,
  sendGathered,
} from './calls.js';
import { invalid } from './memory/arguments.js';
import { Decision } from './memory/decision.js';
import { errorFrom } from './memory/errors.js';
import { checkKeys, ownKeys } from './memory/keys.js';
import { Pressure } from './memory/pressure.js';
import { sleepUntil } from './memory/sleep.js';
import { StoreHealth } from './memory/store-health.js';

/** The buckets of one limiter. Methods answer by promise if the store is remote, and at once if not. */
export class StoreBuckets {
  #limits;
  #native;
  #remote;
  #leased;
  #gathering;

  constructor(limits, options) {
    this.#limits = limits;
    this.#leased = options.lease !== undefined;
    const named = limits.map((limit) => ({ name: limit.name, text: String(limit) }));
    const opened = loadAddon().openLimiter({ ...options, limits: named });
    if ('code' in opened) throw errorFrom(opened);
    this.#native = opened;
    this.#remote = opened.isRemote;
    this.#gathering = new Gathering(opened, limits);
  }

  get synchronous() {
    if (!this.#remote) return this;
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  get pressure() {
    const { evicted, denied } = this.#native.pressure;
    return new Pressure(evicted, denied);
  }

  get storeHealth() {
    const { state, failures, fallbacks } = this.#native.storeHealth;
    return new StoreHealth(state, failures, fallbacks);
  }

  check(key, cost) {
    checkKeys(key, this.#limits.length);
    if (!this.#remote) return this.#checkLocal(key, cost);
    if (this.#leased) {
      const numbers = this.#native.checkLeased(key, cost);
      if (numbers != null) return Promise.resolve(this.#decide(numbers, 'lease'));
    }
    if (typeof key === 'string') return this.#gathering.check(key, cost);
    return this.#decision((queue, id) => this.#native.check(key, cost, queue, id));
  }

  checkMany(checks) {
    for (const { key } of checks) checkKeys(key, this.#limits.length);
    const limits = this.#limits;
    const read = (answers) => answers.map((answer) => decisionOf(answer, limits));
    return this.#call((queue, id) => this.#native.checkMany(checks, queue, id), read);
  }

  /** Reserves a slot. If its decision is a refusal, there is nothing to wait for, settle or cancel. */
  reserve(key, cost, maxWaitMs) {
    checkKeys(key, this.#limits.length);
    const [limits, own] = [this.#limits, ownKeys(key)];
    const read = ({ decision, delayMs, native }) => ({
      decision: decisionOf(decision, limits),
      tier: decision.tier,
      cost,
      key: own,
      delayMs,
      due: performance.now() + delayMs,
      native,
    });
    return this.#call((queue, id) => this.#native.reserve(key, cost, maxWaitMs, queue, id), read);
  }

  /** Waits until the slot has come. */
  wait({ delayMs, due }, signal) {
    return delayMs === 0 ? undefined : sleepUntil(due, signal);
  }

  cancel({ native }) {
    return this.#call((queue, id) => native.cancel(queue, id), (all) => all);
  }

  settle(key, charged, actual) {
    checkKeys(key, this.#limits.length);
    return this.#decision((queue, id) => this.#native.settle(key, charged, actual, queue, id));
  }

  /** Corrects the charge of a slot to `actual` tokens. */
  settleSlot({ native }, actual) {
    return this.#decision((queue, id) => native.settle(actual, queue, id));
  }

  credit(key, tokens) {
    checkKeys(key, this.#limits.length);
    return this.#decision((queue, id) => this.#native.credit(key, tokens, queue, id));
  }

  hold(key, waitMs) {
    checkKeys(key, this.#limits.length);
    return this.#decision((queue, id) => this.#native.hold(key, waitMs, queue, id));
  }

  reset(key) {
    checkKeys(key, this.#limits.length);
    return this.#decision((queue, id) => this.#native.reset(key, queue, id));
  }

  close() {
    sendGathered();
    this.#native.close();
  }

  // The hot path of `shm://`: it answers by numbers, for the reason that the addon gives.
  #checkLocal(key, cost) {
    const answer = this.#native.checkLocal(key, cost);
    if (!Array.isArray(answer)) throw errorFrom(answer);
    return this.#decide(answer, 'shm');
  }

  #decide([status, remaining, retryAfterMs, resetAfterMs], source) {
    const allowed = (status & 1) === 1;
    return new Decision(allowed, this.#limits[status >>> 1], remaining, retryAfterMs, resetAfterMs, source);
  }

  #decision(start) {
    return this.#remote ? decideRemotely(start, this.#limits) : decideLocally(start, this.#limits);
  }

  #call(start, read) {
    return this.#remote ? callRemotely(start, read) : callLocally(start, read);
  }
}
