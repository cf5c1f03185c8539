import { createRequire } from 'node:module';

import { invalid } from './memory/arguments.js';
import { Decision } from './memory/decision.js';
import { errorFrom } from './memory/errors.js';
import { checkKeys, ownKeys } from './memory/keys.js';
import { sleepUntil } from './memory/sleep.js';

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;

/** The buckets of one limiter in a store that a fleet shares, reached by the native addon. */
export class StoreBuckets {
  #limits;
  #native;

  constructor(limits, options) {
    this.#limits = limits;
    const named = limits.map((limit) => ({ name: limit.name, text: String(limit) }));
    const opened = loadAddon().openLimiter({ ...options, limits: named });
    if ('code' in opened) throw errorFrom(opened);
    this.#native = opened;
  }

  get synchronous() {
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  check(key, cost) {
    checkKeys(key, this.#limits.length);
    return this.#decision((id) => this.#native.check(key, cost, completions, id));
  }

  checkMany(checks) {
    for (const { key } of checks) checkKeys(key, this.#limits.length);
    const limits = this.#limits;
    const read = (answers) => answers.map((answer) => decisionOf(answer, limits));
    return call((id) => this.#native.checkMany(checks, completions, id), read);
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
    return call((id) => this.#native.reserve(key, cost, maxWaitMs, completions, id), read);
  }

  /** Waits until the slot has come. */
  wait({ delayMs, due }, signal) {
    return delayMs === 0 ? undefined : sleepUntil(due, signal);
  }

  cancel({ native }) {
    return call((id) => native.cancel(completions, id), (all) => all);
  }

  settle(key, charged, actual) {
    checkKeys(key, this.#limits.length);
    return this.#decision((id) => this.#native.settle(key, charged, actual, completions, id));
  }

  credit(key, tokens) {
    checkKeys(key, this.#limits.length);
    return this.#decision((id) => this.#native.credit(key, tokens, completions, id));
  }

  hold(key, waitMs) {
    checkKeys(key, this.#limits.length);
    return this.#decision((id) => this.#native.hold(key, waitMs, completions, id));
  }

  reset(key) {
    checkKeys(key, this.#limits.length);
    return this.#decision((id) => this.#native.reset(key, completions, id));
  }

  close() {
    this.#native.close();
  }

  #decision(start) {
    const limits = this.#limits;
    return call(start, (answer) => decisionOf(answer, limits));
  }
}

// One queue of answers for all limiters of this thread, so that a limiter nobody
// holds any more can be collected, and answers that come together share one wake-up.
let addon;
let completions;
let keepAlive;
let lastId = 0;
const expected = new Map();

function loadAddon() {
  if (addon === undefined) {
    addon = createRequire(import.meta.url)('./tidegate.node');
    completions = new addon.Completions(settleAll);
    keepAlive = setInterval(() => {}, LONGEST_INTERVAL_MS);
    keepAlive.unref();
  }
  return addon;
}

/** Starts a call of the addon under a number, and promises what `read` makes of its answer. */
function call(start, read) {
  return new Promise((resolve, reject) => {
    lastId = (lastId + 1) >>> 0;
    start(lastId);
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

function decisionOf({ allowed, tier, remaining, retryAfterMs, resetAfterMs, source }, limits) {
  return new Decision(allowed, limits[tier], remaining, retryAfterMs, resetAfterMs, source);
}
