/** The types of the package. */
/// <reference lib="esnext.disposable" />

/**
 * The forms in which a limit can be given: a text, its parts, or a `Limit`.
 *
 * Where a text is written in the program, the compiler reads it: `createLimiter({ limits: '10/fortnight' })` is a type
 * error. A `string` that the program has from elsewhere is read when the limiter is made.
 */
export type LimitInput = string | LimitFields | Limit;

/** The parts of a limit. */
export interface LimitFields {
  /** Tokens per period: a whole number, at least 1. */
  readonly tokens: number;
  /**
   * The period in milliseconds. It may have a fraction, down to a nanosecond. From 2^33 on (99 days) a number does not hold
   * every nanosecond, and the nearest one is meant.
   */
  readonly periodMs: number;
  /** The most tokens that can be spent at once: a whole number, at least 1. Default: `tokens`. */
  readonly burst?: number;
  /**
   * How tokens come back: evenly over the period (`"smooth"`, the default), or all at once at
   * multiples of the period (`"stepped"`).
   */
  readonly shape?: Shape;
  /** The name by which decisions report the limit. Default: its text as given, or the canonical text of its parts. */
  readonly name?: string;
}

export type Shape = 'smooth' | 'stepped' | 'unlimited' | 'none';

/**
 * One to four limits that all must allow, read once: a customer's plan, say. Immutable.
 *
 * ```js
 * const plan = new Limits('100/min', '5000/d');
 * ```
 */
export interface Limits extends Iterable<Limit> {
  /** The limits, in the order they were given. */
  readonly limits: readonly Limit[];
  /** A text that is the same for equal limits: of the same numbers, shapes and names. */
  readonly key: string;
  /** The names, with a comma between them. */
  toString(): string;
  [Symbol.iterator](): Iterator<Limit>;
}

export const Limits: {
  /**
   * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
   * @throws {InvalidArgument} for a limit of the wrong type
   */
  new <const Given extends readonly LimitInput[]>(...limits: { readonly [Index in keyof Given]: ReadLimits<Given[Index]> }): Limits;
  readonly prototype: Limits;
};

/** A number of tokens per period, and the burst that can be spent at once. Immutable. */
export interface Limit {
  /** Infinity for `unlimited`, and 0 for `none`. */
  readonly tokens: number;
  /**
   * 0 for `unlimited` and `none`, which have no period. Whole milliseconds are exact; a fraction is to the nanosecond, or to two
   * from 2^33 on (99 days).
   */
  readonly periodMs: number;
  /** Infinity for `unlimited`, and 0 for `none`. */
  readonly burst: number;
  readonly shape: Shape;
  readonly name: string;
  /** The canonical text, such as `"100/min burst 20"`, from which an equal limit can be read. */
  toString(): string;
}

export const Limit: {
  /**
   * @throws {InvalidLimit} for a text outside the grammar, or a limit that breaks a bound
   * @throws {InvalidArgument} for a field of the wrong type
   */
  new <const Given extends LimitInput = LimitInput>(description: ReadLimits<Given>, options?: { readonly name?: string }): Limit;
  readonly prototype: Limit;
};

/**
 * Reads a limit from the grammar's text, such as `"10/s"`, `"100/min burst 20"`,
 * `"5000/h window"` or `"10 in any 1s"`, or from its parts. `"unlimited"` allows every call, and
 * `"none"` refuses every call with a cost above 0. No store is asked for either, and `"unlimited"`
 * among other limits is as if it were not there.
 *
 * @throws {InvalidLimit} for a text outside the grammar, or a limit that breaks a bound
 * @throws {InvalidArgument} for a field of the wrong type
 */
export function limit<const Given extends LimitInput = LimitInput>(
  description: ReadLimits<Given>, options?: { readonly name?: string },
): Limit;

/** The answer to one check, as a value: a refusal is not an error. */
export class Decision {
  private constructor();
  /** Whether the cost was charged. A refused call has changed nothing. */
  readonly allowed: boolean;
  /** The burst of the limit that bound the answer, in tokens; Infinity for `unlimited`. */
  readonly limit: number;
  /** The whole tokens of that limit that can be spent at once after this call; Infinity for `unlimited`. */
  readonly remaining: number;
  /**
   * When refused, the shortest time after which the same call would be allowed if there were no
   * other calls: whole milliseconds, rounded up, so that waiting for this time is always enough.
   * 0 when allowed, and Infinity when it never will be (`none`).
   */
  readonly retryAfterMs: number;
  /** The time until that limit's bucket is full again: whole milliseconds, rounded up; Infinity for `none`. */
  readonly resetAfterMs: number;
  /**
   * The name of the limit that bound the answer: when refused, the one with the longest
   * `retryAfterMs`; when allowed, the one with the least `remaining`. On a tie it is the first.
   */
  readonly limitName: string;
  /**
   * Where the bucket that answered is kept. `"lease"` is a slice that this process has leased;
   * `"fallback"` is the limiter's own answer by `onStoreError`, because its store fails.
   */
  readonly source: Source;
  /**
   * What each limit says to the same call, in the order of the limits, for a program that tells its
   * callers about all of them, in `RateLimit` header fields, say. A frozen array, made when it is read.
   * It has only the limit that bound the answer if no bucket of the others was asked: in an answer of a
   * lease, of `none` and of `RateLimited`.
   */
  readonly tiers: readonly TierDecision[];
  /**
   * The fields and `tiers` as a plain object, for `JSON.stringify`. `structuredClone` of a decision leaves `tiers`
   * out, because they are made when they are read: clone this.
   */
  toJSON(): object;
}

/**
 * What one limit says to a call, frozen. After an allowed call it is what remains of the limit. After a
 * refused one nothing was charged, so it is what the limit holds.
 */
export class TierDecision {
  private constructor();
  /** The burst of the limit, in tokens; Infinity for `unlimited`. */
  readonly limit: number;
  /** The whole tokens of this limit that can be spent at once after the call; Infinity for `unlimited`. */
  readonly remaining: number;
  /**
   * The time after which this limit alone would allow the same call: whole milliseconds, rounded up; 0 when it
   * allows it now, and Infinity when it never will (`none`).
   */
  readonly retryAfterMs: number;
  /** The time until the bucket of this limit is full again: whole milliseconds, rounded up; Infinity for `none`. */
  readonly resetAfterMs: number;
  /** The name of the limit. */
  readonly limitName: string;
}

export type Source = 'memory' | 'shm' | 'redis' | 'lease' | 'fallback';

