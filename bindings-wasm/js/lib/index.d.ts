/** What the limits of one limiter may be given as. All of one to four must allow. */
export type LimitInput = string | LimitFields | Limit;

/** A limit in parts. */
export interface LimitFields {
  /** Tokens per period: a whole number, at least 1. */
  readonly tokens: number;
  /** The period in milliseconds; fractions down to a nanosecond. */
  readonly periodMs: number;
  /** The most tokens that can be spent at once: a whole number, at least 1. Default: `tokens`. */
  readonly burst?: number;
  /** How tokens come back: evenly (`"smooth"`, the default) or at once on multiples of the period. */
  readonly shape?: Shape;
  /** What decisions report the limit as. Default: its canonical text. */
  readonly name?: string;
}

export type Shape = 'smooth' | 'stepped';

/** How many tokens per period, and how many may be spent at once. Immutable. */
export class Limit {
  /**
   * @throws {InvalidLimit} for a text outside the grammar, or a limit that breaks a bound
   * @throws {InvalidArgument} for a field of the wrong type
   */
  constructor(description: LimitInput, options?: { readonly name?: string });
  readonly tokens: number;
  readonly periodMs: number;
  readonly burst: number;
  readonly shape: Shape;
  readonly name: string;
  /** The canonical text, such as `"100/min burst 20"`, which reads back to an equal limit. */
  toString(): string;
}

/**
 * Reads a limit from the grammar's text, such as `"10/s"`, `"100/min burst 20"`,
 * `"5000/h window"` or `"10 in any 1s"`, or from its parts.
 *
 * @throws {InvalidLimit} for a text outside the grammar, or a limit that breaks a bound
 * @throws {InvalidArgument} for a field of the wrong type
 */
export function limit(description: LimitInput, options?: { readonly name?: string }): Limit;

/** The answer to one check, as a value: a refusal is not an error. */
export class Decision {
  private constructor();
  /** Whether the cost was charged. A refused call has changed nothing. */
  readonly allowed: boolean;
  /** The burst of the limit that bound the answer, in tokens. */
  readonly limit: number;
  /** Whole tokens that limit could still spend at once, after this call. */
  readonly remaining: number;
  /**
   * When refused, the shortest time after which the same call would be allowed if nobody else
   * came: whole milliseconds, rounded up, so that waiting for as long is always enough. Else 0.
   */
  readonly retryAfterMs: number;
  /** The time until that limit's bucket is full again: whole milliseconds, rounded up. */
  readonly resetAfterMs: number;
  /**
   * The name of the limit that bound the answer: the longest `retryAfterMs` when refused, the
   * least `remaining` when allowed, the first on a tie.
   */
  readonly limitName: string;
  /** Where the bucket that answered lives; `"fallback"` when the limiter did, as its store fails. */
  readonly source: Source;
}

export type Source = 'memory' | 'shm' | 'redis' | 'lease' | 'fallback';

/** How a limiter's store has done; of memory, which cannot fail, nothing. */
export class StoreHealth {
  private constructor();
  /**
   * What becomes of calls: `"closed"`, and they are sent; `"open"`, and they are answered at once
   * because the store keeps failing; `"half_open"` while one of them finds out whether it is back.
   */
  readonly state: 'closed' | 'open' | 'half_open';
  /** Calls on the store that failed. */
  readonly failures: number;
  /** Calls that the limiter has answered itself, as its `onStoreError` says. */
  readonly fallbacks: number;
}

/**
 * What a store with a bounded number of keys could not keep. Where either number grows, it has too
 * little room for the keys that owe something.
 */
export class Pressure {
  private constructor();
  /** Buckets dropped for new keys although they owed something, which their keys may spend again. */
  readonly evicted: number;
  /** Calls that were refused because there was no room for their new key. */
  readonly denied: number;
}

/** What spends: a string that is not empty, or bytes; 1 to 1024 bytes in UTF-8. */
export type Key = string | Uint8Array;

/**
 * The key of a call's buckets: one key for all limits, or an array of exactly one key per limit,
 * for buckets of different width in one call, all or nothing.
 *
 * ```js
 * const limiter = createLimiter({ limits: ['10/min', '1000/min'] });
 * limiter.checkSync(['user:42', 'org:7']);
 * ```
 *
 * Buckets with a key per limit are apart from those under a single key, and a key's bucket under one
 * limit from that under another; with one limit in all, `['key']` is `'key'`.
 */
export type Keys = Key | readonly Key[];

