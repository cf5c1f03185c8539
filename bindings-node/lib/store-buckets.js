/** The buckets of a limiter in a store that processes share (`shm://`, Redis), reached by the addon. */

import {
  CheckBatch,
  callLocally,
  callRemotely,
  decideLocally,
  decideRemotely,
  loadAddon,
  sendBatches,
  startWaiting,
} from './calls.js';
import { invalid } from './memory/arguments.js';
import { Decision, readLocalTiers, sourceOf, tierOf } from './memory/decision.js';
import { StoreError, errorFrom } from './memory/errors.js';
import { ownKeys, readKeys } from './memory/keys.js';
import { Pressure } from './memory/pressure.js';
import { StoreHealth } from './memory/store-health.js';
import { Waiters } from './memory/waiters.js';
import { LOCAL_RECORD, RECORD, readRecord, tierNumbers } from './records.js';

const DEFAULT_PREFIX = 'tidegate';
const NOT_IN_SHARED_MEMORY =
  'a limiter on shm:// takes none, because its buckets have the limits of their file; ' +
  'make a limiter for each plan, or use memory:// or a Redis';

/** The buckets of one limiter. Methods answer by promise if the store is remote, and at once if not. */
export class StoreBuckets {
  #limits;
  #options;
  #isClosed = false;
  #native;
  #isRemote;
  #isLeased;
  #batch;
  #waiters = new Waiters();

  constructor(limits, options) {
    this.#limits = limits;
    this.#options = options;
    this.#isLeased = options.lease !== undefined;
    const named = limits.map((limit) => ({ name: limit.name, text: String(limit) }));
    const opened = loadAddon().openLimiter({ ...options, limits: named });
    if ('code' in opened) throw errorFrom(opened);
    this.#native = opened;
    this.#isRemote = opened.isRemote;
    this.#batch = new CheckBatch(opened, limits);
  }