/**
 * The state of a limiter's store, and counts of its failures. Memory cannot fail: always closed and 0.
 *
 * The process gets a warning with the code `TIDEGATE_STORE` when a store is left alone because it keeps
 * failing, and one when it answers again, if the runtime has `process.emitWarning`:
 *
 * ```js
 * process.on('warning', ({ code, message }) => code === 'TIDEGATE_STORE' && console.error(message));
 * ```
 */
export class StoreHealth {
  private constructor();
  /**
   * The state of the circuit breaker: `"closed"` while calls are sent to the store; `"open"` while
   * the store keeps failing and calls are answered at once without it; `"half_open"` while one
   * call tries whether the store is back.
   */
  readonly state: 'closed' | 'open' | 'half_open';
  /** The number of calls on the store that failed. */
  readonly failures: number;
  /** The number of calls that the limiter has answered itself, by its `onStoreError`. */
  readonly fallbacks: number;
  /** The last failure of a call, also after the store has recovered; undefined if no call failed. Without passwords. */
  readonly lastError: StoreError | undefined;
  /**
   * For how many milliseconds the store has been so: closed without a break, or not closed, where
   * `"open"` and `"half_open"` are one outage. Counted from the first use; 0 in memory.
   */
  readonly sinceMs: number;
}

/**
 * What a vendor's response says about its limits, frozen; see `readSignal`. Durations are whole
 * milliseconds, rounded up. A number is undefined when the response does not say it.
 */
export class Signal {
  private constructor();
  /**
   * For how long to make no more calls in the `scope`. It is 0 when the response asks for no wait, or
   * says nothing: then a retry waits for its own back-off. Never more than `maxHoldMs`.
   */
  readonly holdMs: number;
  /** The wait that the response asks for, before the bound of `holdMs`. */
  readonly askedMs: number;
  /**
   * What the hold is about: every call to the vendor; the calls with the same credential; or the calls
   * that the vendor counts together with this one, which are those of the same `bucket` where it names
   * one, or else of the same endpoint.
   */
  readonly scope: 'vendor' | 'credential' | 'bucket';
  /** The vendor's own name of the bucket that counted the call; empty when the response names none. */
  readonly bucket: string;
  /** How much of the limit is left. */
  readonly remaining: number | undefined;
  /** How much the limit allows in its window. */
  readonly limit: number | undefined;
  /**
   * The name of the limit that `limit`, `remaining`, `windowMs` and `resetMs` are about, in lower case;
   * empty when it has none. Of several limits it is the one that binds: a spent one with the latest
   * reset, or else the one with the smallest share left.
   */
  readonly limitName: string;
  /** The length of the limit's window. */
  readonly windowMs: number | undefined;
  /** The time until the limit is reset. */
  readonly resetMs: number | undefined;
  /** Whether the same call may succeed when it is made again, after the hold. */
  readonly shouldRetry: boolean;
  /**
   * Why the vendor refused: for its rate; for calls at a time (the rate may stay as it is); for a quota
   * (without a hold it does not come back by itself); because it is overloaded, whoever calls; for
   * abuse; for the credential; because it failed (`"fault"`); or because the call itself is wrong
   * (`"refused"`). `"ok"` if it did not.
   */
  readonly kind: 'ok' | 'rate' | 'concurrency' | 'quota' | 'overload' | 'abuse' | 'auth' | 'fault' | 'refused';
  /**
   * The name of the header, or the path of the body's field, that the hold was read from, in lower
   * case; empty when there is no hold, or when the profile gives it.
   */
  readonly source: string;
}

/** What one header of a vendor means, or one field of its bodies: a row of a profile for `readSignal`. */
export interface ProfileRow {
  /** The header's name in any case; or `body.` and the path of a field, whose beginning may be left out. */
  readonly header: string;
  /** What its value says. `used_of_limit` is `39/40`, and `restore_rate` the points that come back in a second. */
  readonly meaning:
    | 'retry_after' | 'limit' | 'remaining' | 'reset' | 'window' | 'used_of_limit' | 'bucket' | 'global' | 'reason'
    | 'should_retry' | 'cost' | 'restore_rate' | 'violated';
  /** What a plain number counts where a time is meant; by its size unless given (`"auto"`). */
  readonly unit?: 'auto' | 'seconds' | 'milliseconds' | 'epoch_seconds' | 'epoch_milliseconds';
  /**
   * The name of the limit, if the vendor has several. `second`, `minute`, `hour`, `day` and `month`
   * tell also its window.
   */
  readonly group?: string;
}

/** `Headers` of fetch, also where their types say nothing of iteration. */
export interface HeadersLike {
  forEach(callback: (value: string, name: string) => void): void;
}

/** Options for `readSignal`. */
export interface SignalOptions {
  /** The name of a built-in profile, `"generic"` unless given, or rows of one's own. */
  readonly profile?: string | readonly ProfileRow[];
  /** The response's JSON, parsed. Only what tells of limits is read. */
  readonly body?: unknown;
  /** The wall clock, for responses without a `Date`: milliseconds since 1970 or a Date; now unless given. */
  readonly now?: number | Date;
  /** The longest hold in milliseconds; 15 minutes unless given. */
  readonly maxHoldMs?: number;
}

/**
 * Reads what a vendor's response says about its limits. Nothing in a response throws: what cannot be
 * read is as if it were not there. A wait until a point in time is counted from the response's `Date`,
 * because clocks differ.
 *
 * ```js
 * const signal = readSignal(429, new Headers({ 'Retry-After': '120' }));
 * if (signal.holdMs > 0) await limiter.hold('vendor', signal.holdMs);
 * console.log(limiter.checkSync('vendor').allowed); // false
 * ```
 *
 * @param status the status, 0 to 999
 * @param headers `Headers`, a Map or an array of pairs; or an object as of Node's http, where a value may be an array
 * @throws {InvalidArgument} for an unknown profile, meaning or unit, and for arguments of other types
 */
export function readSignal(
  status: number,
  headers: Iterable<readonly [string, unknown]> | Readonly<Record<string, unknown>> | HeadersLike,
  options?: SignalOptions,
): Signal;

/**
 * Counts of what a store with a bounded number of keys could not keep. If either number grows, the
 * store has too little room for the keys that owe something.
 */
export class Pressure {
  private constructor();
  /**
   * The number of buckets that were dropped for new keys although they owed something. Their keys
   * can spend those tokens again.
   */
  readonly evicted: number;
  /** The number of calls that were refused because there was no room for their new key. */
  readonly denied: number;
}

/** The name of whoever spends tokens: a string, or bytes, of any length. */
export type Key = string | Uint8Array;

