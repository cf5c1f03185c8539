/**
 * The engine in memory alone: the same limiters as those of `tidegate-wasm`, in a module of a third of the size.
 *
 * It has no Redis and reads no signals. A check takes longer, and a key more memory.
 */

import type { LimiterOptions, LimitsInput, MemoryLimiter } from '../index.js';

export {
  Charge, CorruptBucket, CostTooLarge, Decision, FakeClock, InvalidArgument, InvalidLimit, Limit, Limiter, Limits, NoPermit, Pressure,
  RateLimited, Reservation, StoreError, StoreHealth, StoreTimeout, TidegateError, TierDecision, limit,
} from '../index.js';
export type {
  AbortSignalLike, AcquireOptions, CheckInput, CheckOptions, Clock, Key, Keys, LeaseOptions, LimitFields, LimitInput,
  LimiterOptions, LimitsInput, MemoryLimiter, MemoryReservation, OnFull, OnStoreError, PlanOptions, ReserveOptions,
  ReservingOptions, ReservingWorkOptions, Shape, Source, Tokens, Waiting,
} from '../index.js';

/**
 * Builds a limiter whose buckets are in this runtime's memory.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, a store other than memory included
 */
export function createLimiter<const Given extends LimitsInput = LimitsInput>(options: LimiterOptions<Given>): MemoryLimiter;
