/** Buckets in Redis, over a client that the program has made. */

import { invalid } from './arguments.js';
import { checkIsText, joined } from './clients.js';
import { NANOS_PER_MILLI, splitMillis } from './clock.js';
import { Decision } from './decision.js';
import { raise, view } from './engine.js';
import { StoreError } from './errors.js';
import { checkKeys, ownKeys } from './keys.js';
import { LeaseTimer } from './lease-timer.js';
import { Pressure } from './pressure.js';
import { sleepUntil } from './sleep.js';
import { StoreHealth } from './store-health.js';
import { SharedBuckets as Engine, SharedOptions } from './tidegate_wasm.js';
import { transportOf } from './transport.js';

const FAILED = 0xffff_ffff;
const SLOT_WORDS = 11;
/** The places of two doubles of an answer; those before them are the same for every store. */
const [LIMIT, SOURCE] = [5, 6];
const ANSWER_DOUBLES = 7;
const SOURCES = ['redis', 'lease', 'fallback'];
const STATES = ['closed', 'open', 'half_open'];
const DEFAULT_PREFIX = 'tidegate';
const DEFAULT_TIMEOUT_MS = 50;
const DEFAULT_DENY_CACHE_MS = 100;
const encoder = new TextEncoder();

/** The buckets of one limiter in a Redis, over a client that the program has made. */
export class SharedBuckets {
  #limits;
  #engine;
  #transport;
  #timeoutMs;
  #leaseTimer;
  #isClosed = false;

  constructor(limits, { client, storeTimeoutMs = DEFAULT_TIMEOUT_MS, ...options }) {
    this.#limits = limits;
    this.#timeoutMs = storeTimeoutMs;
    this.#transport = transportOf(client);
    this.#engine = new Engine(this.#transport.engine, optionsOf(limits, storeTimeoutMs, options));
    raise(this.#engine);
    if (options.lease !== undefined) this.#leaseTimer = new LeaseTimer(this.#engine, this.#transport, storeTimeoutMs);
  }

  get synchronous() {
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  /** None: how much a Redis may hold is set there. */
  get pressure() {
    return new Pressure(0, 0);
  }

  get storeHealth() {
    return new StoreHealth(STATES[this.#engine.health_state()], this.#engine.failures(), this.#engine.fallbacks());
  }

  check(key, cost) {
    const decision = this.#decide(this.#checking(key, cost));
    this.#leaseTimer?.look();
    return decision;
  }

  async checkMany(checks) {
    for (const { key, cost } of checks) {
      this.#of(key);
      if (this.#engine.check_cost(cost) === FAILED) raise(this.#engine);
    }
    return Promise.all(checks.map(({ key, cost }) => this.check(key, cost)));
  }

  /** A slot, or why there is none: then it is not allowed, and cannot be waited for or cancelled. */
  reserve(key, cost, maxWaitMs) {
    const of = this.#of(key);
    const own = ownKeys(key);
    const [millis, nanos] = splitMillis(maxWaitMs);
    return this.#ask((id) => this.#engine.reserve(...of, cost, millis, nanos, id), (answer) => {
      const { decision, tier } = this.#read(answer);
      if (!decision.allowed) return { decision, cost, tier };
      const words = view(BigUint64Array, answer.slot_pointer(), SLOT_WORDS).slice();
      const delayMs = Number((words[0] + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
      return { decision, tier, cost, key: own, delayMs, due: performance.now() + delayMs, words };
    });
  }

  /** Waits until the slot has come. */
  wait({ delayMs, due }, signal) {
    return delayMs === 0 ? undefined : sleepUntil(due, signal);
  }

  cancel(slot) {
    const of = this.#of(slot.key);
    return this.#ask((id) => this.#engine.cancel(...of, slot.words, id), (answer) => {
      const restored = answer.outcome();
      if (restored === FAILED) raise(answer);
      return restored === 1;
    });
  }

  settle(key, charged, actual) {
    const of = this.#of(key);
    return this.#decide((id) => this.#engine.settle(...of, charged, actual, id));
  }

  /** Settles what a slot has charged. */
  settleSlot(slot, actual) {
    const of = this.#of(slot.key);
    return this.#decide((id) => this.#engine.settle_slot(...of, slot.words, actual, id));
  }

  credit(key, tokens) {
    const of = this.#of(key);
    return this.#decide((id) => this.#engine.credit(...of, tokens, id));
  }

  hold(key, waitMs) {
    const of = this.#of(key);
    const [millis, nanos] = splitMillis(waitMs);
    return this.#decide((id) => this.#engine.hold(...of, millis, nanos, id));
  }

  reset(key) {
    const of = this.#of(key);
    return this.#decide((id) => this.#engine.reset(...of, id));
  }

  close() {
    if (!this.#isClosed) this.#leaseTimer?.close();
    this.#isClosed = true;
  }

  #decide(start) {
    return this.#ask(start, (answer) => this.#read(answer).decision);
  }

  #ask(start, read) {
    return this.#transport.ask(start, read, this.#timeoutMs);
  }

  #checking(key, cost) {
    if (typeof key === 'string') {
      this.#admit(key);
      return (id) => this.#engine.check_text(key, cost, id);
    }
    const of = this.#of(key);
    return (id) => this.#engine.check(...of, cost, id);
  }

  #admit(key) {
    if (this.#isClosed) throw new StoreError('store error: the limiter is closed');
    checkKeys(key, this.#limits.length);
  }

  // The bytes of the keys, one after the other, and the length of each.
  #of(key) {
    this.#admit(key);
    const keys = Array.isArray(key) ? key : [key];
    if (this.#transport.textOnly) keys.forEach(checkIsText);
    const bytes = keys.map((each) => (typeof each === 'string' ? encoder.encode(each) : each));
    return [joined(bytes), Uint32Array.from(bytes, ({ length }) => length)];
  }

  #read(answer) {
    const status = answer.outcome();
    if (status === FAILED) raise(answer);
    const numbers = view(Float64Array, answer.answer_pointer(), ANSWER_DOUBLES);
    const tier = status >>> 1;
    // A share of a limit has a smaller burst.
    const bound = { burst: numbers[LIMIT], name: this.#limits[tier].name };
    const source = SOURCES[numbers[SOURCE]];
    return { decision: new Decision((status & 1) === 1, bound, numbers[0], numbers[1], numbers[2], source), tier };
  }
}

function optionsOf(limits, timeoutMs, { prefix = DEFAULT_PREFIX, onStoreError = 'raise', peers, denyCacheMs, lease }) {
  const options = new SharedOptions(limits.join('\n'), prefix, timeoutMs);
  options.on_store_error(onStoreError, peers);
  options.deny_cache(denyCacheMs ?? DEFAULT_DENY_CACHE_MS);
  if (lease !== undefined) options.lease(lease.ttlMs, lease.maxShare ?? 1);
  return options;
}
