import { createRequire } from 'node:module';

import { invalid } from './memory/arguments.js';
import { Decision } from './memory/decision.js';
import { errorFrom } from './memory/errors.js';
import { checkKeys } from './memory/keys.js';

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

  check(key, cost) {
    checkKeys(key, this.#limits.length);
    return new Promise((resolve, reject) => {
      lastId = (lastId + 1) >>> 0;
      this.#native.check(key, cost, completions, lastId);
      // In time: answers are taken by a later turn of the event loop.
      expect(lastId, { limits: this.#limits, resolve, reject });
    });
  }

  get synchronous() {
    throw invalid('store', 'it is remote, so it answers by promise only: use the methods without Sync');
  }

  close() {
    this.#native.close();
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

// The process stays alive for answers that are on their way, and for nothing else.
function expect(id, settling) {
  if (expected.size === 0) keepAlive.ref();
  expected.set(id, settling);
}

function settleAll() {
  for (const { id, outcome } of completions.take()) {
    const { limits, resolve, reject } = expected.get(id);
    expected.delete(id);
    if ('code' in outcome) reject(errorFrom(outcome));
    else resolve(decisionOf(outcome, limits));
  }
  if (expected.size === 0) keepAlive.unref();
}

function decisionOf({ allowed, tier, remaining, retryAfterMs, resetAfterMs }, limits) {
  return new Decision(allowed, limits[tier], remaining, retryAfterMs, resetAfterMs, 'redis');
}
