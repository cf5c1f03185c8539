/** The buckets of a limiter in Redis, reached over a client that the program has made. */

import { acquireAlone } from './acquire-alone.js';
import { invalid, isFree } from './arguments.js';
import { checkIsText, joined } from './clients.js';
import { ceilMillis, monotonicMillis, nanosUntil, splitMillis } from './clock.js';
import { readDecision, tierOf } from './decision.js';
import { ACTUAL_PLACE, COST_PLACES, FAILED, SLOT_WORDS, errorOf, raise, requireMemory, view } from './engine.js';
import { StoreError } from './errors.js';
import { ownKeys, readKeys } from './keys.js';
import { LeaseTimer } from './lease-timer.js';
import { LineTimer } from './line-timer.js';
import { Pressure } from './pressure.js';
import { runtime } from './runtime.js';
import { StoreHealth } from './store-health.js';
import { DEFAULT_MAX_WAITING } from './store-options.js';
import { SharedBuckets as Engine, SharedOptions } from './tidegate_wasm.js';
import { transportOf } from './transport.js';
import { Waiters } from './waiters.js';

// The length of a decision as numbers: `limit`, `remaining`, `retryAfterMs` and `resetAfterMs`, the
// exact durations, and what each limit says.
const RECORD = 22;
// Where what each limit says begins in it, after the exact durations.
const TIERS_AT = 6;
const STATES = ['closed', 'open', 'half_open'];
const DEFAULT_PREFIX = 'tidegate';
const DEFAULT_TIMEOUT_MS = 50;
const DEFAULT_DENY_CACHE_MS = 100;
const encoder = new TextEncoder();

/** The buckets of one limiter. Every method answers by promise. */
export class SharedBuckets {
  #limits;
  #options;
  #engine;
  #transport;
  #timeoutMs;
  #leaseTimer;
  #isClosed = false;
  #waiters = new Waiters();
  #lineTimer = new LineTimer(() => this.#changeLines(() => this.#engine.tick()));
  #lookAtLines = () => {
    this.#lineTimer.set(this.#engine.due_in(), this.#waiters.size > 0);
    if (!this.#engine.has_lines()) this.#transport.unwatch(this.#lookAtLines);
  };

