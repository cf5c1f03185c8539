/** Checks of the options that only a Redis store or only memory needs, and of the waiting line. */

import { checkFields, describe, invalid } from './arguments.js';

/** The names of these options. */
export const STORE_OPTIONS = ['onStoreError', 'peers', 'denyCacheMs', 'lease', 'perKeyCalls'];

/** The number of callers of a key that may wait, unless the option says otherwise. */
export const DEFAULT_MAX_WAITING = 10_000;
const MAX_WAITING = 1_000_000;

/** The names of the options of memory. */
export const ROOM_OPTIONS = ['maxKeys', 'onFull'];

/** The number of keys for which each limit has room in memory, unless the option says otherwise. */
export const DEFAULT_MAX_KEYS = 1_000_000;
const MAX_KEYS = 100_000_000;
const ON_FULL = ['evict_idlest', 'deny'];

/** The store in memory. */
export const MEMORY = 'memory://';

/** The names of all options of `createLimiter`. */
export const OPTIONS = ['limits', 'store', 'prefix', 'storeTimeoutMs', 'clock', 'maxWaiting', ...ROOM_OPTIONS, ...STORE_OPTIONS];

const POLICIES = ['raise', 'allow', 'deny', 'local'];
const MAX_PEERS = 1_000_000;
const MAX_DENY_CACHE_MS = 60_000;
const LEASE = ['ttlMs', 'maxShare'];
const MIN_LEASE_MS = 100;
const MAX_LEASE_MS = 60_000;

/** Checks these options for every store. They have no effect on memory, which does not fail. */
export function checkStoreOptions({ store, onStoreError, peers, denyCacheMs, lease, perKeyCalls }) {
  checkOnStoreError(onStoreError, peers);
  checkDenyCache(denyCacheMs);
  checkLease(lease);
  checkPerKeyCalls(store, perKeyCalls);
}

/** Refuses what is not a number of callers that may wait; undefined stands for the default. */
export function checkMaxWaiting(count) {
  if (count === undefined || (Number.isInteger(count) && count >= 1 && count <= MAX_WAITING)) return;
  throw invalid('maxWaiting', `it must be a whole number from 1 to ${MAX_WAITING}, but is ${describe(count)}`);
}

/**
 * Refuses what is not room for keys; undefined stands for the default. Shared memory has its room in its URL.
 * Redis has a bound of its own, and accepts these options so that options fit any store.
 */
export function checkRoom({ store, maxKeys, onFull }) {
  if (maxKeys !== undefined && !(Number.isInteger(maxKeys) && maxKeys >= 1 && maxKeys <= MAX_KEYS)) {
    throw invalid('maxKeys', `it must be a whole number from 1 to ${MAX_KEYS}, but is ${describe(maxKeys)}`);
  }
  if (onFull !== undefined && !ON_FULL.includes(onFull)) {
    throw invalid('onFull', `it must be "evict_idlest" or "deny", but is ${describe(onFull)}`);
  }
  if (typeof store !== 'string' || !store.startsWith('shm://')) return;
  const given = maxKeys !== undefined ? 'maxKeys' : 'onFull';
  if (maxKeys !== undefined || onFull !== undefined) {
    throw invalid(given, 'write max_keys and on_full into the URL of shm://, which is shared');
  }
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

function checkDenyCache(ms) {
  if (ms === undefined || (Number.isInteger(ms) && ms >= 0 && ms <= MAX_DENY_CACHE_MS)) return;
  throw invalid('denyCacheMs', `it must be a whole number from 0 to ${MAX_DENY_CACHE_MS}, but is ${describe(ms)}`);
}

function checkPerKeyCalls(store, perKeyCalls = false) {
  if (typeof perKeyCalls !== 'boolean') throw invalid('perKeyCalls', `it must be true or false, but is ${describe(perKeyCalls)}`);
  if (perKeyCalls && typeof store === 'string' && !/^(memory|shm):/.test(store)) {
    throw invalid('perKeyCalls', 'it is for a client of your own; write ?per_key_calls=true into the URL');
  }
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
