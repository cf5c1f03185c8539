import type { ClientOptions, Clock, LimitInput, Limiter, LimiterOptions, MemoryLimiter } from './memory/index.js';

export * from './memory/index.js';

/** Options for buckets in this process's memory. */
export interface MemoryOptions extends LimiterOptions {
  /** The default. */
  readonly store?: 'memory://';
  /** Has a meaning for a shared store only. */
  readonly prefix?: string;
  /** Has a meaning for a shared store only. */
  readonly storeTimeoutMs?: number;
}

/** Options for buckets in memory that all processes of this host share; on Linux and macOS. */
export interface SharedMemoryOptions extends Omit<StoreOptions, 'store' | 'clock' | 'onStoreError' | 'peers' | 'denyCacheMs' | 'lease'> {
  /**
   * `shm://name`, and after it `?max_keys=100000` (keys that owe something, 1 to 100,000,000),
   * `&on_full=evict_idlest` or `deny`, `&mode=600` (or 660, 666: who may share), `&dir=/path`.
   * Limiters in any language share a bucket when name, prefix, key and limits are equal.
   */
  readonly store: `shm://${string}`;
}

/** Options for buckets in a store that a fleet shares. */
export interface StoreOptions {
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
  /**
   * What is answered while Redis fails: `"raise"` (the default) rejects with `StoreError`; `"allow"`
   * or `"deny"` everything; `"local"` goes on in this process with its share of each limit. Answers
   * that Redis has not given have the source `"fallback"`.
   */
  readonly onStoreError?: OnStoreError;
  /**
   * For `onStoreError: "local"`, which needs it: how many processes use the bucket, each of which
   * then has one of so many equal shares. A whole number, 1 to 1,000,000.
   */
  readonly peers?: number;
  /**
   * How long a key that Redis has refused may be refused again without asking, until its time has
   * come: whole milliseconds, 0 (always ask) to 60000, default 100. What this process gives back is
   * known at once, what others give back so much later.
   */
  readonly denyCacheMs?: number;
  /**
   * Debits tokens of a key that is asked for often ahead of time, spends them in this process at a
   * pace without asking Redis, and renews its slice in the background. For `check`; the source is
   * then `"lease"`. For Redis only.
   */
  readonly lease?: LeaseOptions;
  /** For `memory://` only; a shared store has a clock of its own. */
  readonly clock?: Clock;
}

/** How buckets are leased. */
export interface LeaseOptions {
  /** How long a slice lives: whole milliseconds, 100 to 60000. A crashed process wastes its slice for as long. */
  readonly ttlMs: number;
  /** The largest part of the rate that one process takes: 0.001 to 1, default 1. */
  readonly maxShare?: number;
}

export type OnStoreError = 'raise' | 'allow' | 'deny' | 'local';

/**
 * Builds a limiter. Does no I/O: a shared store is connected to at the first check, and again
 * whenever it comes back.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, unknown options included
 */
export function createLimiter(options: MemoryOptions | SharedMemoryOptions): MemoryLimiter;
export function createLimiter(options: StoreOptions | ClientOptions): Limiter;
