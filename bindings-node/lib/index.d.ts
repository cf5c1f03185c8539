import type { Clock, LimitInput, Limiter, LimiterOptions, MemoryLimiter } from './memory/index.js';

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

/** Options for buckets in a store that a fleet shares. */
export interface StoreOptions {
  /** One to four limits, all of which must allow; otherwise nothing is charged. */
  readonly limits: LimitInput | readonly LimitInput[];
  /**
   * `memory://` (the default), `redis://[user:password@]host[:port][/database]`, `rediss://…`
   * for TLS, or `redis+unix:///path`.
   */
  readonly store: string;
  /**
   * What keys in the store begin with: 1 to 256 bytes, default `"tidegate"`. Limiters in any
   * language spend from the same bucket when prefix and key are equal.
   */
  readonly prefix?: string;
  /** How long a check may take: whole milliseconds, 1 to 60000, default 50. */
  readonly storeTimeoutMs?: number;
  /** For `memory://` only; a shared store uses its server's clock. */
  readonly clock?: Clock;
}

/**
 * Builds a limiter. Does no I/O: a shared store is connected to at the first check, and again
 * whenever it comes back.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, unknown options included
 */
export function createLimiter(options: MemoryOptions): MemoryLimiter;
export function createLimiter(options: StoreOptions): Limiter;
