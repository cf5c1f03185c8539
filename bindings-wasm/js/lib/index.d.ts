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
  /** Where the bucket that answered lives. */
  readonly source: Source;
}

export type Source = 'memory' | 'redis';

/** What spends: a string that is not empty, or bytes; 1 to 1024 bytes in UTF-8. */
export type Key = string | Uint8Array;

export interface CheckOptions {
  /** Tokens to spend: a whole number from 0, which looks without spending. Default: 1. */
  readonly cost?: number;
}

/**
 * Decides whether a key may spend tokens. Get one from `createLimiter`.
 *
 * ```js
 * const limiter = createLimiter({ limits: '100/min burst 20' });
 * const { allowed, retryAfterMs } = await limiter.check('user:42');
 * ```
 */
export interface Limiter {
  /** The limits, in the order they were given. */
  readonly limits: readonly Limit[];
  /**
   * Spends tokens of `key` if every limit allows; never waits for tokens. Rejects with
   * `InvalidArgument`, with `CostTooLarge` for a cost above the burst, and with `StoreError`.
   */
  check(key: Key, options?: CheckOptions): Promise<Decision>;
  /** What `check` would find, without spending. */
  peek(key: Key): Promise<Decision>;
  /** Lets go of the buckets: later calls fail with `StoreError`. May be called again. */
  close(): void;
}

export const Limiter: { readonly prototype: Limiter; [Symbol.hasInstance](value: unknown): boolean };

/** A limiter whose buckets are in this runtime's memory, which can answer without a promise. */
export interface MemoryLimiter extends Limiter {
  /**
   * Spends `cost` tokens (default 1) of `key` if every limit allows.
   *
   * @throws {InvalidArgument} for a key or cost outside its bounds
   * @throws {CostTooLarge} for a cost above the burst
   * @throws {StoreError} once the limiter is closed
   */
  checkSync(key: Key, cost?: number): Decision;
  /** What `checkSync` would find, without spending. */
  peekSync(key: Key): Decision;
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

export interface LimiterOptions {
  /** One to four limits, all of which must allow; otherwise nothing is charged. */
  readonly limits: LimitInput | readonly LimitInput[];
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
