/** The public limiter: it checks arguments, and passes calls on to the buckets of any store. */

import { checkFields, checkSignal, checkTokens, checkWait, describe, invalid } from './arguments.js';
import { Charge, holdDuring } from './charge.js';
import { CORRECTIONS } from './engine.js';
import { ownKeys } from './keys.js';
import { Limits, checkCount, keyOf, readLimits } from './limit.js';
import { Reservation } from './reservation.js';
import { throwIfAborted } from './waiters.js';

// Checks are read, planned and answered in one go: more of them would hold up the event loop.
const MAX_CHECKS = 10_000;
const CHECK_OPTIONS = ['cost', 'limits'];
const MANY_FIELDS = ['key', 'cost'];
const RESERVE_OPTIONS = ['cost', 'maxWaitMs', 'limits'];
const ACQUIRE_OPTIONS = ['cost', 'timeoutMs', 'signal', 'limits'];
const RESERVING_OPTIONS = [...ACQUIRE_OPTIONS, 'onError'];
const ON_ERROR = ['cancel', 'settle'];
// How many limiters for the limits of calls are kept. Another one takes the place of the oldest with nobody waiting.
const MAX_PLANS = 1024;
const ACQUIRE_DEFAULTS = { cost: 1, timeoutMs: Infinity, signal: undefined };

/** Decides whether a key may spend tokens, over one to four limits that all must allow. */
export class Limiter {
  #buckets;
  // The limiters for limits of calls, by the names and texts of those.
  #plans;
  // The limiter that each `Limits` had last, which is usually among those.
  #lastOf;
  #key;
  // The limiter that these limits of a call were given to.
  #base;

  /** Use `createLimiter`. */
  constructor(limits, buckets) {
    if (typeof buckets?.check !== 'function') {
      throw invalid('Limiter', "a limiter is made by createLimiter({ limits: '10/s' }), not with new");
    }
    /** The limits, in the order they were given. */
    this.limits = Object.freeze(limits);
    this.#buckets = buckets;
  }

  /** Counts of what the buckets' store could not keep because it was full. */
  get pressure() {
    return this.#buckets.pressure;
  }

