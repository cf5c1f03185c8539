/** The buckets of a limiter in this runtime's memory, which the WebAssembly engine keeps. */

import { acquireAlone } from './acquire-alone.js';
import { isFree } from './arguments.js';
import {
  FakeClock,
  MonotonicClock,
  NANOS_PER_MILLI,
  atMostEnd,
  ceilMillis,
  checkClock,
  monotonicMillis,
  nanosUntil,
  splitMillis,
  splitNanos,
} from './clock.js';
import { Decision, readTiers } from './decision.js';
import { ACTUAL_PLACE, CORRECTIONS, FAILED, border, raise, requireMemory, seedOnce, viewBorder } from './engine.js';
import { StoreError } from './errors.js';
import { MAX_KEY, checkIsBytes, checkWellFormed, ownKeys, readKeys } from './keys.js';
import { checkCount } from './limit.js';
import { LineTimer } from './line-timer.js';
import { Pressure } from './pressure.js';
import { runtime } from './runtime.js';
import { StoreHealth } from './store-health.js';
import { DEFAULT_MAX_KEYS, DEFAULT_MAX_WAITING } from './store-options.js';
import { Engine, stored_key as storedKey } from './tidegate_wasm.js';
import { Waiters, throwIfAborted, tooLate } from './waiters.js';

// The key length that tells the engine that there is one key for each limit.
const ONE_FOR_EACH = 0xffff_ffff;
const encoder = new TextEncoder();

/** The buckets of one limiter. Every method answers before it returns. */
export class MemoryBuckets {
  #limits;
  // The engine is made at the first call: without it, the limiter of a customer who does not come takes a third of the memory.
  #engine;
  #isClosed = false;
  #clock;
  #monotonic;
  #started = false;
  // The counts of the last time that they were read, for a closed limiter.
  #pressure;
  // The callers that wait; nothing before the first.
  #lines;
  #maxWaiting;
  #maxKeys;
  #onFull;
  // The buckets whose limits these are not, if they are those of another limiter.
  #base;
  // The buckets under the limits of calls: those with callers that wait.
  #plans;

