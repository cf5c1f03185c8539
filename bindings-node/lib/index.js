/** The public names of the package, and `createLimiter`. */

import { checkOptions, checkPrefix, checkStoreIsGiven, checkTimeout, describe, invalid } from './memory/arguments.js';
import { readLimits } from './memory/limit.js';
import { Limiter } from './memory/limiter.js';
import { MemoryBuckets } from './memory/memory-buckets.js';
import { Outbound } from './memory/outbound.js';
import { SharedBuckets } from './memory/shared-buckets.js';
import { ROOM_OPTIONS, STORE_OPTIONS, checkMaxWaiting, checkRoom, checkStoreOptions } from './memory/store-options.js';
import { StoreBuckets } from './store-buckets.js';

export { Concurrency, Permit, createConcurrency } from './concurrency.js';
export * from './memory/index.js';

const OPTIONS = ['limits', 'store', 'prefix', 'storeTimeoutMs', 'clock', 'maxWaiting', ...ROOM_OPTIONS, ...STORE_OPTIONS];
const MEMORY = 'memory://';

/** Builds a limiter over buckets in this process's memory or in a store that processes share. */
export function createLimiter(options) {
  checkOptions(options, OPTIONS);
  checkStoreIsGiven(options);
  const { limits, store = MEMORY, prefix, storeTimeoutMs, clock, maxWaiting, maxKeys, onFull } = options;
  if (typeof store !== 'string' && (typeof store !== 'object' || store === null)) {
    throw invalid('store', `it must be a URL or a Redis client, but is ${describe(store)}`);
  }
  checkPrefix(prefix);
  checkTimeout(storeTimeoutMs);
  checkMaxWaiting(maxWaiting);
  checkRoom(options);
  checkStoreOptions(options);
  const read = readLimits(limits);
  if (store === MEMORY) return new Limiter(read, new MemoryBuckets(read, { clock, maxWaiting, maxKeys, onFull }));
  if (clock !== undefined) throw invalid('clock', 'a shared store has a clock of its own; leave it out');
  if (typeof store === 'object') return new Limiter(read, new SharedBuckets(read, { ...options, client: store }));
  const { onStoreError, peers, denyCacheMs, lease } = options;
  return new Limiter(read, new StoreBuckets(read, { store, prefix, storeTimeoutMs, maxWaiting, onStoreError, peers, denyCacheMs, lease }));
}

/** Makes calls to vendors within their limits, with a limiter that it builds of the other options, or a given one. */
export function createOutbound(options) {
  return new Outbound(options, createLimiter);
}