/**
 * The key or keys of a call's buckets: one key for all limits, or an array of exactly one key per
 * limit. With an array one call spends from buckets of different scope, such as a user's and an
 * organisation's, and charges all of them or none.
 *
 * ```js
 * const limiter = createLimiter({ limits: ['10/min', '1000/min'] });
 * limiter.checkSync(['user:42', 'org:7']);
 * ```
 *
 * Buckets with a key per limit are separate from the buckets under a single key. The bucket of a
 * key under one limit is separate from its bucket under another. For a limiter with one limit,
 * `['key']` is the same as `'key'`.
 */
export type Keys = Key | readonly Key[];

/**
 * Tokens of a call: one whole number for every limit, or an array of exactly one per limit. With an
 * array one call spends from limits that count different things, such as requests and tokens of a
 * language model, and charges all of them or none. A limit whose number is 0 is not asked.
 *
 * ```js
 * const limiter = createLimiter({ limits: ['60/min', '90000/min'] });
 * limiter.checkSync('user:42', [1, 1500]);
 * ```
 */
export type Tokens = number | readonly number[];

/** The limits of a limiter or of a call: one limit in any form, an array of them, or `Limits`. */
export type LimitsInput = LimitInput | readonly LimitInput[] | Limits;

/** The option of calls that bring limits of their own. */
export interface PlanOptions<Given extends LimitsInput = LimitsInput> {
  /**
   * The limits of this call instead of the limiter's own, such as a customer's plan. Store, prefix and
   * key alone tell which bucket it is, so a key has one bucket under all limits; when they change, what
   * it owes stays the same in whole tokens. See `withLimits`.
   */
  readonly limits?: ReadLimits<Given>;
}

export interface CheckOptions<Given extends LimitsInput = LimitsInput> extends PlanOptions<Given> {
  /** Tokens to spend: whole numbers from 0. A cost of 0 looks without spending. Default: 1. */
  readonly cost?: Tokens;
}

/** One check among many: a key or keys, alone (for a cost of 1) or with their cost. */
export type CheckInput = Keys | { readonly key: Keys; readonly cost?: Tokens };

export interface ReserveOptions<Given extends LimitsInput = LimitsInput> extends PlanOptions<Given> {
  /** Tokens to spend once the slot has come: a whole number from 0. Default: 1. */
  readonly cost?: Tokens;
  /** The longest acceptable delay in milliseconds, from 0. Default: Infinity. */
  readonly maxWaitMs?: number;
}

export interface AcquireOptions<Given extends LimitsInput = LimitsInput> extends PlanOptions<Given> {
  /** Tokens to spend: a whole number from 0. Default: 1. */
  readonly cost?: Tokens;
  /** The longest acceptable wait for the slot in milliseconds, from 0. Default: Infinity. */
  readonly timeoutMs?: number;
  /** The signal that ends the wait when it aborts: those who wait behind move up. */
  readonly signal?: AbortSignalLike | null;
}

export interface ReservingOptions<Given extends LimitsInput = LimitsInput> extends AcquireOptions<Given> {
  /** The estimate: the tokens to charge at first, a whole number from 0. */
  readonly cost: Tokens;
}

export interface ReservingWorkOptions<Given extends LimitsInput = LimitsInput> extends ReservingOptions<Given> {
  /**
   * What happens when the function fails: `"cancel"` (the default) gives all tokens back, `"settle"`
   * keeps the estimate charged.
   */
  readonly onError?: 'cancel' | 'settle';
}

/** The callers of `acquire` that wait for the tokens of a key, in this process. */
export interface Waiting {
  readonly callers: number;
  /** The tokens that they wait for, together. */
  readonly tokens: number;
  /** The time until the last of them is served: whole milliseconds, rounded up; 0 when nobody waits. */
  readonly untilMs: number;
}

/** The part of an `AbortSignal` that Tidegate needs, so that the signal of any runtime fits. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/**
 * Tokens that are charged ahead of time, to be spent once `delayMs` has passed. When it is not
 * `allowed`, no slot was near enough, and nothing was charged. A slot that has been waited for and
 * used needs no more calls; a slot that is not used should be cancelled.
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
   * The time to wait before spending: whole milliseconds, rounded up; Infinity when refused.
   * `setTimeout` takes at most 2^31 - 1 milliseconds, and may fire a little early.
   */
  readonly delayMs: number;
  /**
   * The state of the buckets after the charge, as an allowed check would report it. When refused,
   * its `retryAfterMs` is the shortest wait after which the same call, with the same `maxWaitMs`,
   * would get a slot if there were no other calls.
   */
  readonly decision: Decision;
  /** The tokens that the call asked for. */
  readonly cost: Tokens;
  /**
   * Gives an unused slot back, and resolves to whether all of it came back. A bucket that no other
   * call has changed since becomes what it was before the reserve. A bucket that other calls
   * have charged since gives nothing back, because their slots are fixed; use `credit` to return
   * the tokens nevertheless. Resolves to false when there is nothing to give back: after a
   * refusal, another `cancel`, or `settle`.
   */
  cancel(): Promise<boolean>;
  /**
   * Corrects the charge to the `actual` tokens (a whole number, 0 to 2^53) once they are known. The
   * difference is given back or taken, and may then exceed the burst. Works once: after another
   * `settle`, after `cancel` and for a refusal it rejects with `InvalidArgument`.
   */
  settle(actual: Tokens): Promise<Decision>;
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
  settleSync(actual: Tokens): Decision;
}

/**
 * Tokens that are charged at an estimate, until their true number is known. `Limiter.reserving` makes
 * it. `settle` or `cancel` corrects the charge, once. What is neither settled nor cancelled when it is
 * disposed of counts as used at the estimate, and so does a charge that is thrown away.
 *
 * It can be declared with `await using` where the runtime has `Symbol.asyncDispose`.
 */
export interface Charge {
  /** The decision of `acquire`: the state of the buckets after the charge. */
  readonly decision: Decision;
  /** The tokens that were charged, which is the estimate. */
  readonly cost: Tokens;
  /**
   * Corrects the charge to the `actual` tokens (a whole number, 0 to 2^53), as `Limiter.settle` does.
   * Tokens that come back go to those who wait in `acquire`. Works once: after another `settle`, after
   * `cancel` and after the end it rejects with `InvalidArgument`. If it fails it can be called again;
   * after `StoreTimeout` the store may have corrected the charge already.
   */
  settle(actual: Tokens): Promise<Decision>;
  /**
   * Gives all tokens back, and resolves to true. Resolves to false if there is nothing to give back:
   * after `settle`, another `cancel`, and the end. If it fails it can be called again.
   */
  cancel(): Promise<boolean>;
  /** Ends the charge: what is neither settled nor cancelled counts as used at the estimate. */
  [Symbol.asyncDispose](): Promise<void>;
}

