/** The public names of `tidegate-wasm/memory`, and its `createLimiter`. */

import { checkOptions, checkPrefix, checkStoreIsGiven, checkTimeout, invalid } from '../arguments.js';
import { readLimits } from '../limit.js';
import { Limiter } from '../limiter.js';
import { MemoryBuckets } from '../memory-buckets.js';
import { MEMORY, OPTIONS, checkMaxWaiting, checkRoom, checkStoreOptions } from '../store-options.js';

export { Charge } from '../charge.js';
export { FakeClock } from '../clock.js';
export { Decision, TierDecision } from '../decision.js';
export { CorruptBucket, CostTooLarge, InvalidArgument, InvalidLimit, NoPermit, RateLimited, StoreError, StoreTimeout, TidegateError } from '../errors.js';
export { Limit, Limits, limit } from '../limit.js';
export { Pressure } from '../pressure.js';
export { Reservation } from '../reservation.js';
export { StoreHealth } from '../store-health.js';
export { Limiter };

/** Builds a limiter whose buckets are in this runtime's memory. */
export function createLimiter(options) {
  checkOptions(options, OPTIONS);
  checkStoreIsGiven(options);
  const { limits, store = MEMORY, prefix, storeTimeoutMs, clock, maxWaiting, maxKeys, onFull } = options;
  checkPrefix(prefix);
  checkTimeout(storeTimeoutMs);
  checkMaxWaiting(maxWaiting);
  checkRoom(options);
  checkStoreOptions(options);
  const read = readLimits(limits);
  if (store !== MEMORY) throw invalid('store', 'tidegate-wasm/memory has memory only: import createLimiter from tidegate-wasm for a shared store');
  return new Limiter(read, new MemoryBuckets(read, { clock, maxWaiting, maxKeys, onFull }));
}