  /** The same buckets under other limits: those of a call, which are not leased. */
  under(limits) {
    if (this.#isClosed) throw new StoreError('store error: the limiter is closed');
    if (this.#options.store.startsWith('shm://')) throw invalid('limits', NOT_IN_SHARED_MEMORY);
    // The default prefix is given, because limiters that leave it out must have the same limits.
    const { prefix = DEFAULT_PREFIX } = this.#options;
    return new StoreBuckets(limits, { ...this.#options, prefix, lease: undefined });
  }

  /** Whether nobody waits. */
  get isIdle() {
    return this.#waiters.size === 0;
  }

  get synchronous() {
    if (!this.#isRemote) return this;
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  get pressure() {
    const { evicted, denied } = this.#native.pressure;
    return new Pressure(evicted, denied);
  }

  get storeHealth() {
    const { state, failures, fallbacks, lastError, sinceMs } = this.#native.storeHealth;
    return new StoreHealth(state, failures, fallbacks, lastError === undefined ? undefined : errorFrom(lastError), sinceMs);
  }

  check(given, cost) {
    const key = readKeys(given, this.#limits.length);
    if (!this.#isRemote) return this.#checkLocal(key, cost);
    if (this.#isLeased) {
      const numbers = this.#native.checkLeased(key, cost);
      if (numbers != null) return Promise.resolve(this.#readLocal(numbers));
    }
    if (typeof key === 'string' && typeof cost === 'number') return this.#batch.check(key, cost);
    return this.#decision((queue, id) => this.#native.check(key, cost, queue, id));
  }

  checkMany(checks) {
    const own = checks.map(({ key, cost }) => ({ key: readKeys(key, this.#limits.length), cost }));
    const read = (records) => {
      let at = 0;
      return checks.map(() => {
        const decision = this.#read(records, at);
        at += RECORD + tierNumbers(records[at]);
        return decision;
      });
    };
    return this.#call((queue, id) => this.#native.checkMany(own, queue, id), read);
  }

  /** The decision that `check` would take; nothing is spent. */
  peek(given, cost) {
    const key = readKeys(given, this.#limits.length);
    return this.#decision((queue, id) => this.#native.peek(key, cost, queue, id));
  }

  /** Reserves a slot. If its decision is a refusal, there is nothing to wait for, settle or cancel. */
  reserve(given, cost, maxWaitMs) {
    const key = readKeys(given, this.#limits.length);
    const own = ownKeys(key);
    const read = ({ decision, delayMs, native }) => ({
      decision: this.#read(decision, 0),
      tier: tierOf(decision[0]),
      cost,
      key: own,
      delayMs,
      native,
    });
    return this.#call((queue, id) => this.#native.reserve(key, cost, maxWaitMs, queue, id), read);
  }

  /** The decision of a call that may wait: at once if this process can allow it, and otherwise by promise. */
  acquire(given, cost, timeoutMs, signal) {
    const key = readKeys(given, this.#limits.length);
    if (!this.#isRemote || this.#isLeased) {
      const answer = this.#native.acquireNow(key, cost);
      if (Array.isArray(answer)) return this.#readLocal(answer);
      if (answer != null) throw errorFrom(answer);
    }
    return this.#waiters.add({ key: ownKeys(key), timeoutMs, signal }, (waiter) => {
      let native;
      const read = (record) => {
        const isTaken = waiter.answer(this.#read(record, 0), tierOf(record[0]));
        // The caller has left while the answer was under way.
        if (!isTaken && (record[0] & 1) === 1) native.handOn();
      };
      const reject = (error) => waiter.fail(error);
      native = startWaiting((queue, id) => this.#native.acquire(key, cost, timeoutMs, queue, id), { read, reject });
      return () => native.leave();
    });
  }

  /** The callers that wait for the tokens of `key`. */
  waiting(given) {
    const key = readKeys(given, this.#limits.length);
    const waiting = this.#native.waiting(key);
    if ('code' in waiting) throw errorFrom(waiting);
    return waiting;
  }

  cancel({ native }) {
    return this.#call((queue, id) => native.cancel(queue, id), (all) => all);
  }

  /** Makes one of `CORRECTIONS`. */
  correct(given, correction, first = 0, second = 0, waitMs = 0) {
    const key = readKeys(given, this.#limits.length);
    return this.#decision((queue, id) => this.#native.correct(key, correction, first, second, waitMs, queue, id));
  }

  /** Corrects the charge of a slot to `actual` tokens. */
  settleSlot({ native }, actual) {
    return this.#decision((queue, id) => native.settle(actual, queue, id));
  }

  /** Asks the store once whether it serves this limiter. */
  ping() {
    return this.#call((queue, id) => this.#native.ping(queue, id), () => undefined);
  }

  close() {
    this.#isClosed = true;
    sendBatches();
    this.#native.close();
  }

  // The hot path of `shm://`: it answers by numbers, for the reason that the addon gives.
  #checkLocal(key, cost) {
    const answer = this.#native.checkLocal(key, cost);
    if (!Array.isArray(answer)) throw errorFrom(answer);
    return this.#readLocal(answer);
  }

  // A decision of this process is by a whole limit, so its numbers leave the burst out.
  #readLocal(numbers) {
    const [status, remaining, retryAfterMs, resetAfterMs] = numbers;
    const tier = tierOf(status);
    // A lease knows only the limit that bound its answer, and some limits need no bucket.
    const isWhole = numbers.length > LOCAL_RECORD && numbers.length === LOCAL_RECORD + 3 * (this.#limits.length - 1);
    const tiers = isWhole ? readLocalTiers(numbers, LOCAL_RECORD, this.#limits, tier) : undefined;
    return new Decision((status & 1) === 1, this.#limits[tier], remaining, retryAfterMs, resetAfterMs, sourceOf(status), tiers);
  }

  #read(records, at) {
    return readRecord(records, at, this.#limits);
  }

  #decision(start) {
    return this.#isRemote ? decideRemotely(start, this.#limits) : decideLocally(start, this.#limits);
  }

  #call(start, read) {
    return this.#isRemote ? callRemotely(start, read) : callLocally(start, read);
  }
}