  /** The state of the buckets' store, and counts of its failures. */
  get storeHealth() {
    const health = this.#buckets.storeHealth;
    for (const { storeHealth } of this.#plans?.values() ?? []) health.fallbacks += storeHealth.fallbacks;
    return health;
  }

  /** The same buckets under other limits: those of a call, such as a customer's plan. */
  withLimits(limits) {
    const base = this.#base ?? this;
    const last = base.#lastOf?.get(limits);
    if (last !== undefined && base.#plans?.get(last.#key) === last) return last;
    const read = readLimits(limits);
    const key = keyOf(read);
    base.#plans ??= new Map();
    let limiter = base.#plans.get(key);
    if (limiter === undefined) {
      checkCount(read);
      limiter = new Limiter(read, base.#buckets.under(read));
      limiter.#base = base;
      limiter.#key = key;
      if (base.#plans.size >= MAX_PLANS) forgetOldest(base.#plans, (plan) => plan.#buckets.isIdle);
      base.#plans.set(key, limiter);
    }
    if (limits instanceof Limits) {
      base.#lastOf ??= new WeakMap();
      base.#lastOf.set(limits, limiter);
    }
    return limiter;
  }

  /** Spends `cost` tokens of `key` if every limit allows; never waits for tokens. */
  check(key, options, surplus) {
    // This is not async, because that would make two more promises for each one that the buckets give.
    try {
      refuseSurplus(surplus);
      if (bringsLimits(options)) return this.withLimits(options.limits).check(key, withoutLimits(options));
      const decision = this.#buckets.check(key, costIn(options, this.limits.length));
      return decision instanceof Promise ? decision : Promise.resolve(decision);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** `check` without a promise, for buckets in memory. */
  checkSync(key, options, surplus) {
    refuseSurplus(surplus);
    if (bringsLimits(options)) return this.withLimits(options.limits).checkSync(key, withoutLimits(options));
    return this.#buckets.synchronous.check(key, costIn(options, this.limits.length));
  }

  /** Decides each check by itself, in order. If one has an invalid argument, no check is charged. */
  async checkMany(checks, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.checkMany(readChecks(checks, this.limits.length));
  }

  /** `checkMany` without a promise, for buckets in memory. */
  checkManySync(checks, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.synchronous.checkMany(readChecks(checks, this.limits.length));
  }

  /** The decision that `check` would take now; nothing is spent. */
  async peek(key, options, surplus) {
    refuseSurplus(surplus);
    if (bringsLimits(options)) return this.withLimits(options.limits).peek(key, withoutLimits(options));
    return this.#buckets.peek(key, costIn(options, this.limits.length));
  }

  /** `peek` without a promise, for buckets in memory. */
  peekSync(key, options, surplus) {
    refuseSurplus(surplus);
    if (bringsLimits(options)) return this.withLimits(options.limits).peekSync(key, withoutLimits(options));
    return this.#buckets.synchronous.peek(key, costIn(options, this.limits.length));
  }

  /** Charges `cost` tokens for the next free slot if it is at most `maxWaitMs` away; never waits. */
  async reserve(key, options) {
    if (bringsLimits(options)) return this.withLimits(options.limits).reserve(key, withoutLimits(options));
    const { cost, maxWaitMs } = readReserve(options, this.limits.length);
    return new Reservation(this.#buckets, this.limits.length, await this.#buckets.reserve(key, cost, maxWaitMs));
  }

  /** `reserve` without a promise, for buckets in memory. */
  reserveSync(key, options) {
    if (bringsLimits(options)) return this.withLimits(options.limits).reserveSync(key, withoutLimits(options));
    const { cost, maxWaitMs } = readReserve(options, this.limits.length);
    return new Reservation(this.#buckets, this.limits.length, this.#buckets.synchronous.reserve(key, cost, maxWaitMs));
  }

  /** Waits in line until `cost` tokens may be spent, and spends them. */
  acquire(key, options) {
    // This is not async, for the reason that `check` gives.
    try {
      if (bringsLimits(options)) return this.withLimits(options.limits).acquire(key, withoutLimits(options));
      const { cost, timeoutMs, signal } = options === undefined ? ACQUIRE_DEFAULTS : readAcquire(options, this.limits.length);
      const decision = this.#buckets.acquire(key, cost, timeoutMs, signal);
      return decision instanceof Promise ? decision : Promise.resolve(decision);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Waits as `acquire` does for the tokens of an estimate, and gives a `Charge` that can be settled or
   * cancelled. With `work`, calls it with the charge, and resolves to what it gives.
   */
  async reserving(key, options, work) {
    if (bringsLimits(options)) return this.withLimits(options.limits).reserving(key, withoutLimits(options), work);
    const { cost, timeoutMs, signal, onError } = readReserving(options, work, this.limits.length);
    const own = ownKeys(key);
    const decision = await this.#buckets.acquire(key, cost, timeoutMs, signal);
    const charge = new Charge(this.#buckets, this.limits.length, { key: own, cost, decision });
    return work === undefined ? charge : holdDuring(charge, onError, work);
  }

  /** The callers of `acquire` that wait for the tokens of `key` in this process, and for how long. */
  waiting(key, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.waiting(key);
  }

  /** Corrects a charge of `charged` tokens to `actual` tokens, which may exceed the burst. */
  async settle(key, charged, actual, surplus) {
    refuseSurplus(surplus);
    return this.#settle(this.#buckets, key, charged, actual);
  }

  /** `settle` without a promise, for buckets in memory. */
  settleSync(key, charged, actual, surplus) {
    refuseSurplus(surplus);
    return this.#settle(this.#buckets.synchronous, key, charged, actual);
  }

  #settle(buckets, key, charged, actual) {
    const count = this.limits.length;
    return buckets.correct(key, CORRECTIONS.settle, checkTokens('charged', charged, count), checkTokens('actual', actual, count));
  }

  /** Gives `tokens` back to every bucket of `key`. No bucket becomes more than full. */
  async credit(key, tokens, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.correct(key, CORRECTIONS.credit, checkTokens('tokens', tokens, this.limits.length));
  }

  /** `credit` without a promise, for buckets in memory. */
  creditSync(key, tokens, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.synchronous.correct(key, CORRECTIONS.credit, checkTokens('tokens', tokens, this.limits.length));
  }

  /** Pauses `key` for `waitMs`, as a server demands that answers with `Retry-After`. */
  async hold(key, waitMs, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.correct(key, CORRECTIONS.hold, 0, 0, checkWait('waitMs', waitMs));
  }

  /** `hold` without a promise, for buckets in memory. */
  holdSync(key, waitMs, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.synchronous.correct(key, CORRECTIONS.hold, 0, 0, checkWait('waitMs', waitMs));
  }

  /** Fills the buckets of `key`: its debts and holds are forgotten. */
  async reset(key, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.correct(key, CORRECTIONS.reset);
  }

  /** `reset` without a promise, for buckets in memory. */
  resetSync(key, surplus) {
    refuseSurplus(surplus);
    return this.#buckets.synchronous.correct(key, CORRECTIONS.reset);
  }

  /** Asks the store once whether it serves this limiter, and rejects if not; for readiness probes. */
  async ping() {
    await this.#buckets.ping();
  }

  /** Closes the limiter: later calls throw StoreError. Closing twice does no harm. */
  close() {
    if (this.#base !== undefined) {
      // The base may have forgotten this one.
      this.#buckets.close();
      this.#base.close();
      return;
    }
    for (const limiter of this.#plans?.values() ?? []) limiter.#buckets.close();
    this.#plans = undefined;
    this.#buckets.close();
  }
}

// Older runtimes do not have the symbol.
if (typeof Symbol.dispose === 'symbol') {
  const value = function dispose() {
    this.close();
  };
  Object.defineProperty(Limiter.prototype, Symbol.dispose, { value, writable: true, configurable: true });
}

// Forgets the oldest entry of a map that is not in use.
function forgetOldest(map, isIdle) {
  for (const [key, value] of map) {
    if (!isIdle(value)) continue;
    map.delete(key);
    return;
  }
}

// Refuses an argument too many: ignored, the limits of a call would be mistaken for those of the limiter.
function refuseSurplus(surplus) {
  if (surplus === undefined) return;
  throw invalid('arguments', 'there is one too many; limits of the call go beside its cost, or into withLimits(limits)');
}

// Whether a call has limits of its own. Every other mistake in the options is found where they are read.
function bringsLimits(options) {
  return typeof options === 'object' && options !== null && options.limits !== undefined;
}

function withoutLimits({ limits, ...options }) {
  return options;
}

function readChecks(checks, limits) {
  if (!Array.isArray(checks)) throw invalid('checks', `they must be an array, but are ${describe(checks)}`);
  if (checks.length > MAX_CHECKS) throw invalid('checks', `there may be at most ${MAX_CHECKS} in one call; make several calls`);
  return Array.from(checks, (given) => {
    const isKey = typeof given !== 'object' || given instanceof Uint8Array || Array.isArray(given);
    if (isKey) return { key: given, cost: 1 };
    checkFields('check', given, MANY_FIELDS);
    const { key, cost = 1 } = given;
    return { key, cost: checkTokens('cost', cost, limits) };
  });
}

// The cost, given by itself or as a field.
function costIn(options, limits) {
  if (options === undefined) return 1;
  if (typeof options !== 'object' || options === null || Array.isArray(options)) return checkTokens('cost', options, limits);
  checkFields('options', options, CHECK_OPTIONS);
  const { cost = 1 } = options;
  return checkTokens('cost', cost, limits);
}

function readReserve(options = {}, limits) {
  checkFields('options', options, RESERVE_OPTIONS);
  const { cost = 1, maxWaitMs = Infinity } = options;
  return { cost: checkTokens('cost', cost, limits), maxWaitMs: checkWait('maxWaitMs', maxWaitMs) };
}

function readReserving(options, work, limits) {
  checkFields('options', options, RESERVING_OPTIONS);
  const { onError, ...acquiring } = options;
  checkTokens('cost', acquiring.cost, limits); // an estimate has no default
  if (work === undefined) {
    if (onError !== undefined) throw invalid('onError', 'it is for the form with a function only; leave it out');
  } else if (typeof work !== 'function') {
    throw invalid('work', `it must be a function, but is ${describe(work)}`);
  } else if (onError !== undefined && !ON_ERROR.includes(onError)) {
    throw invalid('onError', `it must be "cancel" or "settle", but is ${describe(onError)}`);
  }
  return { ...readAcquire(acquiring, limits), onError: onError ?? 'cancel' };
}

function readAcquire(options, limits) {
  checkFields('options', options, ACQUIRE_OPTIONS);
  const { cost = 1, timeoutMs = Infinity } = options;
  const signal = options.signal ?? undefined; // `fetch` takes null for none, too
  checkWait('timeoutMs', timeoutMs);
  checkSignal(signal);
  throwIfAborted(signal);
  return { cost: checkTokens('cost', cost, limits), timeoutMs, signal };
}