export const Charge: { readonly prototype: Charge; [Symbol.hasInstance](value: unknown): boolean };

/**
 * Decides whether a key may spend tokens. `createLimiter` makes one.
 *
 * All methods reject with `InvalidArgument` for a mistake in the arguments, and with `StoreError`
 * when the store cannot be reached or the limiter is closed. `check`, `checkMany`, `reserve` and
 * `acquire` reject with `CostTooLarge` for a cost above the burst.
 *
 * ```js
 * const limiter = createLimiter({ limits: '100/min burst 20' });
 * const { allowed, retryAfterMs } = await limiter.check('user:42');
 * ```
 */
export interface Limiter {
  /** The limits, in the order they were given. */
  readonly limits: readonly Limit[];
  /** Counts of what the buckets' store could not keep because it was full; 0 in Redis. */
  readonly pressure: Pressure;
  /** The state of the buckets' store, and counts of its failures. */
  readonly storeHealth: StoreHealth;
  /**
   * The same buckets under other limits, for any method: `limiter.withLimits(plan).settle(…)`. It is
   * cheap enough for every call. A charge is settled, credited and cancelled under the limits it was
   * made with. Such calls are not leased, and `shm://` takes none. Closing either closes both.
   *
   * ```js
   * const gold = new Limits('600/min', '100000/d');
   * const { allowed } = await limiter.check('customer:7', { limits: gold });
   * await limiter.withLimits(gold).credit('customer:7', 1);
   * ```
   *
   * @throws {InvalidLimit} for limits that cannot be kept, and unless there are one to four
   * @throws {InvalidArgument} on `shm://`, whose buckets have the limits of their file
   * @throws {StoreError} when the limiter is closed
   */
  withLimits<const Given extends LimitsInput = LimitsInput>(limits: ReadLimits<Given>): Limiter;
  /** Spends tokens of `key` if every limit allows; never waits for tokens. */
  check<const Given extends LimitsInput = LimitsInput>(key: Keys, cost?: Tokens | CheckOptions<Given>): Promise<Decision>;
  /**
   * Decides many checks in one call, at most 10,000, each by itself and in order. A refused check does
   * not stop the others. If one check has an invalid argument, no check is charged.
   *
   * ```js
   * const [user, job] = await limiter.checkMany(['user:42', { key: 'job:7', cost: 3 }]);
   * ```
   */
  checkMany(checks: readonly CheckInput[]): Promise<Decision[]>;
  /**
   * The decision that `check` would take now; nothing is spent. So `remaining` and `resetAfterMs` of
   * an allowed peek are those after the charge that a check would make. A cost of 0 is always
   * allowed, and tells what the buckets hold. Other callers may spend the tokens before a check that
   * follows: to spend, call `check` alone.
   *
   * ```js
   * const { allowed, retryAfterMs } = await limiter.peek('user:42', { cost: 3 });
   * const { remaining } = await limiter.peek('user:42', { cost: 0 });
   * ```
   */
  peek<const Given extends LimitsInput = LimitsInput>(key: Keys, cost?: Tokens | CheckOptions<Given>): Promise<Decision>;
  /**
   * Takes the next slot for `cost` tokens if it is at most `maxWaitMs` away. Never waits for tokens:
   * the buckets are charged now, and the tokens may be spent after the reservation's `delayMs`.
   * Slots are given out in the order of the calls, whatever their cost.
   */
  reserve<const Given extends LimitsInput = LimitsInput>(key: Keys, options?: ReserveOptions<Given>): Promise<Reservation>;
  /**
   * Waits until `cost` tokens may be spent, and spends them. The callers of this process stand in one
   * line for each key, in the order of their calls. If the slot is further away than `timeoutMs`, or
   * if `maxWaiting` callers wait already, it rejects with `RateLimited` at once. When `signal` aborts,
   * it leaves the line and rejects with the signal's reason; those behind it move up. Tokens that
   * `settle`, `credit` or a reservation's `cancel` give back go to those who wait; a `hold` makes them
   * wait for its end; `close` rejects them with `StoreError`. A pending call keeps the process alive.
   *
   * The wait is in real time, whatever the limiter's clock. A `FakeClock` is an exception: it is
   * moved to the time of the slot, without a wait. Where a test has replaced the timers of the
   * runtime, the wait is over when its timer has run.
   *
   * ```js
   * await limiter.acquire('vendor', { timeoutMs: 5000, signal: AbortSignal.timeout(10_000) });
   * ```
   */
  acquire<const Given extends LimitsInput = LimitsInput>(key: Keys, options?: AcquireOptions<Given>): Promise<Decision>;
  /**
   * Charges an estimate, to be corrected once the true cost is known. Waits as `acquire` does, with its
   * options and errors, and resolves to a `Charge`. What is neither settled nor cancelled counts as
   * used at the estimate.
   *
   * ```js
   * const charge = await limiter.reserving('model', { cost: 4000, timeoutMs: 10_000 });
   * const used = 1500; // call the model here
   * await charge.settle(used);
   * ```
   *
   * With `await using charge = await limiter.reserving(…)` the charge ends with its block. A block does
   * not tell whether an exception ends it: the form with a function does.
   */
  reserving<const Given extends LimitsInput = LimitsInput>(key: Keys, options: ReservingOptions<Given>): Promise<Charge>;
  /**
   * Charges an estimate while `work` runs, and resolves to what `work` gives. If `work` fails, all
   * tokens are given back, unless `onError` is `"settle"`, and the call rejects with the error of
   * `work` whatever the store does. The estimate stays charged after a `settle` that failed with
   * `StoreError`, because the store may have carried it out.
   *
   * ```js
   * const answer = await limiter.reserving('model', { cost: 4000, timeoutMs: 10_000 }, async (charge) => {
   *   const { text, used } = { text: 'Hello', used: 1500 }; // call the model here
   *   await charge.settle(used);
   *   return text;
   * });
   * ```
   */
  reserving<T, const Given extends LimitsInput = LimitsInput>(
    key: Keys, options: ReservingWorkOptions<Given>, work: (charge: Charge) => T | PromiseLike<T>,
  ): Promise<T>;
  /** The callers of `acquire` that wait for the tokens of `key`, in this process. */
  waiting(key: Keys): Waiting;
  /**
   * Corrects a charge once its true size is known: `charged` tokens were taken, and `actual` tokens
   * were used (whole numbers, 0 to 2^53). The difference is given back, or taken without asking. It
   * may exceed the burst: the bucket then owes tokens, and time pays them. Resolves to the state of
   * the buckets afterwards.
   */
  settle(key: Keys, charged: Tokens, actual: Tokens): Promise<Decision>;
  /**
   * Gives tokens back (a whole number, 0 to 2^53). No bucket becomes more than full. Resolves to the
   * state of the buckets afterwards.
   */
  credit(key: Keys, tokens: Tokens): Promise<Decision>;
  /**
   * Pauses the key for `waitMs` milliseconds, as a server demands that answers with `Retry-After`. A
   * smooth limit has exactly one token at the end of the pause, and the rest arrive at the normal
   * rate. Of two holds the later end counts; no hold is longer than 104 days. Slots of `reserve` that
   * are already reserved keep their time; callers that wait in `acquire` wait for the end of the
   * pause: those of this process from now on, those of others within 100 ms and a round trip.
   * Resolves to the state of the buckets afterwards.
   */
  hold(key: Keys, waitMs: number): Promise<Decision>;
  /**
   * Fills the buckets: their debts and holds are forgotten. Resolves to the state of the buckets
   * afterwards.
   */
  reset(key: Keys): Promise<Decision>;
  /**
   * Asks the store once whether it serves this limiter, for readiness probes: resolves within
   * `storeTimeoutMs`, or rejects with `StoreError`. `onStoreError` has no part in it. Redis runs a
   * script that reads and writes nothing, so a server that refuses the limiter's own calls does not
   * pass. Each call is a round trip: a probe that anyone can call should keep the answer for a moment.
   */
  ping(): Promise<void>;
  /**
   * Closes the limiter: later calls, and those that wait in `acquire`, fail with `StoreError`. Closing
   * twice does no harm. Memory of its buckets goes to the other limiters of this runtime. It does not go
   * back to the system, because the memory of a WebAssembly module never shrinks.
   */
  close(): void;
  /** `close`, for `using`. Only where the runtime has the symbol. */
  [Symbol.dispose](): void;
}

