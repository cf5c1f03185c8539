import { checkFields } from './arguments.js';
import { readLimits } from './limit.js';
import { Limiter } from './limiter.js';
import { MemoryBuckets } from './memory.js';

export { FakeClock } from './clock.js';
export { Decision } from './decision.js';
export * from './errors.js';
export { Limit, limit } from './limit.js';
export { Pressure } from './pressure.js';
export { Reservation } from './reservation.js';
export { StoreHealth } from './store-health.js';
export { Limiter };

/** Builds a limiter whose buckets are in this runtime's memory. */
export function createLimiter(options) {
  checkFields('options', options, ['limits', 'clock']);
  const limits = readLimits(options.limits);
  return new Limiter(limits, new MemoryBuckets(limits, options.clock));
}
