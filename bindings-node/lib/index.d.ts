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

/** Options of `createConcurrency`. */
export interface ConcurrencyOptions {
  /** The number of permits of each key: a whole number, 1 to 1,000,000. */
  readonly limit: number;
  /** How long a permit lasts unless it is renewed, which this process does every third of it: 100 ms to a day, default 30,000. */
  readonly ttlMs?: number;
  /** `memory://` (the default), or the URL of the Redis that a fleet shares; a client and `shm://` are refused. */
  readonly store?: string;
  /** The beginning of all keys in Redis: 1 to 256 bytes, default `"tidegate"`. The same prefix and key share permits. */
  readonly prefix?: string;
  /** The longest time that a call may take: whole milliseconds, 1 to 60000, default 50. */
  readonly storeTimeoutMs?: number;
  /** What callers get while Redis fails: an error (`"raise"`, the default), an uncounted permit, or none. */
  readonly onStoreError?: 'raise' | 'allow' | 'deny';
  /** The most callers that wait for the permits of a key, in Redis over all processes: 1 to 1,000,000, default 10,000. */
  readonly maxWaiting?: number;
}

/**
 * Lets a limited number of callers run at the same time, over all processes that use the same store, prefix and
 * key. Others wait in one line, first come, first served. A process that dies frees its permits within the ttl.
 */
export class Concurrency {
  private constructor();
  /** The number of permits of each key. */
  readonly limit: number;
  /** How long a permit lasts unless it is renewed. */
  readonly ttlMs: number;
  /**
   * Waits until the caller holds a permit of `key` (default `''`), at most for `timeoutMs` (default: without end).
   * When `signal` aborts, the caller leaves the line. Declare the permit with `await using`, or call its `release`.
   *
   * Rejects with `NoPermit` if none comes free in time or if `maxWaiting` callers wait already, and with `StoreError`.
   */
  acquire(key?: string | Uint8Array, options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal | null }): Promise<Permit>;
  /** A permit if one is free and nobody waits for it, and otherwise undefined. */
  tryAcquire(key?: string | Uint8Array): Promise<Permit | undefined>;
  /** The number of permits of `key` that are held, over all processes. */
  inFlight(key?: string | Uint8Array): Promise<number>;
  /** The number of callers of this process that wait for a permit of `key`. */
  waiting(key?: string | Uint8Array): number;
  /** Changes the number of permits for this object: 0 to 1,000,000. A lower number takes no permit away. */
  setLimit(limit: number): void;
  /** Closes it: those who wait and later calls reject with `StoreError`. The permits of this process are given back. */
  close(): void;
  [Symbol.dispose](): void;
}

/** The right to run that a `Concurrency` has given. It is given back when it is disposed of, released or collected. */
export class Permit {
  private constructor();
  /** The key that was asked for. */
  readonly key: string | Uint8Array;
  /** Whether it has expired before it could be renewed, so that somebody else may hold it. It does not come back. */
  readonly lost: boolean;
  /** Where it was counted; `"fallback"` if the store failed and the caller was let in uncounted. */
  readonly source: 'memory' | 'redis' | 'fallback';
  /** Gives it back, and waits until the store has heard of it. Never rejects, because a permit expires. */
  release(): Promise<void>;
  /** Gives it back without waiting. */
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a `Concurrency`; does no I/O.
 *
 * @throws {InvalidArgument} for any mistake, unknown options included
 */
export function createConcurrency(options: ConcurrencyOptions): Concurrency;

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