export const Limiter: { readonly prototype: Limiter; [Symbol.hasInstance](value: unknown): boolean };

/** A limiter whose buckets are in memory, which can answer without a promise. */
export interface MemoryLimiter extends Limiter {
  withLimits<const Given extends LimitsInput = LimitsInput>(limits: ReadLimits<Given>): MemoryLimiter;
  /**
   * Spends `cost` tokens (default 1) of `key` if every limit allows.
   *
   * @throws {InvalidArgument} for a key or cost outside its bounds
   * @throws {CostTooLarge} for a cost above the burst
   * @throws {StoreError} once the limiter is closed
   */
  checkSync<const Given extends LimitsInput = LimitsInput>(key: Keys, cost?: Tokens | CheckOptions<Given>): Decision;
  /** `checkMany` without a promise. All checks are decided at the same time. */
  checkManySync(checks: readonly CheckInput[]): Decision[];
  /** `peek` without a promise, of `cost` tokens (default 1). */
  peekSync<const Given extends LimitsInput = LimitsInput>(key: Keys, cost?: Tokens | CheckOptions<Given>): Decision;
  /** `reserve` without a promise. */
  reserveSync<const Given extends LimitsInput = LimitsInput>(key: Keys, options?: ReserveOptions<Given>): MemoryReservation;
  reserve<const Given extends LimitsInput = LimitsInput>(key: Keys, options?: ReserveOptions<Given>): Promise<MemoryReservation>;
  /** `settle` without a promise. */
  settleSync(key: Keys, charged: Tokens, actual: Tokens): Decision;
  /** `credit` without a promise. */
  creditSync(key: Keys, tokens: Tokens): Decision;
  /** `hold` without a promise. */
  holdSync(key: Keys, waitMs: number): Decision;
  /** `reset` without a promise. */
  resetSync(key: Keys): Decision;
}

/** A source of the time. */
export interface Clock {
  /** Nanoseconds since the clock's zero, from 0 to 2^64 - 1. */
  now(): bigint;
}

/** A clock that stands still until it is told to move, for tests. */
export class FakeClock implements Clock {
  /** @param now nanoseconds; default `0n` */
  constructor(now?: bigint);
  now(): bigint;
  /** Sets the time to `now` nanoseconds, which may be in the past. */
  set(now: bigint): void;
  /** Moves forward by `byMs` milliseconds, which may have a fraction. */
  advance(byMs: number): void;
}

/**
 * A Redis client that the program has made: of ioredis, node-redis, Valkey GLIDE or Upstash. Tidegate
 * sends its scripts over it, and does nothing else with it. The calls of one turn of the event loop
 * are sent in one batch.
 */
export type RedisClient = IoredisClient | NodeRedisClient | GlideClient | UpstashClient;

/** The methods that Tidegate needs of a client like that of ioredis, or its Cluster. */
export interface IoredisClient {
  callBuffer(command: string, ...args: any[]): Promise<unknown>;
}

/** The methods that Tidegate needs of a client like that of node-redis, or its cluster. */
export interface NodeRedisClient {
  sendCommand(...args: any[]): Promise<unknown>;
}

/** The methods that Tidegate needs of a client like that of Valkey GLIDE, or its cluster client. */
export interface GlideClient {
  customCommand(args: any[], options?: any): Promise<unknown>;
}

/** The methods that Tidegate needs of a client like that of Upstash. Keys must then be text. */
export interface UpstashClient {
  evalsha(sha1: string, keys: string[], args: any[]): Promise<unknown>;
  eval(script: string, keys: string[], args: any[]): Promise<unknown>;
}