export interface CheckOptions {
  /** Tokens to spend: a whole number from 0, which looks without spending. Default: 1. */
  readonly cost?: number;
}

/** One check among many: a key or keys, or with their cost. */
export type CheckInput = Keys | { readonly key: Keys; readonly cost?: number };

export interface ReserveOptions {
  /** Tokens to spend once the slot has come: a whole number from 0. Default: 1. */
  readonly cost?: number;
  /** The longest acceptable delay in milliseconds, from 0. Default: Infinity. */
  readonly maxWaitMs?: number;
}

export interface AcquireOptions {
  /** Tokens to spend: a whole number from 0. Default: 1. */
  readonly cost?: number;
  /** How far away the slot may be, in milliseconds, from 0. Default: Infinity. */
  readonly timeoutMs?: number;
  /** Ends the wait, and gives the slot back. */
  readonly signal?: AbortSignalLike;
}

/** The part of an `AbortSignal` that is needed, so that any runtime's will do. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/**
 * Tokens charged ahead of time, to be spent once `delayMs` has passed; or, when it is not
 * `allowed`, that none are near enough, and then nothing was charged. A slot that has been waited
 * for and used needs no more calls; one that is not used should be cancelled.
 *
 * ```js
 * const reservation = await limiter.reserve('model', { cost: 4000, maxWaitMs: 10_000 });
 * if (reservation.allowed) {
 *   await new Promise((resolve) => setTimeout(resolve, reservation.delayMs));
 *   await reservation.settle(1500); // what the call turned out to cost
 * }
 * ```
 */
export interface Reservation {
  readonly allowed: boolean;
  /**
   * How long to wait before spending: whole milliseconds, rounded up. `setTimeout` holds at most
   * 2^31 - 1 of them, and may fire a little early. Infinity when refused.
   */
  readonly delayMs: number;
  /**
   * The buckets after the charge, as an allowed check would tell them. When refused, its
   * `retryAfterMs` is the least wait after which the same call, with the same `maxWaitMs`, would
   * get a slot if nobody else came.
   */
  readonly decision: Decision;
  /** The tokens that were asked for. */
  readonly cost: number;
  /**
   * Gives an unused slot back, and says whether all of it came back: a bucket that nobody has
   * changed since becomes what it was. Behind a slot that others have charged after, nothing comes
   * back, as their slots are fixed; where tokens should return at any price, `credit` them. False
   * when there is nothing to give back: refused, cancelled before, or settled.
   */
  cancel(): Promise<boolean>;
  /**
   * Corrects the charge to the `actual` tokens (a whole number, 0 to 2^53) once they are known: the
   * difference is given back, or taken, above the burst too. Can be done once, and not after
   * `cancel`: otherwise rejects with `InvalidArgument`.
   */
  settle(actual: number): Promise<Decision>;
}

export const Reservation: { readonly prototype: Reservation; [Symbol.hasInstance](value: unknown): boolean };

/** A reservation in memory, which can answer without a promise. */
export interface MemoryReservation extends Reservation {
  /** `cancel` without a promise. */
  cancelSync(): boolean;
  /**
   * `settle` without a promise.
   *
   * @throws {InvalidArgument} for a wrong number, and when there is no charge to settle
   */
  settleSync(actual: number): Decision;
}

/**
 * Decides whether a key may spend tokens. Get one from `createLimiter`.
 *
 * Its methods reject with `InvalidArgument` for a mistake in the arguments, `check`, `checkMany`,
 * `reserve` and `acquire` with `CostTooLarge` for a cost above the burst, and all with `StoreError`
 * when the store cannot be reached or the limiter is closed.
 *
 * ```js
 * const limiter = createLimiter({ limits: '100/min burst 20' });
 * const { allowed, retryAfterMs } = await limiter.check('user:42');
 * ```
 */
