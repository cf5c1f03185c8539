/** The public names of the package, and `createLimiter`. */

import { checkOptions, checkPrefix, checkStoreIsGiven, checkTimeout, invalid } from './arguments.js';
import { readLimits } from './limit.js';
import { Limiter } from './limiter.js';
import { MemoryBuckets } from './memory-buckets.js';
import { Outbound } from './outbound.js';
import { SharedBuckets } from './shared-buckets.js';
import { MEMORY, OPTIONS, checkMaxWaiting, checkRoom, checkStoreOptions } from './store-options.js';

export { Charge } from './charge.js';
export { FakeClock } from './clock.js';
export { Decision, TierDecision } from './decision.js';
export { CorruptBucket, CostTooLarge, InvalidArgument, InvalidLimit, NoPermit, RateLimited, StoreError, StoreTimeout, TidegateError } from './errors.js';
export { Limit, Limits, limit } from './limit.js';
export { Pressure } from './pressure.js';
export { Reservation } from './reservation.js';
export { Signal, readSignal } from './signal.js';
export { StoreHealth } from './store-health.js';
export { Limiter, Outbound };

/** Builds a limiter whose buckets are in this runtime's memory, or in a Redis that a client reaches. */
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
  if (store === MEMORY) return new Limiter(read, new MemoryBuckets(read, { clock, maxWaiting, maxKeys, onFull }));
  if (clock !== undefined) throw invalid('clock', 'a shared store has a clock of its own; leave it out');
  if (typeof store === 'string') {
    throw invalid('store', 'this package opens no connections: give it a client of ioredis, node-redis or Upstash');
  }
  return new Limiter(read, new SharedBuckets(read, { ...options, client: store }));
}

/** Makes calls to vendors within their limits, with a limiter that it builds of the other options, or a given one. */
export function createOutbound(options) {
  return new Outbound(options, createLimiter);
}