/** Options that only buckets in Redis have. */
export interface RedisOptions {
  /**
   * The answer while Redis fails: `"raise"` (the default) rejects with `StoreError`; `"allow"` and
   * `"deny"` allow or refuse everything; `"local"` decides in this process, with its share of each
   * limit. Such answers have the source `"fallback"`.
   */
  readonly onStoreError?: OnStoreError;
  /**
   * The number of processes that use the bucket, each of which gets an equal share of the limits
   * while Redis fails. Required for `onStoreError: "local"`, and only allowed there. A whole number,
   * 1 to 1,000,000.
   */
  readonly peers?: number;
  /**
   * The longest time for which a key that Redis has refused is refused again without a round trip;
   * it ends earlier when the key's `retryAfterMs` is over. Whole milliseconds, 0 (always ask) to
   * 60000, default 100. Tokens that this process gives back show at once; tokens that other
   * processes give back show after at most this time.
   */
  readonly denyCacheMs?: number;
  /**
   * Leases slices of hot keys: tokens of a key that is checked often are debited in Redis ahead of
   * time, spent in this process without a round trip, and renewed in the background. Applies to
   * `check`, whose source is then `"lease"`.
   */
  readonly lease?: LeaseOptions;
  /**
   * Whether each script call over the client has a single key, for a proxy that spreads keys over several
   * servers, such as Envoy's `redis_proxy`. Holds for all limiters over that client once one says so.
   * Default: false. A URL says it itself, with `?per_key_calls=true`.
   */
  readonly perKeyCalls?: boolean;
}

/** The terms on which buckets are leased. */
export interface LeaseOptions {
  /**
   * The lifetime of a slice: whole milliseconds, 100 to 60000. The slice of a process that crashes
   * stays unused for this time.
   */
  readonly ttlMs: number;
  /** The largest share of the rate that one process takes: 0.001 to 1, default 1. */
  readonly maxShare?: number;
}

export type OnFull = 'evict_idlest' | 'deny';

export type OnStoreError = 'raise' | 'allow' | 'deny' | 'local';

/** Options for buckets in Redis, reached over a client that the program has made. */
export interface ClientOptions<Given extends LimitsInput = LimitsInput> extends RedisOptions {
  /** One to four limits. A call is allowed if all of them allow it; otherwise nothing is charged. */
  readonly limits: ReadLimits<Given>;
  /** The client. */
  readonly store: RedisClient;
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
  /** Without effect in Redis, which has a bound of its own; accepted so that options fit any store. */
  readonly maxKeys?: number;
  /** Without effect in Redis; accepted so that options fit any store. */
  readonly onFull?: OnFull;
}

/**
 * Options for buckets in this runtime's memory. Those for failures, leases, timeouts and caches have no effect,
 * so that the same options fit a Redis; their values are checked.
 */
export interface LimiterOptions<Given extends LimitsInput = LimitsInput> extends RedisOptions {
  /** One to four limits. A call is allowed if all of them allow it; otherwise nothing is charged. */
  readonly limits: ReadLimits<Given>;
  /** The store in memory, which is the default. */
  readonly store?: 'memory://';
  /** Without effect in memory; accepted so that options fit any store. */
  readonly prefix?: string;
  /** Without effect in memory; accepted so that options fit any store. */
  readonly storeTimeoutMs?: number;
  /** The source of the time. Default: a monotonic clock, aligned to the Unix epoch at the first check. */
  readonly clock?: Clock;
  /**
   * The most callers of a key that wait in `acquire` at a time: a whole number, 1 to 1,000,000,
   * default 10,000. Another one rejects with `RateLimited`, whose `retryAfterMs` says when a slot
   * would come.
   */
  readonly maxWaiting?: number;
  /**
   * The number of keys that owe something for which each limit has room: a whole number, 1 to 100,000,000, default
   * 1,000,000. Memory is taken as keys come, at most 46 bytes a key beyond the first few thousand, and 23 bytes a key
   * when all room is in use. A full bucket takes no room.
   */
  readonly maxKeys?: number;
  /**
   * What happens to a new key when there is no room for it: `"evict_idlest"` (the default) drops the bucket that would
   * be full soonest, whose key may then spend again what it had owed; `"deny"` refuses the new key until another
   * bucket is full again. `Limiter.pressure` counts both.
   */
  readonly onFull?: OnFull;
}

/**
 * Builds a limiter whose buckets are in this runtime's memory.
 *
 * @throws {InvalidLimit} for a limit that cannot be kept, and unless there are one to four
 * @throws {InvalidArgument} for any other mistake, unknown options included
 */
export function createLimiter<const Given extends LimitsInput = LimitsInput>(options: LimiterOptions<Given>): MemoryLimiter;
/** Builds a limiter whose buckets are in Redis, reached over a client that the program has made. */
export function createLimiter<const Given extends LimitsInput = LimitsInput>(options: ClientOptions<Given>): Limiter;

/** How often a failed call is made again, and how long it waits before. */
export interface RetryOptions {
  /** The attempts of a call, the first included: a whole number, 1 to 2^32 - 1, default 4. 1 repeats nothing. */
  readonly attempts?: number;
  /**
   * The bound of the random wait before the first retry, in milliseconds, default 500. It doubles with each further one. The
   * wait that the vendor asks for comes before it.
   */
  readonly baseMs?: number;
  /** The most that the bound grows to, in milliseconds, default 20,000. */
  readonly longestMs?: number;
  /** How many of a hundred calls may be repeated: 0 to 100, default 10. Retries that the vendor asked for, by refusing with a wait, do not count. */
  readonly percent?: number;
  /** The retries that are lent at first, default 10. */
  readonly reserve?: number;
}

/** What gives the places of calls at a time. */
export interface Places {
  /** Resolves to a place, or to nothing if none is free in time. */
  acquire(options: { timeoutMs: number; signal: AbortSignalLike | undefined }): Promise<{ release(): unknown } | undefined>;
}

/** Permits of several keys, as `createConcurrency` of `tidegate` makes them for a fleet. Calls take those of the key `''`. */
export interface PermitsOfKeys {
  acquire(key: string, options: { timeoutMs: number; signal: any }): Promise<{ release(): unknown }>;
  tryAcquire(key: string): Promise<{ release(): unknown } | undefined>;
}

/** What the key, the cost and the host of a call are read from: a URL, a `Request`, or an object with a `url`. */
export type OutboundRequest = string | URL | { readonly url: string };

/** What one call says of itself. */
export interface OutboundCallOptions {
  /** The bucket of the call; the host of `request` unless this or the option `key` is given. */
  readonly key?: Keys;
  readonly request?: OutboundRequest;
  /** The tokens of the call, in place of the option `cost`. */
  readonly cost?: Tokens;
  /** The longest time for the call in milliseconds, waits and retries included. */
  readonly timeoutMs?: number;
  /** Ends the call when it aborts. */
  readonly signal?: AbortSignalLike | null;
  /** Whether `work` can send the same request again; true unless given. A body that is a stream can't. */
  readonly repeatable?: boolean;
  /**
   * Whether the call may take effect twice. Unless given, the method and the `Idempotency-Key` of `request` decide, and it may if
   * that tells no method. Otherwise it is not repeated after a fault or a broken connection, but it is after a refusal.
   */
  readonly idempotent?: boolean;
}

