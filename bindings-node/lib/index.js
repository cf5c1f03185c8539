import { checkFields, describe, invalid } from './memory/arguments.js';
import { readLimits } from './memory/limit.js';
import { Limiter } from './memory/limiter.js';
import { MemoryBuckets } from './memory/memory.js';
import { StoreBuckets } from './store.js';

export * from './memory/index.js';

const OPTIONS = ['limits', 'store', 'prefix', 'storeTimeoutMs', 'clock'];
const MEMORY = 'memory://';
const MAX_TIMEOUT_MS = 60_000;
const MAX_PREFIX = 256;

/** Builds a limiter over buckets in this process's memory or in a store that processes share. */
export function createLimiter(options) {
  checkFields('options', options, OPTIONS);
  const { limits, store = MEMORY, prefix, storeTimeoutMs, clock } = options;
  if (typeof store !== 'string') throw invalid('store', `it must be a URL, but is ${describe(store)}`);
  checkPrefix(prefix);
  checkTimeout(storeTimeoutMs);
  const read = readLimits(limits);
  if (store === MEMORY) return new Limiter(read, new MemoryBuckets(read, clock));
  if (clock !== undefined) throw invalid('clock', 'a shared store has a clock of its own; leave it out');
  return new Limiter(read, new StoreBuckets(read, { store, prefix, storeTimeoutMs }));
}

// Checked here too, so that a mistake shows while the buckets are still in memory.
function checkPrefix(prefix) {
  if (prefix === undefined) return;
  const length = typeof prefix === 'string' ? Buffer.byteLength(prefix) : 0;
  if (length >= 1 && length <= MAX_PREFIX) return;
  throw invalid('prefix', `it must be a string of 1 to ${MAX_PREFIX} bytes, but is ${describe(prefix)}`);
}

function checkTimeout(ms) {
  if (ms === undefined || (Number.isInteger(ms) && ms >= 1 && ms <= MAX_TIMEOUT_MS)) return;
  throw invalid('storeTimeoutMs', `it must be a whole number from 1 to ${MAX_TIMEOUT_MS}, but is ${describe(ms)}`);
}
