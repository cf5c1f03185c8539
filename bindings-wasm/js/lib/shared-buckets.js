/** The buckets of a limiter in Redis, reached over a client that the program has made. */

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

// The status of an answer that is a failure.
const FAILED = 0xffff_ffff;
// The 64-bit words of a reservation: its delay, cost and source, then its cells before and after.
const SLOT_WORDS = 11;
// The indices of the limit and the source in an answer. The numbers before them are the same as
// those of the engine in memory.
const [LIMIT, SOURCE] = [5, 6];
const ANSWER_NUMBERS = 7;
const SOURCES = ['redis', 'lease', 'fallback'];
const STATES = ['closed', 'open', 'half_open'];
const DEFAULT_PREFIX = 'tidegate';
const DEFAULT_TIMEOUT_MS = 50;
const DEFAULT_DENY_CACHE_MS = 100;
const encoder = new TextEncoder();

/** The buckets of one limiter. Every method answers by promise. */
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

  /** Always zero: the configuration of a Redis server bounds its memory, and Tidegate does not see it. */
  get pressure() {
    return new Pressure(0, 0);
  }

  get storeHealth() {
    return new StoreHealth(STATES[this.#engine.health_state()], this.#engine.failures(), this.#engine.fallbacks());
  }

  check(key, cost) {
    const decision = this.#decide(this.#startOfCheck(key, cost));
    this.#leaseTimer?.look();
    return decision;
  }

  async checkMany(checks) {
    for (const { key, cost } of checks) {
      this.#encode(key);
      if (this.#engine.check_cost(cost) === FAILED) raise(this.#engine);
    }
    return Promise.all(checks.map(({ key, cost }) => this.check(key, cost)));
  }

  /** Reserves a slot. If its decision is a refusal, there is nothing to wait for, settle or cancel. */
  reserve(key, cost, maxWaitMs) {
    const keys = this.#encode(key);
    const own = ownKeys(key);
    const [millis, nanos] = splitMillis(maxWaitMs);
    return this.#call((id) => this.#engine.reserve(...keys, cost, millis, nanos, id), (answer) => {
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
    const keys = this.#encode(slot.key);
    return this.#call((id) => this.#engine.cancel(...keys, slot.words, id), (answer) => {
      const restored = answer.outcome();
      if (restored === FAILED) raise(answer);
      return restored === 1;
    });
  }

  settle(key, charged, actual) {
    const keys = this.#encode(key);
    return this.#decide((id) => this.#engine.settle(...keys, charged, actual, id));
  }

  /** Corrects the charge of a slot to `actual` tokens. */
  settleSlot(slot, actual) {
    const keys = this.#encode(slot.key);
    return this.#decide((id) => this.#engine.settle_slot(...keys, slot.words, actual, id));
  }

  credit(key, tokens) {
    const keys = this.#encode(key);
    return this.#decide((id) => this.#engine.credit(...keys, tokens, id));
  }

  hold(key, waitMs) {
    const keys = this.#encode(key);
    const [millis, nanos] = splitMillis(waitMs);
    return this.#decide((id) => this.#engine.hold(...keys, millis, nanos, id));
  }

  reset(key) {
    const keys = this.#encode(key);
    return this.#decide((id) => this.#engine.reset(...keys, id));
  }

  close() {
    if (!this.#isClosed) this.#leaseTimer?.close();
    this.#isClosed = true;
  }

  #decide(start) {
    return this.#call(start, (answer) => this.#read(answer).decision);
  }

  #call(start, read) {
    return this.#transport.ask(start, read, this.#timeoutMs);
  }

  // The function that starts a check. A single text passes to the engine as it is, which is faster
  // than encoding it here.
  #startOfCheck(key, cost) {
    if (typeof key === 'string') {
      this.#admit(key);
      return (id) => this.#engine.check_text(key, cost, id);
    }
    const keys = this.#encode(key);
    return (id) => this.#engine.check(...keys, cost, id);
  }

  #admit(key) {
    if (this.#isClosed) throw new StoreError('store error: the limiter is closed');
    checkKeys(key, this.#limits.length);
  }

  // The bytes of all keys, one key after the other, and the length of each key.
  #encode(key) {
    this.#admit(key);
    const keys = Array.isArray(key) ? key : [key];
    if (this.#transport.textOnly) keys.forEach(checkIsText);
    const bytes = keys.map((each) => (typeof each === 'string' ? encoder.encode(each) : each));
    return [joined(bytes), Uint32Array.from(bytes, ({ length }) => length)];
  }

  #read(answer) {
    const status = answer.outcome();
    if (status === FAILED) raise(answer);
    const numbers = view(Float64Array, answer.answer_pointer(), ANSWER_NUMBERS);
    const tier = status >>> 1;
    // The burst is read from the answer, because a fallback decides by a share of the limit, whose
    // burst is smaller.
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