/** One attempt of a call, frozen. */
export interface OutboundAttempt {
  /** 1 for the first, 2 for its first retry. */
  readonly number: number;
  /** The milliseconds that are left for it; Infinity for any time. */
  readonly timeoutMs: number;
  /** Aborts when that time is over, or when the caller's signal aborts. */
  readonly signal: AbortSignal;
  /** The buckets after its tokens were taken. */
  readonly decision: Decision;
  /** Corrects the charge to the tokens that the call has used, as `Limiter.settle` does. */
  settle(actual: Tokens): Promise<Decision>;
}

/** Options for calls to vendors. Those of a limiter may stand beside them. */
export interface OutboundOptions {
  /** A limiter that there is, in place of limits and a store. */
  readonly limiter?: Limiter;
  /** The bucket of a call, or a function of the request. It is the request's host unless given. A hold is kept under this key. */
  readonly key?: Keys | ((request: any) => Keys);
  /** The tokens of a call, or a function of the request; 1 unless given. */
  readonly cost?: Tokens | ((request: any) => Tokens);
  /**
   * What a call has used, from the last MiB of its body, for `fetch` and the adapter of axios. The charge is then corrected when the
   * body has ended; undefined leaves it as it is.
   */
  readonly usage?: (text: string) => Tokens | undefined;
  /** How responses are read: a name or rows for `readSignal`, or `"auto"` (the default), which knows the hosts of the built-in vendors. */
  readonly profile?: string | readonly ProfileRow[];
  readonly retry?: RetryOptions;
  /** The longest time for a call in milliseconds, from its wait for a slot to the headers of its last response; any time unless given. */
  readonly timeoutMs?: number;
  /** The longest time for one attempt in milliseconds, up to the headers of its response; any time unless given. */
  readonly attemptTimeoutMs?: number;
  /**
   * The calls at a time: a number for this process, a `Concurrency` of `tidegate` for a fleet, another object that gives places, or
   * a function of the key that returns one. The place is taken before the tokens, and given back when the response's body has ended, so read or cancel it.
   */
  readonly concurrency?: number | Places | PermitsOfKeys | ((key: Keys) => Places | PermitsOfKeys);
  /** The longest hold in milliseconds; 15 minutes unless given. */
  readonly maxHoldMs?: number;
  /**
   * Other options by host, `*.example.com` for the hosts of a domain. What an entry leaves out is as given beside it, but for the
   * limits; each has buckets of its own.
   */
  readonly hosts?: Readonly<Record<string, Outbound | OutboundHostOptions>>;
  /** The `fetch` that sends requests; the runtime's own unless given. */
  readonly fetch?: (input: any, init?: any) => Promise<any>;
}

/** Options of one host. */
export interface OutboundHostOptions extends OutboundOptions, RedisOptions {
  readonly limits?: LimitsInput;
  readonly prefix?: string;
}

/**
 * Makes calls to vendors within their limits: each waits for its slot, is made, and is read for what the vendor says. A hold reaches
 * all who share the store, and what failed is repeated within a budget.
 */
export interface Outbound {
  /** The limiter whose tokens the calls take, except those to `hosts`. */
  readonly limiter: Limiter;
  /** The Outbound of a host: that of the table `hosts`, or this one. */
  at(host: string): Outbound;
  /**
   * The standard `fetch` within the limits; it may be passed on as it is. A body that is a stream, and the body of a `Request`, is sent
   * once. Another method than GET, HEAD, OPTIONS, TRACE, PUT and DELETE is not repeated after a fault, unless it has an `Idempotency-Key`.
   * Each redirect is a call with a slot of its own, but in browsers, which follow redirects themselves.
   *
   * @throws {RateLimited} when no slot comes within the time
   * @throws {StoreError} by the limiter's policy
   * @throws what `fetch` throws, when the last attempt had no response
   */
  fetch(input: any, init?: any): Promise<any>;
  /**
   * Makes a call with any client. `work` sends the request, and resolves to a response with `status` or `statusCode` and `headers`; its
   * `data` is read for what it says of limits. An error that carries such a `response` counts as it.
   *
   * ```js
   * const outbound = createOutbound({ limits: '10 in any 1s' });
   * const response = await outbound.send(async () => ({ status: 200, headers: {} }), { key: 'vendor' });
   * ```
   *
   * @throws {RateLimited} when no slot comes within the time
   * @throws {InvalidArgument} for a key, cost or response that is none
   * @throws what `work` throws, when the last attempt had no response
   */
  send<Response>(work: (attempt: OutboundAttempt) => Promise<Response> | Response, options?: OutboundCallOptions): Promise<Response>;
  /** An adapter for `axios.create({ adapter })` over `axios.getAdapter(axios.defaults.adapter)`. */
  axiosAdapter(adapter: (config: any) => Promise<any>): (config: any) => Promise<any>;
  /** Closes the limiters that it has built: later calls throw StoreError. */
  close(): void;
  [Symbol.dispose](): void;
}

export const Outbound: { readonly prototype: Outbound; [Symbol.hasInstance](value: unknown): boolean };

/**
 * Makes calls to vendors within their limits. `createOutbound({ limits: '10 in any 1s' })` suffices to begin.
 *
 * ```js
 * const outbound = createOutbound({ limits: '10 in any 1s', timeoutMs: 30_000, key: 'vendor' });
 * const response = await outbound.fetch('data:,hello');
 * console.log(await response.text()); // hello
 * ```
 *
 * @throws {InvalidLimit} for a limit that cannot be kept
 * @throws {InvalidArgument} for any other mistake
 */
export function createOutbound<const Given extends LimitsInput = LimitsInput>(
  options: OutboundOptions & (Partial<LimiterOptions<Given>> | Partial<ClientOptions<Given>>),
): Outbound;

/**
 * The base of Tidegate's errors. A refusal is not an error.
 *
 * An error, `FakeClock`, `Limit` or `Limits` of `tidegate` is also an `instanceof` the class of this name in `tidegate-wasm`, and
 * the other way round, and so with two copies of one package.
 */