  constructor(limits, { clock, maxWaiting = DEFAULT_MAX_WAITING, maxKeys = DEFAULT_MAX_KEYS, onFull }, base) {
    this.#limits = limits;
    this.#clock = clock === undefined ? undefined : checkClock(clock);
    this.#maxWaiting = maxWaiting;
    this.#maxKeys = maxKeys;
    this.#onFull = onFull;
    this.#base = base;
    if (base?.#isClosed) throw closedError();
    checkCount(limits);
  }

  /** The same buckets under other limits: those of a call. */
  under(limits) {
    return new MemoryBuckets(limits, { clock: this.#clock, maxWaiting: this.#maxWaiting }, this.#base ?? this);
  }

  #makeEngine() {
    if (this.#isClosed) throw closedError();
    requireMemory();
    const texts = this.#limits.join('\n');
    // A clock of the caller's may go at any pace, and timers cannot follow it.
    const engine =
      this.#base === undefined
        ? new Engine(texts, this.#maxWaiting, this.#clock !== undefined, this.#maxKeys, this.#onFull === 'deny')
        : this.#base.#engineForPlans().under(texts, this.#maxWaiting);
    raise(engine);
    this.#engine = engine;
  }

  #engineForPlans() {
    if (this.#engine === undefined) this.#makeEngine();
    return this.#engine;
  }

  /** Whether nobody waits. */
  get isIdle() {
    return this.#lines === undefined || !this.#lines.isActive;
  }

  /** These buckets, which can answer without a promise. */
  get synchronous() {
    return this;
  }

  /** What memory could not keep, because more keys owed something than there is room for. */
  get pressure() {
    if (this.#engine !== undefined) this.#pressure = new Pressure(this.#engine.evicted(), this.#engine.denied());
    return this.#pressure ?? new Pressure(0, 0);
  }

  /** Always closed and zero, because memory does not fail. */
  get storeHealth() {
    return new StoreHealth('closed', 0, 0);
  }

  // The hot path is written out without the helpers of the other methods, whose calls would cost time.
  check(key, cost) {
    if (!this.#started) this.#start();
    // The clock is read before the key is written: a clock of the caller's may call this limiter,
    // and that call would overwrite the key.
    let millis;
    let nanos;
    if (this.#clock === undefined) {
      const now = this.#monotonic.millis();
      millis = Math.floor(now);
      nanos = (now - millis) * 1e6;
    } else {
      [millis, nanos] = splitNanos(this.#clock.now());
    }
    const length = typeof key === 'string' ? this.#writeString(key) : this.#writeOther(key);
    const status = this.#engine.check(length, millis, nanos, typeof cost === 'number' ? cost : this.#writeCosts(cost));
    if (status === FAILED) raise(this.#engine);
    if (border.answer.length === 0) viewBorder(this.#engine);
    const { answer } = border;
    return new Decision(
      (status & 1) === 1,
      this.#limits[status >>> 1],
      answer[0],
      answer[1],
      answer[2],
      'memory',
      this.#limits.length === 1 ? undefined : readTiers(border.tiers, 0, this.#limits),
    );
  }

  /**
   * Decides all checks at one time. Each check is a call of the engine of its own, because the call
   * costs less than copying the key does.
   */
  checkMany(checks) {
    const [millis, nanos] = this.#now();
    for (const { key, cost } of checks) {
      readKeys(key, this.#limits.length);
      if (this.#engine.check_cost(this.#pass(cost)) === FAILED) raise(this.#engine);
    }
    return checks.map(({ key, cost }) =>
      this.#decision(this.#engine.check(this.#write(key), millis, nanos, this.#pass(cost))),
    );
  }

  /** The decision that `check` would take; nothing is spent. */
  peek(key, cost) {
    const now = this.#now();
    return this.#decision(this.#engine.peek(this.#write(key), ...now, this.#pass(cost)));
  }

  /** Reserves a slot. If its decision is a refusal, there is nothing to wait for, settle or cancel. */
  reserve(key, cost, maxWaitMs) {
    const now = this.#now();
    const status = this.#engine.reserve(this.#write(key), ...now, this.#pass(cost), ...splitMillis(maxWaitMs));
    const decision = this.#decision(status);
    if (!decision.allowed) return { decision, cost, tier: status >>> 1 };
    const words = border.slot.slice();
    const [delay] = words;
    return { decision, cost, key: ownKeys(key), delayMs: ceilMillis(delay), words, due: this.#due(now, delay) };
  }

  /**
   * The decision of a call that may wait: at once if it can be allowed at once and nobody waits, and
   * otherwise by promise. With a FakeClock it moves the clock to the slot instead.
   */
  acquire(key, cost, timeoutMs, signal) {
    if (this.#clock === undefined && (this.#lines === undefined || this.#lines.waiters.size === 0)) {
      const decision = this.check(key, cost);
      if (decision.allowed) return decision;
    }
    return this.#acquireInLine(key, cost, timeoutMs, signal);
  }

  // Everything of `acquire` but its hot path. It does not check first if there is a clock of the
  // caller's: the clock may abort the signal, and what a check has charged cannot be cancelled.
  #acquireInLine(key, cost, timeoutMs, signal) {
    if (this.#clock instanceof FakeClock) return this.#acquireInFakeTime(key, cost, timeoutMs);
    if (isFree(cost)) return this.check(key, cost);
    if (runtime.isolatesRequests) return acquireAlone(this, key, { cost, timeoutMs, signal });
    return this.#wait(key, cost, timeoutMs, signal);
  }

  /** The callers that wait for the tokens of `key`. */
  waiting(key) {
    const now = this.#now();
    const [callers, tokens, untilMs] = this.#engine.waiting(this.#write(key), ...now);
    return { callers, tokens, untilMs };
  }

  /** Gives an unused slot back, to those who wait for it or to the buckets. */
  cancel({ key, words, due }) {
    const now = this.#now();
    const length = this.#write(key);
    border.slot.set(words);
    border.slot[0] = typeof due === 'number' ? nanosUntil(due) : 0n;
    const restored = this.#engine.cancel(length, ...now);
    if (restored === FAILED) raise(this.#engine);
    this.#settleLines(now);
    return restored === 1;
  }

  /** Corrects the charge of a slot to `actual` tokens. */
  settleSlot({ key, cost }, actual) {
    return this.correct(key, CORRECTIONS.settle, cost, actual);
  }

  /** Makes one of `CORRECTIONS`. */
  correct(key, correction, first = 0, second = 0, waitMs = 0) {
    const now = this.#now();
    const wait = splitMillis(waitMs);
    const length = this.#write(key);
    const costs = [this.#pass(first), this.#pass(second, ACTUAL_PLACE)];
    const decision = this.#decisionAfterLines(now, this.#engine.correct(length, ...now, correction, ...costs, ...wait));
    this.#tellOthers(key, now, (other) => other.#engine.tell(other.#write(key), ...now, correction, ...wait));
    return decision;
  }

  // Tells those who wait under other limits, whose buckets are the same.
  #tellOthers(key, now, tell) {
    const base = this.#base ?? this;
    if (base.#plans === undefined) return;
    for (const other of [base, ...(base.#plans ?? [])]) {
      if (other === this || other.isIdle || (Array.isArray(key) && key.length !== other.#limits.length)) continue;
      tell(other);
      other.#settleLines(now);
    }
  }

  /** Memory answers always. */
  ping() {
    if (!this.#started) this.#start();
  }

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#engine === undefined) return;
    this.#pressure = this.pressure;
    this.#engine.free();
    this.#engine = undefined;
    this.#started = false;
    const lines = this.#lines;
    if (lines === undefined) return;
    this.#lines = undefined;
    lines.timer.set(undefined);
    lines.waiters.failAll(closedError());
  }

  #acquireInFakeTime(key, cost, timeoutMs) {
    const { decision, tier, due } = this.reserve(key, cost, timeoutMs);
    if (!decision.allowed) throw tooLate(decision, tier, { key, timeoutMs });
    if (this.#clock.now() < due) this.#clock.set(due);
    return decision;
  }

  #wait(key, cost, timeoutMs, signal) {
    const now = this.#now();
    throwIfAborted(signal);
    requireMemory();
    this.#lines ??= new Lines(() => this.#tick());
    const lines = this.#lines;
    const base = this.#base;
    if (base !== undefined) {
      base.#plans ??= new Set();
      base.#plans.add(this);
    }
    return lines.waiters.add({ key: ownKeys(key), timeoutMs, signal }, (waiter) => {
      const call = lines.nextCall();
      const line = this.#engine.arrive(
        this.#write(key),
        ...now,
        this.#pass(cost),
        ...splitMillis(timeoutMs),
        call,
      );
      if (line === FAILED) raise(this.#engine);
      lines.calls.set(call, waiter);
      lines.isActive = true;
      this.#settleLines(now);
      return () => this.#leave(line, call);
    });
  }

  #leave(line, call) {
    if (this.#engine === undefined) return;
    this.#lines.calls.delete(call);
    const now = this.#now();
    this.#engine.leave(line, ...now, call);
    this.#settleLines(now);
  }

  #tick() {
    if (this.#engine === undefined) return;
    const now = this.#now();
    this.#engine.tick(...now);
    this.#settleLines(now);
  }

  // Answers the callers whose tokens have come, and sets the timer for the next.
  #settleLines(now) {
    const lines = this.#lines;
    if (lines === undefined || !lines.isActive) return;
    const engine = this.#engine;
    for (let call = engine.take_answer(); call !== undefined; call = engine.take_answer()) {
      const waiter = lines.calls.get(call);
      lines.calls.delete(call);
      const status = engine.answer_status();
      try {
        waiter?.answer(this.#decision(status), status >>> 1);
      } catch (error) {
        waiter?.fail(error);
      }
    }
    const due = engine.due_in(...now);
    lines.isActive = due !== undefined;
    if (!lines.isActive) this.#base?.#plans?.delete(this);
    lines.timer.set(due, lines.waiters.size > 0);
  }

  // The decision of an operation that may have changed what those who wait have to wait for.
  #decisionAfterLines(now, status) {
    const decision = this.#decision(status);
    this.#settleLines(now);
    return decision;
  }

  // Makes the engine, seeds the hash and starts the clock, at the first call.
  #start() {
    if (this.#engine === undefined) this.#makeEngine();
    seedOnce();
    if (border.key.length === 0) viewBorder(this.#engine);
    this.#monotonic = this.#base === undefined ? new MonotonicClock() : this.#base.#startedClock();
    this.#started = true;
  }

  // The clock of the buckets, which are these in other hands.
  #startedClock() {
    if (!this.#started) this.#start();
    return this.#monotonic;
  }

  // The time for the engine, in milliseconds and nanoseconds; starts the engine if need be. It has
  // to be called before a key is written, for the reason that `check` gives.
  #now() {
    if (!this.#started) this.#start();
    if (this.#clock !== undefined) return splitNanos(this.#clock.now());
    const now = this.#monotonic.millis();
    const millis = Math.floor(now);
    return [millis, (now - millis) * 1e6];
  }

  // The time of a slot: nanoseconds of a FakeClock, and otherwise milliseconds of the runtime's
  // monotonic clock, because timers cannot follow any other clock.
  #due([millis, nanos], delay) {
    if (!(this.#clock instanceof FakeClock)) return monotonicMillis() + ceilMillis(delay);
    return atMostEnd(BigInt(millis) * NANOS_PER_MILLI + BigInt(nanos) + delay);
  }

  #decision(status) {
    if (status === FAILED) raise(this.#engine);
    if (border.answer.length === 0) viewBorder(this.#engine);
    const [remaining, retryAfterMs, resetAfterMs] = border.answer;
    const tiers = this.#limits.length === 1 ? undefined : readTiers(border.tiers, 0, this.#limits);
    return new Decision((status & 1) === 1, this.#limits[status >>> 1], remaining, retryAfterMs, resetAfterMs, 'memory', tiers);
  }

  // A cost as the engine takes it.
  #pass(cost, place = 0) {
    return typeof cost === 'number' ? cost : this.#writeCosts(cost, place);
  }

  // Writes one cost for each limit to where the engine reads them, and returns what stands for them.
  #writeCosts(costs, place = 0) {
    if (border.costs.length === 0) viewBorder(this.#engine);
    border.costs.set(costs, place);
    return -costs.length;
  }

  // Writes the key to where the engine reads it, and returns the length to pass to the engine.
  #write(key) {
    return typeof key === 'string' ? this.#writeString(key) : this.#writeOther(key);
  }

  #writeString(key) {
    const { length } = key;
    if (length > MAX_KEY) return this.#encode(key);
    if (border.key.length === 0) viewBorder(this.#engine);
    const bytes = border.key;
    for (let at = 0; at < length; at++) {
      const unit = key.charCodeAt(at);
      if (unit > 0x7f) return this.#encode(key);
      bytes[at] = unit;
    }
    return length;
  }

  #encode(key) {
    checkWellFormed(key);
    if (key.length > MAX_KEY) return this.#writeBytes(encoder.encode(key));
    const { read, written } = encoder.encodeInto(key, border.key.subarray(0, MAX_KEY));
    return read < key.length ? this.#writeBytes(encoder.encode(key)) : written;
  }

  #writeBytes(key) {
    const bytes = boundedKey(key);
    // The engine's memory may have grown.
    if (border.key.length === 0) viewBorder(this.#engine);
    border.key.set(bytes);
    return bytes.length;
  }

  #writeOther(key) {
    if (Array.isArray(key)) return this.#writeEach(key);
    checkIsBytes(key);
    return this.#writeBytes(key);
  }

  #writeEach(keys) {
    const own = readKeys(keys, this.#limits.length);
    const all = own.map((key) => boundedKey(typeof key === 'string' ? encoder.encode(key) : key));
    if (border.key.length === 0) viewBorder(this.#engine);
    all.forEach((bytes, tier) => {
      border.key.set(bytes, tier * MAX_KEY);
      border.keyLengths[tier] = bytes.length;
    });
    return ONE_FOR_EACH;
  }
}

/** The callers of one limiter that wait. */
class Lines {
  waiters = new Waiters();
  /** The waiters by the number of their call. */
  calls = new Map();
  /** Whether the engine has lines. */
  isActive = false;
  #lastCall = 0;

  constructor(tick) {
    this.timer = new LineTimer(tick);
  }

  nextCall() {
    this.#lastCall = (this.#lastCall + 1) >>> 0;
    return this.#lastCall;
  }
}

/** A key as the engine keeps it: a long one is replaced by its digest. */
function boundedKey(bytes) {
  return bytes.length > MAX_KEY ? storedKey(bytes) : bytes;
}

function closedError() {
  return new StoreError('store error: the limiter is closed');
}