  constructor(limits, { client, storeTimeoutMs = DEFAULT_TIMEOUT_MS, ...options }) {
    this.#limits = limits;
    // Buckets under the limits of a call are not leased, and are in those of this limiter whatever its prefix.
    this.#options = { prefix: DEFAULT_PREFIX, ...options, client, storeTimeoutMs, lease: undefined };
    this.#timeoutMs = storeTimeoutMs;
    requireMemory();
    this.#transport = transportOf(client);
    this.#engine = new Engine(this.#transport.engine, optionsOf(limits, storeTimeoutMs, options));
    raise(this.#engine);
    if (options.perKeyCalls) this.#transport.engine.send_keys_apart();
    if (options.lease !== undefined) this.#leaseTimer = new LeaseTimer(this.#engine, this.#transport, storeTimeoutMs);
  }

  /** The same buckets under other limits: those of a call. */
  under(limits) {
    if (this.#isClosed) throw new StoreError('store error: the limiter is closed');
    return new SharedBuckets(limits, this.#options);
  }

  /** Whether nobody waits. */
  get isIdle() {
    return this.#waiters.size === 0;
  }

  get synchronous() {
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  /** Always zero: the configuration of a Redis server bounds its memory, and Tidegate does not see it. */
  get pressure() {
    return new Pressure(0, 0);
  }

  get storeHealth() {
    const engine = this.#engine;
    const failure = engine.last_error();
    const lastError = failure === undefined ? undefined : errorOf(failure);
    return new StoreHealth(STATES[engine.health_state()], engine.failures(), engine.fallbacks(), lastError, engine.since_ms());
  }

  check(key, cost) {
    const decision = this.#decide(this.#startOfCheck(key, cost));
    const renewal = this.#leaseTimer?.look();
    return renewal === undefined ? decision : renewal.then(() => decision);
  }

  async checkMany(checks) {
    for (const { key, cost } of checks) {
      this.#encode(key);
      if (this.#engine.check_cost(this.#pass(cost)) === FAILED) raise(this.#engine);
    }
    return Promise.all(checks.map(({ key, cost }) => this.check(key, cost)));
  }

  /** The decision that `check` would take; nothing is spent. */
  peek(key, cost) {
    const keys = this.#encode(key);
    return this.#decide((id) => this.#engine.peek(...keys, this.#pass(cost), id));
  }

  /** Reserves a slot. If its decision is a refusal, there is nothing to wait for, settle or cancel. */
  reserve(key, cost, maxWaitMs) {
    const keys = this.#encode(key);
    const own = ownKeys(key);
    const [millis, nanos] = splitMillis(maxWaitMs);
    return this.#call((id) => this.#engine.reserve(...keys, this.#pass(cost), millis, nanos, id), (answer) => {
      const status = statusOf(answer);
      const decision = this.#read(status, answer);
      const tier = tierOf(status);
      if (!decision.allowed) return { decision, cost, tier };
      const words = view(BigUint64Array, answer.slot_pointer(), SLOT_WORDS).slice();
      const delayMs = ceilMillis(words[0]);
      return { decision, tier, cost, key: own, delayMs, due: monotonicMillis() + delayMs, words };
    });
  }

  /** Waits in line for `cost` tokens, and promises the decision. */
  acquire(key, cost, timeoutMs, signal) {
    if (isFree(cost)) return this.check(key, cost);
    if (runtime.isolatesRequests) return this.#acquireAlone(key, cost, timeoutMs, signal);
    const keys = this.#encode(key);
    requireMemory();
    const [millis, nanos] = splitMillis(timeoutMs);
    return this.#waiters.add({ key: ownKeys(key), timeoutMs, signal }, (waiter) => {
      const settle = (answer) => {
        const status = statusOf(answer);
        waiter.answer(this.#read(status, answer), tierOf(status));
      };
      let line;
      this.#transport.watch(this.#lookAtLines);
      const id = this.#transport.enter({ read: settle, resolve() {}, reject: (error) => waiter.fail(error) }, (call) => {
        line = this.#engine.arrive(...keys, this.#pass(cost), millis, nanos, call);
      });
      this.#changeLines();
      this.#leaseTimer?.look();
      return () => {
        this.#transport.forget(id);
        this.#changeLines(() => this.#engine.leave(line, id));
      };
    });
  }

  /** The callers that wait for the tokens of `key`. */
  waiting(key) {
    const [callers, tokens, untilMs] = this.#engine.waiting(...this.#encode(key));
    return { callers, tokens, untilMs };
  }

  /** Gives an unused slot back, to those who wait for it or to the buckets. */
  cancel(slot) {
    const keys = this.#encode(slot.key);
    const words = slot.words.slice();
    words[0] = nanosUntil(slot.due);
    return this.#call((id) => this.#engine.cancel(...keys, words, id), (answer) => statusOf(answer) === 1);
  }

