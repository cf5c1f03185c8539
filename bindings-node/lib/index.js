import { checkFields, checkPrefix, checkTimeout, describe, invalid } from './memory/arguments.js';
import { readLimits } from './memory/limit.js';
import { Limiter } from './memory/limiter.js';
import { MemoryBuckets } from './memory/memory.js';
import { SharedBuckets } from './memory/shared.js';
import { StoreBuckets } from './store.js';

export * from './memory/index.js';

const OPTIONS = ['limits', 'store', 'prefix', 'storeTimeoutMs', 'clock', 'onStoreError', 'peers', 'denyCacheMs', 'lease'];
const MEMORY = 'memory://';
const MAX_DENY_CACHE_MS = 60_000;
const POLICIES = ['raise', 'allow', 'deny', 'local'];
const MAX_PEERS = 1_000_000;
const LEASE = ['ttlMs', 'maxShare'];
const MIN_LEASE_MS = 100;
const MAX_LEASE_MS = 60_000;

/** Builds a limiter over buckets in this process's memory or in a store that processes share. */
export function createLimiter(options) {
  checkFields('options', options, OPTIONS);
  const { limits, store = MEMORY, prefix, storeTimeoutMs, clock, onStoreError, peers, denyCacheMs, lease } = options;
  if (typeof store !== 'string' && (typeof store !== 'object' || store === null)) {
    throw invalid('store', `it must be a URL or a Redis client, but is ${describe(store)}`);
  }
  checkPrefix(prefix);
  checkTimeout(storeTimeoutMs);
  checkOnStoreError(onStoreError, peers);
  checkDenyCache(denyCacheMs);
  checkLease(lease);
  const read = readLimits(limits);
  if (store === MEMORY || (typeof store === 'string' && store.startsWith('shm://'))) {
    checkNeverFails(onStoreError);
    if (denyCacheMs !== undefined) throw invalid('denyCacheMs', 'it is for a Redis store only; leave it out');
    checkNotLeased(lease);
  }
  if (store === MEMORY) return new Limiter(read, new MemoryBuckets(read, clock));
  if (clock !== undefined) throw invalid('clock', 'a shared store has a clock of its own; leave it out');
  if (typeof store === 'object') {
    checkOverClient(onStoreError, denyCacheMs, lease);
    return new Limiter(read, new SharedBuckets(read, { client: store, prefix, storeTimeoutMs }));
  }
  return new Limiter(read, new StoreBuckets(read, { store, prefix, storeTimeoutMs, onStoreError, peers, denyCacheMs, lease }));
}

function checkDenyCache(ms) {
  if (ms === undefined || (Number.isInteger(ms) && ms >= 0 && ms <= MAX_DENY_CACHE_MS)) return;
  throw invalid('denyCacheMs', `it must be a whole number from 0 to ${MAX_DENY_CACHE_MS}, but is ${describe(ms)}`);
}

function checkOnStoreError(policy = 'raise', peers) {
  if (!POLICIES.includes(policy)) {
    const named = POLICIES.map((each) => `"${each}"`).join(', ');
    throw invalid('onStoreError', `it must be one of ${named}, but is ${describe(policy)}`);
  }
  if (policy === 'local' && peers === undefined) {
    throw invalid('peers', 'onStoreError "local" needs the number of processes that share the limits');
  }
  if (policy !== 'local' && peers !== undefined) {
    throw invalid('peers', 'it is for onStoreError "local" only');
  }
  if (peers === undefined || (Number.isInteger(peers) && peers >= 1 && peers <= MAX_PEERS)) return;
  throw invalid('peers', `it must be a whole number from 1 to ${MAX_PEERS}, but is ${describe(peers)}`);
}

function checkLease(lease) {
  if (lease === undefined) return;
  checkFields('lease', lease, LEASE);
  const { ttlMs, maxShare = 1 } = lease;
  if (!Number.isInteger(ttlMs) || ttlMs < MIN_LEASE_MS || ttlMs > MAX_LEASE_MS) {
    const bounds = `ttlMs must be a whole number from ${MIN_LEASE_MS} to ${MAX_LEASE_MS}`;
    throw invalid('lease', `${bounds}, but is ${describe(ttlMs)}`);
  }
  if (typeof maxShare === 'number' && maxShare >= 0.001 && maxShare <= 1) return;
  throw invalid('lease', `maxShare must be a number from 0.001 to 1, but is ${describe(maxShare)}`);
}

function checkNotLeased(lease) {
  if (lease === undefined) return;
  throw invalid('lease', 'it is a slice of a bucket in Redis, which other stores are not');
}

function checkNeverFails(policy = 'raise') {
  if (policy === 'raise') return;
  throw invalid('onStoreError', 'it is for a Redis store only; memory does not fail');
}

function checkOverClient(policy = 'raise', denyCacheMs = 0, lease) {
  if (policy !== 'raise') {
    throw invalid('onStoreError', 'over a client of your own there is "raise" only; give a URL for the others');
  }
  if (denyCacheMs !== 0) {
    throw invalid('denyCacheMs', 'over a client of your own no refusals are kept; leave it out, or give a URL');
  }
  if (lease !== undefined) throw invalid('lease', 'it needs a connection in the background; give a URL for it');
}