export interface Limiter {
  /** The limits, in the order they were given. */
  readonly limits: readonly Limit[];
  /** What the buckets' store could not keep for want of room. In this runtime's memory there is room for all. */
  readonly pressure: Pressure;
  /** How the buckets' store has done: whether it is asked at present, and how often it failed. */
  readonly storeHealth: StoreHealth;
  /** Spends tokens of `key` if every limit allows; never waits for tokens. */
  check(key: Keys, options?: CheckOptions): Promise<Decision>;
  /**
   * Many checks in one go, each decided by itself, in order; one that is refused does not stop the
   * others. A mistake in one charges nothing for any.
   *
   * ```js
   * const [user, job] = await limiter.checkMany(['user:42', { key: 'job:7', cost: 3 }]);
   * ```
   */
  checkMany(checks: readonly CheckInput[]): Promise<Decision[]>;
  /** What `check` would find, without spending. */
  peek(key: Keys): Promise<Decision>;
  /**
   * Takes the next slot for `cost` tokens if it is at most `maxWaitMs` away. Never waits for tokens:
   * the buckets are charged now, and the tokens are to be spent after the reservation's `delayMs`.
   * Slots are handed out first come, first served, whatever their cost.
   */
  reserve(key: Keys, options?: ReserveOptions): Promise<Reservation>;
  /**
   * Waits until `cost` tokens may be spent, and spends them: it reserves its slot once and sleeps
   * once, so that callers go first come, first served. A slot further away than `timeoutMs` rejects
   * with `RateLimited` at once. When `signal` aborts, the slot is given back and it rejects with the
   * signal's reason. A pending call keeps a process alive.
   *
   * Waits are of real time, whatever the clock; but a `FakeClock` is moved to the slot instead.
   *
   * ```js
   * await limiter.acquire('vendor', { timeoutMs: 5000, signal: AbortSignal.timeout(10_000) });
   * ```
   */
  acquire(key: Keys, options?: AcquireOptions): Promise<Decision>;
  /**
   * Corrects a charge once its true size is known: `charged` tokens were taken, `actual` were used
   * (whole numbers, 0 to 2^53). The difference is given back, or taken without asking, above the
   * burst too: the bucket then owes it and time pays. Tells what the buckets then hold.
   */
  settle(key: Keys, charged: number, actual: number): Promise<Decision>;
  /** Gives tokens back (a whole number, 0 to 2^53), never above full. Answers as `settle` does. */
  credit(key: Keys, tokens: number): Promise<Decision>;
  /**
   * Pauses for `waitMs` milliseconds, because the far side said so (`Retry-After`): a smooth limit
   * has exactly one token at the end of it, and the rest arrive at the normal pace. The later of two
   * holds stays; none is longer than 104 days. Slots already reserved keep their time. Answers as
   * `settle` does.
   */
  hold(key: Keys, waitMs: number): Promise<Decision>;
  /** Forgets all that the buckets owe, holds included: each is full. Answers as `settle` does. */
  reset(key: Keys): Promise<Decision>;
  /** Lets go of the buckets: later calls fail with `StoreError`. May be called again. */
  close(): void;
}

export const Limiter: { readonly prototype: Limiter; [Symbol.hasInstance](value: unknown): boolean };

/** A limiter whose buckets are in memory, which can answer without a promise. */
export interface MemoryLimiter extends Limiter {
  /**
   * Spends `cost` tokens (default 1) of `key` if every limit allows.
   *
   * @throws {InvalidArgument} for a key or cost outside its bounds
   * @throws {CostTooLarge} for a cost above the burst
   * @throws {StoreError} once the limiter is closed
   */
  checkSync(key: Keys, cost?: number): Decision;
  /** `checkMany` without a promise; all checks are of one time. */
  checkManySync(checks: readonly CheckInput[]): Decision[];
  /** What `checkSync` would find, without spending. */
  peekSync(key: Keys): Decision;
  /** `reserve` without a promise. */
  reserveSync(key: Keys, options?: ReserveOptions): MemoryReservation;
  reserve(key: Keys, options?: ReserveOptions): Promise<MemoryReservation>;
  /** `settle` without a promise. */
  settleSync(key: Keys, charged: number, actual: number): Decision;
  /** `credit` without a promise. */
  creditSync(key: Keys, tokens: number): Decision;
  /** `hold` without a promise. */
  holdSync(key: Keys, waitMs: number): Decision;
  /** `reset` without a promise. */
  resetSync(key: Keys): Decision;
}

/** Where `now` comes from: nanoseconds since the clock's zero, from 0 to 2^64 - 1. */
export interface Clock {
  now(): bigint;
}

/** A clock that stands still until it is told to move, for tests. */
export class FakeClock implements Clock {
  /** @param now nanoseconds; default `0n` */
  constructor(now?: bigint);
  now(): bigint;
  /** Shows `now` nanoseconds from here on; may go backward. */
  set(now: bigint): void;
  /** Moves forward by so many milliseconds, fractions included. */
  advance(byMs: number): void;
}

