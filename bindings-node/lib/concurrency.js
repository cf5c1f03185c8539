/** Concurrency permits that expire, reached by the addon. */

import { callRemotely, loadAddon, startWaiting } from './calls.js';
import { offAbort, onAbort } from './memory/abort.js';
import { checkFields, checkPrefix, checkSignal, checkStoreIsGiven, checkTimeout, checkWait, describe, invalid } from './memory/arguments.js';
import { brand } from './memory/brand.js';
import { NoPermit, errorFrom } from './memory/errors.js';
import { checkIsBytes, checkWellFormed, ownKeys } from './memory/keys.js';
import { checkMaxWaiting } from './memory/store-options.js';
import { throwIfAborted } from './memory/waiters.js';

const OPTIONS = ['limit', 'ttlMs', 'store', 'prefix', 'storeTimeoutMs', 'onStoreError', 'maxWaiting'];
const ACQUIRE_OPTIONS = ['timeoutMs', 'signal'];
const MAX_PERMITS = 1_000_000;
const [MIN_TTL_MS, MAX_TTL_MS] = [100, 86_400_000];
const POLICIES = ['raise', 'allow', 'deny'];

/** Makes a Concurrency; does no I/O. */
export function createConcurrency(options) {
  checkFields('options', options, OPTIONS);
  checkStoreIsGiven(options);
  const { limit, ttlMs, store = 'memory://', prefix, storeTimeoutMs, onStoreError, maxWaiting } = options;
  checkLimit(limit, 1);
  if (ttlMs !== undefined && !(typeof ttlMs === 'number' && ttlMs >= MIN_TTL_MS && ttlMs <= MAX_TTL_MS)) {
    throw invalid('ttlMs', `it must be ${MIN_TTL_MS} to ${MAX_TTL_MS}, but is ${describe(ttlMs)}`);
  }
  if (typeof store !== 'string') {
    throw invalid('store', 'concurrency permits need a Redis by its URL, not a client of your own');
  }
  checkPrefix(prefix);
  checkTimeout(storeTimeoutMs);
  checkMaxWaiting(maxWaiting);
  if (onStoreError !== undefined && !POLICIES.includes(onStoreError)) {
    throw invalid('onStoreError', `it must be "raise", "allow" or "deny", but is ${describe(onStoreError)}`);
  }
  const opened = loadAddon().openConcurrency({ limit, ttlMs, store, prefix, storeTimeoutMs, onStoreError, maxWaiting });
  if ('code' in opened) throw errorFrom(opened);
  return new Concurrency(opened);
}

/** A limited number of permits of each key. */
export class Concurrency {
  #native;

  constructor(native) {
    this.#native = native;
  }

  get limit() {
    return this.#native.limit;
  }

  get ttlMs() {
    return this.#native.ttlMs;
  }

  async acquire(key = '', options = {}) {
    checkFields('options', options, ACQUIRE_OPTIONS);
    const { timeoutMs = Infinity } = options;
    const signal = options.signal ?? undefined; // `fetch` takes null for none, too
    checkWait('timeoutMs', timeoutMs);
    checkSignal(signal);
    throwIfAborted(signal);
    return this.#enter(key, timeoutMs, signal);
  }

  async tryAcquire(key = '') {
    try {
      return await this.#enter(key, 0, undefined);
    } catch (error) {
      if (error instanceof NoPermit) return undefined;
      throw error;
    }
  }

  async inFlight(key = '') {
    const read = readKey(key);
    return callRemotely((queue, id) => this.#native.inFlight(read, queue, id), ([live]) => live);
  }

  waiting(key = '') {
    return this.#native.waiting(readKey(key));
  }

  setLimit(limit) {
    const failure = this.#native.setLimit(checkLimit(limit, 0));
    if (failure != null) throw errorFrom(failure);
  }

  close() {
    this.#native.close();
  }

  [Symbol.dispose]() {
    this.close();
  }

  #enter(given, timeoutMs, signal) {
    const key = readKey(given);
    return new Promise((resolve, reject) => {
      let isOver = false;
      const end = () => {
        if (signal !== undefined) offAbort(signal, abort);
        isOver = true;
      };
      const abort = () => {
        end();
        waiter.leave();
        reject(signal.reason);
      };
      const read = ({ permit }) => {
        // The caller has left while the answer was under way.
        if (isOver) return permit.abandon();
        end();
        return resolve(new Permit(permit, ownKeys(key)));
      };
      const fail = (error) => {
        if (isOver) return;
        end();
        reject(error);
      };
      const waiter = startWaiting((queue, id) => this.#native.acquire(key, timeoutMs, queue, id), { read, reject: fail });
      if (signal !== undefined) onAbort(signal, abort);
    });
  }
}

/** The right to run. */
export class Permit {
  #native;

  constructor(native, key) {
    this.#native = native;
    this.key = key;
  }

  get lost() {
    return this.#native.lost;
  }

  get source() {
    return this.#native.source;
  }

  async release() {
    await callRemotely((queue, id) => this.#native.release(queue, id), () => undefined);
  }

  [Symbol.dispose]() {
    this.#native.abandon();
  }

  [Symbol.asyncDispose]() {
    return this.release();
  }
}

function readKey(key) {
  if (typeof key === 'string') checkWellFormed(key);
  else checkIsBytes(key);
  return key;
}

function checkLimit(limit, least) {
  if (Number.isInteger(limit) && limit >= least && limit <= MAX_PERMITS) return limit;
  throw invalid('limit', `it must be a whole number from ${least} to ${MAX_PERMITS}, but is ${describe(limit)}`);
}

for (const [name, own] of Object.entries({ Concurrency, Permit })) brand(own, name);
