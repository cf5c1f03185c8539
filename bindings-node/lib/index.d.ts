/** The types of the package: the types of `tidegate-wasm`, and the options of the stores that only Node has. */

import type {
  ClientOptions, Clock, LimitsInput, Limiter, LimiterOptions, MemoryLimiter, OnFull, Outbound, OutboundOptions, ReadLimits, RedisOptions,
} from './memory/index.js';

export * from './memory/index.js';

/** Options for buckets in this process's memory. */
export interface MemoryOptions<Given extends LimitsInput = LimitsInput> extends LimiterOptions<Given> {
  /** The store in memory, which is the default. */
  readonly store?: 'memory://';
  /** Without effect in memory; accepted so that options fit any store. */
  readonly prefix?: string;
  /** Without effect in memory; accepted so that options fit any store. */
  readonly storeTimeoutMs?: number;
}

/** Options for buckets in memory that all processes of this host share. On Linux and macOS only. */
export interface SharedMemoryOptions<Given extends LimitsInput = LimitsInput> extends Omit<StoreOptions<Given>, 'store' | 'clock' | 'maxKeys' | 'onFull'> {
  /**
   * `shm://name`, with options after it: `?max_keys=100000` (the most keys that can owe something,
   * 1 to 100,000,000), `&on_full=evict_idlest` or `deny` (what happens to a new key when the table
   * is full), `&mode=600`, `660` or `666` (the users who may share it), `&dir=/path`. Limiters in
   * any language share a bucket when name, prefix, key and limits are equal.
   */
  readonly store: `shm://${string}`;
}

/** Options for buckets in any store, given by its URL. */
export interface StoreOptions<Given extends LimitsInput = LimitsInput> extends RedisOptions {
  /** One to four limits. A call is allowed if all of them allow it; otherwise nothing is charged. */
  readonly limits: ReadLimits<Given>;
  /**
   * `memory://` (the default), `shm://name`, `redis://[user:password@]host[:port][/database]`,
   * `rediss://…` for TLS, `redis+unix:///path`, `redis+cluster://host1,host2` or
   * `redis+sentinel://host1,host2/master`. A variable of the environment fits, but `undefined` is
   * refused when the limiter is made: leave the field out for memory.
   */
  readonly store: string | undefined;
  /**
   * The beginning of all keys in the store: 1 to 256 bytes, default `"tidegate"`. Limiters in any
   * language spend from the same bucket when prefix and key are equal. Limiters of one program that
   * leave it out on one Redis must have the same limits.
   */
  readonly prefix?: string;
  /** The longest time that a call may take: whole milliseconds, 1 to 60000, default 50. */
  readonly storeTimeoutMs?: number;
  /**
   * The most callers of a key that wait in `acquire` at a time: a whole number, 1 to 1,000,000,
   * default 10,000. Another one rejects with `RateLimited`, whose `retryAfterMs` says when a slot
   * would come.
   */
  readonly maxWaiting?: number;
  /** For `memory://`, see `LimiterOptions`; without effect in Redis; refused with `shm://`, whose URL says it. */
  readonly maxKeys?: number;
  /** For `memory://`, see `LimiterOptions`; without effect in Redis; refused with `shm://`, whose URL says it. */
  readonly onFull?: OnFull;
  /** The source of the time, for `memory://` only, because a shared store has a clock of its own. */
  readonly clock?: Clock;
}

/**
 * Builds a limiter. Does no I/O: the limiter connects to a shared store at the first check, and
 * again when the store is back after a failure.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, unknown options included
 */
export function createLimiter<const Given extends LimitsInput = LimitsInput>(
  options: MemoryOptions<Given> | SharedMemoryOptions<Given>,
): MemoryLimiter;
export function createLimiter<const Given extends LimitsInput = LimitsInput>(options: StoreOptions<Given> | ClientOptions<Given>): Limiter;

/**
 * Makes calls to vendors within their limits. `createOutbound({ limits: '10 in any 1s' })` suffices to begin; with
 * `store: 'redis://…'` a whole fleet shares the limits and the holds.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept
 * @throws {InvalidArgument} for any other mistake
 */
export function createOutbound<const Given extends LimitsInput = LimitsInput>(
  options: OutboundOptions & (Partial<MemoryOptions<Given>> | Partial<SharedMemoryOptions<Given>> | Partial<StoreOptions<Given>> | Partial<ClientOptions<Given>>),
): Outbound;