export class TidegateError extends Error {
  /** The stable code of the error's class, the same in every language. */
  readonly code: string;
  /**
   * The error for `JSON.stringify`, and for `structuredClone`, which keeps only the message of an error: `name`, `code`,
   * `message`, the `reason` of `InvalidLimit`, the `decision` and `key` of `RateLimited`. Stack and cause are left out.
   */
  toJSON(): { name: string; code: string; message: string; reason?: string; decision?: object; key?: string | number[] };
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
/** No slot came soon enough for `acquire`, or too many wait already. It charged nothing. */
export class RateLimited extends TidegateError {
  readonly code: 'rate_limited';
  /**
   * The refusal. Its `retryAfterMs` is the shortest wait after which the same call, with the same
   * `timeoutMs`, would get a slot if there were no other calls.
   */
  readonly decision: Decision;
  /** The key of the call. If there was one key per limit, the key of the limit that bound the decision. */
  readonly key: Key;
}
/** No concurrency permit came free within the timeout. */
export class NoPermit extends TidegateError {
  readonly code: 'no_permit';
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

/**
 * Limits as they were given. Where a text is written in the program and is not in the grammar, it is also required to be a
 * `NotALimit`, which no text is. The types know the grammar and not the bounds, such as the highest rate.
 */
export type ReadLimits<Given> = Given & (Given extends readonly unknown[] ? { readonly [Index in keyof Given]: ReadLimit<Given[Index]> } : ReadLimit<Given>);

type ReadLimit<Given> = Given extends string ? ReadText<Given> : Given;

/** A text of which the compiler knows a part only, such as `${number}/s`, is read when the program runs. */
type ReadText<Text extends string> = Record<never, true> extends Record<Text, true>
  ? Text
  : IsLimit<Text> extends true
    ? Text
    : NotALimit<'write it like 10/s, 100/min burst 20, 5000/h window or 10 in any 1s'>;

interface NotALimit<Instead> {
  readonly instead: Instead;
}

// The grammar of core/src/grammar.rs. A type that reads a part of a text gives the text after it, or false if the part is
// not there. Given false, it gives false.

type IsLimit<Text extends string> = Lowercase<Trim<Text>> extends 'unlimited' | 'none'
  ? true
  : IsRate<AfterNoun<AfterCount<Trim<Text>>>>;

type IsRate<Text> = SkipSpaces<Text> extends `/${infer Period}`
  ? AreOptions<AfterDuration<Period>, 'burst' | 'stepped' | 'window'>
  : Word<Text> extends ['per', infer Period]
    ? AreOptions<AfterDuration<Period>, 'burst' | 'stepped' | 'window'>
    : Word<Text> extends ['in', infer Any]
      ? Word<Any> extends ['any', infer Period] ? AreOptions<AfterDuration<Period>, 'burst' | 'jitter'> : false
      : false;

/** Whether the text is options, each at most once, of those that are still open. */
type AreOptions<Text, Open> = SkipSpaces<Text> extends ''
  ? true
  : Word<Text> extends [infer Option, infer Rest]
    ? Option extends Open
      ? Option extends 'burst' ? AreOptions<AfterCount<Rest>, Exclude<Open, 'burst' | 'window'>>
      : Option extends 'stepped' ? AreOptions<Rest, Exclude<Open, 'stepped' | 'window'>>
      : Option extends 'jitter' ? AreOptions<AfterUnit<AfterCount<Rest, 'zero'>>, 'burst' & Open>
      : AreOptions<Rest, never>
      : false
    : false;

type AfterNoun<Text> = Word<Text> extends [Noun | `${Noun}s`, infer Rest] ? Rest : Text;
type Noun = 'request' | 'req' | 'call' | 'hit' | 'token';

/** The text after a unit, which may have a count before it. */
type AfterDuration<Text> = Word<Text> extends false ? AfterUnit<AfterCount<Text>> : AfterUnit<Text>;

/** A lone `M` is no unit, because it may be a minute or a month. */
type AfterUnit<Text> = Letters<SkipSpaces<Text>> extends ['M', unknown]
  ? false
  : Word<Text> extends [ShortUnit | LongUnit | `${LongUnit}s`, infer Rest] ? Rest : false;
type ShortUnit = 'ns' | 'us' | 'ms' | 's' | 'm' | 'h' | 'd' | 'w';
type LongUnit = 'nanosecond' | 'microsecond' | 'millisecond' | 'sec' | 'second' | 'min' | 'minute' | 'hr' | 'hour' | 'day' | 'week';

/** The text after a whole number that is `Least` or more: at least 1, or with `'zero'` at least 0. */
type AfterCount<Text, Least = 'one'> = Digits<SkipSpaces<Text>> extends [infer Value, infer Rest]
  ? Value extends 'zero' ? Least extends 'zero' ? Rest : false : Rest
  : false;

/** Whether a number that begins the text is zero, and the text after it. There may be `_` between its digits. */
type Digits<Text, Value = 'none'> = Text extends `${infer First}${infer Rest}`
  ? First extends '0' ? Digits<Rest, Value extends 'one' ? 'one' : 'zero'>
  : First extends Digit ? Digits<Rest, 'one'>
  : First extends '_' ? Rest extends `${'_' | Digit}${string}` ? Value extends 'none' ? false : Digits<Rest, Value> : false
  : NumberBefore<Text, Value>
  : NumberBefore<Text, Value>;
type NumberBefore<Text, Value> = Text extends string ? Value extends 'none' ? false : [Value, Text] : false;
type Digit = '0' | '1' | '2' | '3' | '4' | '5' | '6' | '7' | '8' | '9';

/** The next word in small letters and the text after it, or false if no letter comes next. */
type Word<Text> = Letters<SkipSpaces<Text>> extends [infer Found extends string, infer Rest]
  ? Found extends '' ? false : [Lowercase<Found>, Rest]
  : false;

type Letters<Text, Found extends string = ''> = Text extends `${infer First}${infer Rest}`
  ? First extends Letter ? Letters<Rest, `${Found}${First}`> : [Found, Text]
  : Text extends '' ? [Found, ''] : false;
type SmallLetter =
  | 'a' | 'b' | 'c' | 'd' | 'e' | 'f' | 'g' | 'h' | 'i' | 'j' | 'k' | 'l' | 'm'
  | 'n' | 'o' | 'p' | 'q' | 'r' | 's' | 't' | 'u' | 'v' | 'w' | 'x' | 'y' | 'z';
type Letter = SmallLetter | Uppercase<SmallLetter>;

type SkipSpaces<Text> = Text extends ` ${infer Rest}` ? SkipSpaces<Rest> : Text;
type Trim<Text extends string> = Text extends `${WhiteSpace}${infer Rest}`
  ? Trim<Rest>
  : Text extends `${infer Rest}${WhiteSpace}` ? Trim<Rest> : Text;
type WhiteSpace = ' ' | '\t' | '\n' | '\f' | '\r';

// biome-ignore lint/complexity/noUselessEmptyExport: without it a file of declarations exports all of them
export {};
