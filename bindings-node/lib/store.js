import { createRequire } from 'node:module';

import { invalid } from './memory/arguments.js';
import { Decision } from './memory/decision.js';
import { errorFrom } from './memory/errors.js';
import { checkKeys, ownKeys } from './memory/keys.js';
import { Pressure } from './memory/pressure.js';
import { sleepUntil } from './memory/sleep.js';
import { StoreHealth } from './memory/store-health.js';

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;

/** The buckets of one limiter in a store that processes share, reached by the native addon. */
export class StoreBuckets {
  #limits;
  #native;
  #call;
  #leased;

  constructor(limits, options) {
    this.#limits = limits;
    this.#leased = options.lease !== undefined;
    const named = limits.map((limit) => ({ name: limit.name, text: String(limit) }));
    const opened = loadAddon().openLimiter({ ...options, limits: named });
    if ('code' in opened) throw errorFrom(opened);
    this.#native = opened;
    this.#call = opened.isRemote ? callRemote : callLocal;
  }

  get synchronous() {
    if (this.#call === callLocal) return this;
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
    if (this.#call === callLocal) return this.#checkLocal(key, cost);
    if (this.#leased) {
      const numbers = this.#native.checkLeased(key, cost);
      if (numbers != null) return Promise.resolve(this.#decide(numbers, 'lease'));
    }
    return this.#decision((queue, id) => this.#native.check(key, cost, queue, id));
  }

  checkMany(checks) {
    for (const { key } of checks) checkKeys(key, this.#limits.length);
    const limits = this.#limits;
    const read = (answers) => answers.map((answer) => decisionOf(answer, limits));
    return this.#call((queue, id) => this.#native.checkMany(checks, queue, id), read);
  }

  /** A slot, or why there is none: then it is not allowed, and cannot be waited for or cancelled. */
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

  /** Settles what a slot has charged. */
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
    this.#native.close();
  }

  // The call that has to be fast: see the addon.
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
    const limits = this.#limits;
    return this.#call(start, (answer) => decisionOf(answer, limits));
  }
}

// One queue of answers for all limiters of this thread, so that a limiter nobody
// holds any more can be collected, and answers that come together share one wake-up.
let addon;
let completions;
let immediate;
let keepAlive;
let lastId = 0;
const expected = new Map();

function loadAddon() {
  if (addon === undefined) {
    addon = createRequire(import.meta.url)('./tidegate.node');
    completions = new addon.Completions(settleAll);
    immediate = new addon.Completions();
    keepAlive = setInterval(() => {}, LONGEST_INTERVAL_MS);
    keepAlive.unref();
  }
  return addon;
}

/** Makes a call of the addon that answers before it returns, and gives what `read` makes of it. */
function callLocal(start, read) {
  start(immediate, 0);
  const [{ answer, failure }] = immediate.take();
  if (failure === undefined) return read(answer);
  throw errorFrom(failure);
}

/** Starts a call of the addon under a number, and promises what `read` makes of its answer. */
function callRemote(start, read) {
  return new Promise((resolve, reject) => {
    lastId = (lastId + 1) >>> 0;
    start(completions, lastId);
    // In time: answers are taken by a later turn of the event loop.
    expect(lastId, { read, resolve, reject });
  });
}

// The process stays alive for answers that are on their way, and for nothing else.
function expect(id, settling) {
  if (expected.size === 0) keepAlive.ref();
  expected.set(id, settling);
}

function settleAll() {
  for (const { id, answer, failure } of completions.take()) {
    const { read, resolve, reject } = expected.get(id);
    expected.delete(id);
    if (failure === undefined) resolve(read(answer));
    else reject(errorFrom(failure));
  }
  if (expected.size === 0) keepAlive.unref();
}

function decisionOf({ allowed, tier, limit, remaining, retryAfterMs, resetAfterMs, source }, limits) {
  // A share of a limit has a smaller burst.
  const bound = { burst: limit, name: limits[tier].name };
  return new Decision(allowed, bound, remaining, retryAfterMs, resetAfterMs, source);
}