/**
 * A Redis client that the program has made: of ioredis, of node-redis, or of Upstash. Tidegate
 * has it send its scripts, and does nothing else with it. Calls of one turn of the event loop
 * travel together.
 */
export type RedisClient = IoredisClient | NodeRedisClient | UpstashClient;

/** What is asked of a client like that of ioredis, or its Cluster. */
export interface IoredisClient {
  callBuffer(command: string, ...args: any[]): Promise<unknown>;
}

/** What is asked of a client like that of node-redis, or its cluster. */
export interface NodeRedisClient {
  sendCommand(...args: any[]): Promise<unknown>;
}

/** What is asked of a client like that of Upstash. Keys must then be text. */
export interface UpstashClient {
  evalsha(sha1: string, keys: string[], args: any[]): Promise<unknown>;
  eval(script: string, keys: string[], args: any[]): Promise<unknown>;
}

/** What only buckets in Redis have. */
export interface RedisOptions {
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
   * then `"lease"`.
   */
  readonly lease?: LeaseOptions;
}

/** How buckets are leased. */
export interface LeaseOptions {
  /** How long a slice lives: whole milliseconds, 100 to 60000. A crashed process wastes its slice for as long. */
  readonly ttlMs: number;
  /** The largest part of the rate that one process takes: 0.001 to 1, default 1. */
  readonly maxShare?: number;
}

export type OnStoreError = 'raise' | 'allow' | 'deny' | 'local';

/** Options for buckets in a Redis that is reached over a client of the program's own. */
export interface ClientOptions extends RedisOptions {
  /** One to four limits, all of which must allow; otherwise nothing is charged. */
  readonly limits: LimitInput | readonly LimitInput[];
  /** The client. */
  readonly store: RedisClient;
  /**
   * What keys in the store begin with: 1 to 256 bytes, default `"tidegate"`. Limiters in any
   * language spend from the same bucket when prefix and key are equal.
   */
  readonly prefix?: string;
  /** How long a call may take: whole milliseconds, 1 to 60000, default 50. */
  readonly storeTimeoutMs?: number;
}

export interface LimiterOptions {
  /** One to four limits, all of which must allow; otherwise nothing is charged. */
  readonly limits: LimitInput | readonly LimitInput[];
  /** The default. */
  readonly store?: 'memory://';
  /** Accepted for any store, and used by shared ones. */
  readonly prefix?: string;
  /** Accepted for any store, and used by shared ones. */
  readonly storeTimeoutMs?: number;
  /** Default: monotonic, aligned to the Unix epoch at the first check. */
  readonly clock?: Clock;
}

/**
 * Builds a limiter whose buckets are in this runtime's memory.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, unknown options included
 */
export function createLimiter(options: LimiterOptions): MemoryLimiter;
/** Builds a limiter whose buckets are in a Redis that a client of the program's own reaches. */
export function createLimiter(options: ClientOptions): Limiter;

/** The base of Tidegate's errors. A refusal is not among them. */
export class TidegateError extends Error {
  /** The stable code of the error's class, the same in every language. */
  readonly code: string;
}
/** A limit's text does not follow the grammar, or the limit breaks a bound. */
export class InvalidLimit extends TidegateError {
  readonly code: 'invalid_limit';
  /** The stable name of the bound that was broken, such as `"unknown_unit"`. */
  readonly reason: string;
}
/** A key, cost or option is not usable; the message names it and its bound. */
export class InvalidArgument extends TidegateError {
  readonly code: 'invalid_argument';
}
/** The cost is above the burst, so the call can never be allowed. */
export class CostTooLarge extends TidegateError {
  readonly code: 'cost_too_large';
}
/** No slot came soon enough for `acquire`, which charged nothing. */
export class RateLimited extends TidegateError {
  readonly code: 'rate_limited';
  /**
   * The refusal. Its `retryAfterMs` is the least wait after which the same call, with the same
   * `timeoutMs`, would get a slot if nobody else came.
   */
  readonly decision: Decision;
  /** The key that was given; of one key per limit, that of the limit that bound the decision. */
  readonly key: Key;
}
/** The store could not be reached or refused the operation. */
export class StoreError extends TidegateError {
  readonly code: 'store_error' | 'store_timeout' | 'corrupt_bucket';
}
/** The store did not answer in time; the cost may or may not have been charged. */
export class StoreTimeout extends StoreError {
  readonly code: 'store_timeout';
}
/** The bucket's key holds a value that Tidegate did not write. */
export class CorruptBucket extends StoreError {
  readonly code: 'corrupt_bucket';
}
