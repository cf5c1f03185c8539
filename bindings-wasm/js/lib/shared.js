import { invalid } from './arguments.js';
import { joined } from './clients.js';
import { NANOS_PER_MILLI, splitMillis } from './clock.js';
import { courierOf } from './courier.js';
import { Decision } from './decision.js';
import { raise, view } from './engine.js';
import { StoreError } from './errors.js';
import { checkKeys, ownKeys } from './keys.js';
import { Pressure } from './pressure.js';
import { sleepUntil } from './sleep.js';
import { StoreHealth } from './store-health.js';
import { SharedLimits } from './tidegate_wasm.js';

const FAILED = 0xffff_ffff;
const SLOT_WORDS = 9;
const DEFAULT_PREFIX = 'tidegate';
const DEFAULT_TIMEOUT_MS = 50;
const encoder = new TextEncoder();

/** The buckets of one limiter in a Redis, over a client that the program has made. */
export class SharedBuckets {
  #limits;
  #shared;
  #courier;
  #timeoutMs;

  constructor(limits, { client, prefix = DEFAULT_PREFIX, storeTimeoutMs = DEFAULT_TIMEOUT_MS }) {
    this.#limits = limits;
    this.#timeoutMs = storeTimeoutMs;
    this.#courier = courierOf(client);
    this.#shared = new SharedLimits(limits.join('\n'), prefix);
    raise(this.#shared);
  }

  get synchronous() {
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  /** None: how much a Redis may hold is set there. */
  get pressure() {
    return new Pressure(0, 0);
  }

  /** A client has its own ways of knowing. */
  get storeHealth() {
    return new StoreHealth('closed', 0, 0);
  }

  check(key, cost) {
    return this.#decide(key, (trip, ...of) => trip.check(...of, cost));
  }

  async checkMany(checks) {
    for (const { key, cost } of checks) {
      this.#of(key);
      if (this.#shared.check_cost(cost) === FAILED) raise(this.#shared);
    }
    return Promise.all(checks.map(({ key, cost }) => this.check(key, cost)));
  }

  /** A slot, or why there is none: then it is not allowed, and cannot be waited for or cancelled. */
  reserve(key, cost, maxWaitMs) {
    const [millis, nanos] = splitMillis(maxWaitMs);
    const add = (trip, ...of) => trip.reserve(...of, cost, millis, nanos);
    return this.#ask(key, add, (trip, place) => {
      const { decision, tier } = this.#read(trip, place);
      if (!decision.allowed) return { decision, cost, tier };
      const words = view(BigUint64Array, trip.slot_pointer(), SLOT_WORDS).slice();
      const delayMs = Number((words[0] + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
      return { decision, tier, cost, key: ownKeys(key), delayMs, due: performance.now() + delayMs, words };
    });
  }

  /** Waits until the slot has come. */
  wait({ delayMs, due }, signal) {
    return delayMs === 0 ? undefined : sleepUntil(due, signal);
  }

  cancel({ key, words }) {
    const add = (trip, ...of) => trip.cancel(...of, words);
    return this.#ask(key, add, (trip, place) => {
      const restored = trip.outcome(place);
      if (restored === FAILED) raise(trip);
      return restored === 1;
    });
  }

  settle(key, charged, actual) {
    return this.#decide(key, (trip, ...of) => trip.settle(...of, charged, actual));
  }

  credit(key, tokens) {
    return this.#decide(key, (trip, ...of) => trip.credit(...of, tokens));
  }

  hold(key, waitMs) {
    const [millis, nanos] = splitMillis(waitMs);
    return this.#decide(key, (trip, ...of) => trip.hold(...of, millis, nanos));
  }

  reset(key) {
    return this.#decide(key, (trip, ...of) => trip.reset(...of));
  }

  close() {
    // Not freed: requests that wait still need it. The collector does it.
    this.#shared = undefined;
  }

  #decide(key, add) {
    return this.#ask(key, add, (trip, place) => this.#read(trip, place).decision);
  }

  #ask(key, add, read) {
    const of = this.#of(key);
    return this.#courier.ask({ add: (trip) => add(trip, ...of), read, timeoutMs: this.#timeoutMs });
  }

  // What a trip is told of the buckets: their limits, and the bytes and lengths of the keys.
  #of(key) {
    if (this.#shared === undefined) throw new StoreError('store error: the limiter is closed');
    checkKeys(key, this.#limits.length);
    const keys = (Array.isArray(key) ? key : [key]).map((each) => (typeof each === 'string' ? encoder.encode(each) : each));
    return [this.#shared, joined(keys), Uint32Array.from(keys, ({ length }) => length)];
  }

  #read(trip, place) {
    const status = trip.outcome(place);
    if (status === FAILED) raise(trip);
    const [remaining, retryAfterMs, resetAfterMs] = view(Float64Array, trip.answer_pointer(), 3);
    const [allowed, tier] = [(status & 1) === 1, status >>> 1];
    const decision = new Decision(allowed, this.#limits[tier], remaining, retryAfterMs, resetAfterMs, 'redis');
    return { decision, tier };
  }
}
