/** The types of the package: those of `tidegate-wasm`, and the stores of Node. */

import type { ClientOptions, Clock, LimitInput, Limiter, LimiterOptions, MemoryLimiter, RedisOptions } from './memory/index.js';

export * from './memory/index.js';

/** Options for buckets in this process's memory. */
export interface MemoryOptions extends LimiterOptions {
  /** The default. */
  readonly store?: 'memory://';
  /** Accepted for any store, and used by shared ones. */
  readonly prefix?: string;
  /** Accepted for any store, and used by shared ones. */
  readonly storeTimeoutMs?: number;
}

/** Options for buckets in memory that all processes of this host share; on Linux and macOS. */
export interface SharedMemoryOptions extends Omit<StoreOptions, 'store' | 'clock' | keyof RedisOptions> {
  /**
   * `shm://name`, and after it `?max_keys=100000` (keys that owe something, 1 to 100,000,000),
   * `&on_full=evict_idlest` or `deny`, `&mode=600` (or 660, 666: who may share), `&dir=/path`.
   * Limiters in any language share a bucket when name, prefix, key and limits are equal.
   */
  readonly store: `shm://${string}`;
}

/** Options for buckets in a store that a fleet shares. */
export interface StoreOptions extends RedisOptions {
  /** One to four limits, all of which must allow; otherwise nothing is charged. */
  readonly limits: LimitInput | readonly LimitInput[];
  /**
   * `memory://` (the default), `shm://name`, `redis://[user:password@]host[:port][/database]`,
   * `rediss://…` for TLS, `redis+unix:///path`, `redis+cluster://host1,host2` or
   * `redis+sentinel://host1,host2/master`.
   */
  readonly store: string;
  /**
   * What keys in the store begin with: 1 to 256 bytes, default `"tidegate"`. Limiters in any
   * language spend from the same bucket when prefix and key are equal.
   */
  readonly prefix?: string;
  /** How long a call may take: whole milliseconds, 1 to 60000, default 50. */
  readonly storeTimeoutMs?: number;
  /** For `memory://` only; a shared store has a clock of its own. */
  readonly clock?: Clock;
}

/**
 * Builds a limiter. Does no I/O: a shared store is connected to at the first check, and again
 * whenever it comes back.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, unknown options included
 */
export function createLimiter(options: MemoryOptions | SharedMemoryOptions): MemoryLimiter;
export function createLimiter(options: StoreOptions | ClientOptions): Limiter;