  /** Makes one of `CORRECTIONS`. */
  correct(key, correction, first = 0, second = 0, waitMs = 0) {
    const keys = this.#encode(key);
    const wait = splitMillis(waitMs);
    return this.#decide((id) =>
      this.#engine.correct(...keys, correction, this.#pass(first), this.#pass(second, ACTUAL_PLACE), ...wait, id),
    );
  }

  /** Corrects the charge of a slot to `actual` tokens. */
  settleSlot(slot, actual) {
    const keys = this.#encode(slot.key);
    return this.#decide((id) => this.#engine.settle_slot(...keys, slot.words, this.#pass(actual, ACTUAL_PLACE), id));
  }

  /** Asks the store once whether it serves this limiter. */
  ping() {
    if (this.#isClosed) throw closed();
    return this.#call((id) => this.#engine.ping(id), (answer) => void statusOf(answer));
  }

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#changeLines(() => this.#engine.close());
    this.#leaseTimer?.close();
  }

  // Makes a call that may change the lines: answers those who have waited, and sends what is to be
  // asked of the store.
  #changeLines(change) {
    change?.();
    this.#transport.takeAnswers();
    this.#transport.flush(this.#timeoutMs);
  }

  // In runtimes where callers share no line, a leased slice is asked before the bucket, too.
  async #acquireAlone(key, cost, timeoutMs, signal) {
    if (this.#leaseTimer === undefined) return acquireAlone(this, key, { cost, timeoutMs, signal });
    const decision = this.#acquireLeased(key, cost);
    const renewal = this.#leaseTimer.look();
    const acquired = await (decision ?? acquireAlone(this, key, { cost, timeoutMs, signal }));
    await renewal;
    return acquired;
  }

  // The decision of a slice that has the tokens now; undefined if it has not.
  #acquireLeased(key, cost) {
    const keys = this.#encode(key);
    requireMemory();
    let decision;
    let isAnswered = false;
    const read = (answer) => {
      decision = this.#read(statusOf(answer), answer);
    };
    const id = this.#transport.enter({ read, resolve() {}, reject() {} }, (call) => {
      isAnswered = this.#engine.acquire_leased(...keys, this.#pass(cost), call);
    });
    if (isAnswered) this.#transport.takeAnswers();
    else this.#transport.forget(id);
    return decision;
  }

  #decide(start) {
    return this.#call(start, (answer) => this.#read(statusOf(answer), answer));
  }

  #call(start, read) {
    requireMemory();
    return this.#transport.call(start, read, this.#timeoutMs);
  }

  // The function that starts a check. A single text passes to the engine as it is, which is faster
  // than encoding it here.
  #startOfCheck(key, cost) {
    if (typeof key === 'string') {
      this.#admit(key);
      return (id) => this.#engine.check_text(key, this.#pass(cost), id);
    }
    const keys = this.#encode(key);
    return (id) => this.#engine.check(...keys, this.#pass(cost), id);
  }

  // A cost as the engine takes it: a number, or the negated count of the numbers that have been written.
  #pass(cost, place = 0) {
    if (typeof cost === 'number') return cost;
    view(Float64Array, this.#engine.costs_pointer(), COST_PLACES).set(cost, place);
    return -cost.length;
  }

  #admit(key) {
    if (this.#isClosed) throw closed();
    return readKeys(key, this.#limits.length);
  }

  // The bytes of all keys, one key after the other, and the length of each key.
  #encode(key) {
    const own = this.#admit(key);
    const keys = Array.isArray(own) ? own : [own];
    if (this.#transport.textOnly) keys.forEach(checkIsText);
    const bytes = keys.map((each) => (typeof each === 'string' ? encoder.encode(each) : each));
    return [joined(bytes), Uint32Array.from(bytes, ({ length }) => length)];
  }

  #read(status, answer) {
    return readDecision(status, view(Float64Array, answer.record_pointer(), RECORD), 0, this.#limits, TIERS_AT);
  }
}

function closed() {
  return new StoreError('store error: the limiter is closed');
}

// The status of an answer. Throws if the answer is a failure.
function statusOf(answer) {
  const status = answer.status();
  if (status === FAILED) raise(answer);
  return status;
}

function optionsOf(
  limits,
  timeoutMs,
  { prefix, maxWaiting = DEFAULT_MAX_WAITING, onStoreError = 'raise', peers, denyCacheMs, lease },
) {
  const options = new SharedOptions(limits.join('\n'), prefix ?? DEFAULT_PREFIX, timeoutMs, maxWaiting);
  if (prefix === undefined) options.prefix_is_default();
  options.on_store_error(onStoreError, peers);
  options.deny_cache(denyCacheMs ?? DEFAULT_DENY_CACHE_MS);
  if (lease !== undefined) options.lease(lease.ttlMs, lease.maxShare ?? 1);
  return options;
}
