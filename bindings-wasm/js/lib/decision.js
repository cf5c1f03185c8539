/** The answer to one check, and how it is read from the numbers of an engine. */

// The index of each is the number that stands for it: the order of `Source::ALL` in core.
const SOURCES = ['memory', 'shm', 'redis', 'lease', 'fallback'];

// The numbers of what one limit says: its limit, remaining, retryAfterMs and resetAfterMs.
const OF_TIER = 4;

/** What one limit of a limiter says to a call, frozen. */
export class TierDecision {
  constructor(limit, remaining, retryAfterMs, resetAfterMs, limitName) {
    this.limit = limit;
    this.remaining = remaining;
    this.retryAfterMs = retryAfterMs;
    this.resetAfterMs = resetAfterMs;
    this.limitName = limitName;
    Object.freeze(this);
  }
}

/** What each limit says to a call, as numbers until it is read. */
class Said {
  constructor(limits, numbers) {
    this.limits = limits;
    this.numbers = numbers;
  }
}

/** The answer to one check, as a value: a refusal is not an error. */
export class Decision {
  // What each limit says; nothing if only that of the binding limit is known.
  #said;

  constructor(allowed, bound, remaining, retryAfterMs, resetAfterMs, source, said) {
    this.#said = said;
    this.allowed = allowed;
    this.limit = bound.burst;
    this.remaining = remaining;
    this.retryAfterMs = retryAfterMs;
    this.resetAfterMs = resetAfterMs;
    this.limitName = bound.name;
    this.source = source;
  }

  /** What each limit says, in the order of the limits; made when it is read. */
  get tiers() {
    const said = this.#said;
    if (said === undefined) {
      return Object.freeze([new TierDecision(this.limit, this.remaining, this.retryAfterMs, this.resetAfterMs, this.limitName)]);
    }
    const { limits, numbers } = said;
    const ofLimit = ({ name }, index) => new TierDecision(...numbers.slice(index * OF_TIER, (index + 1) * OF_TIER), name);
    return Object.freeze(limits.map(ofLimit));
  }

  /** The fields and the tiers as a plain object, for `JSON.stringify`. */
  toJSON() {
    return { ...this, tiers: this.tiers };
  }
}

/**
 * What each of several limits says, from the four numbers of each that begin at the index `at` of
 * `numbers`; nothing if the first is no number, because only the binding limit is known then.
 */
export function readTiers(numbers, at, limits) {
  if (Number.isNaN(numbers[at])) return undefined;
  const own = [];
  const end = at + limits.length * OF_TIER;
  for (let index = at; index < end; index++) own.push(numbers[index]);
  return new Said(limits, own);
}

/**
 * The same for the numbers of a decision of this process: they leave the burst of each limit out, those
 * of the limit at the index `tier`, which bound the answer, come first, after the status, and those of
 * the others from the index `at` on.
 */
export function readLocalTiers(numbers, at, limits, tier) {
  const own = [];
  let next = at;
  limits.forEach(({ burst }, index) => {
    own.push(burst);
    const from = index === tier ? 1 : next;
    own.push(numbers[from], numbers[from + 1], numbers[from + 2]);
    if (index !== tier) next += 3;
  });
  return new Said(limits, own);
}

/**
 * Reads the decision that an engine gives as a status and, from the index `at` of `numbers` on,
 * `limit`, `remaining`, `retryAfterMs` and `resetAfterMs`. The status is eight times the number of
 * the source, plus twice the index of the limit that bound the answer, plus one if allowed. If there
 * are several limits, these four numbers of each begin at the index `tiersAt`, unless it is undefined.
 */
export function readDecision(status, numbers, at, limits, tiersAt) {
  const bound = limits[tierOf(status)];
  const limit = numbers[at];
  return new Decision(
    (status & 1) === 1,
    // A fallback decides by a share of the limit, whose burst is smaller. An equal burst is taken
    // from the limit, where it is a small integer: here it would be allocated anew as a double.
    limit === bound.burst ? bound : { burst: limit, name: bound.name },
    numbers[at + 1],
    numbers[at + 2],
    numbers[at + 3],
    sourceOf(status),
    tiersAt === undefined || limits.length === 1 ? undefined : readTiers(numbers, tiersAt, limits),
  );
}

/** The index of the limit that bound the answer with this status. */
export function tierOf(status) {
  return (status >>> 1) & 3;
}

/** The source of the answer with this status. */
export function sourceOf(status) {
  return SOURCES[(status >>> 3) & 7];
}
