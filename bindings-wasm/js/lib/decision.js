/** The answer to one check, and how it is read from the numbers of an engine. */

// The index of each is the number that stands for it: the order of `Source::ALL` in core.
const SOURCES = ['memory', 'shm', 'redis', 'lease', 'fallback'];

/** The answer to one check, as a value: a refusal is not an error. */
export class Decision {
  constructor(allowed, bound, remaining, retryAfterMs, resetAfterMs, source) {
    this.allowed = allowed;
    this.limit = bound.burst;
    this.remaining = remaining;
    this.retryAfterMs = retryAfterMs;
    this.resetAfterMs = resetAfterMs;
    this.limitName = bound.name;
    this.source = source;
  }
}

/**
 * Reads the decision that an engine gives as a status and, from the index `at` of `numbers` on,
 * `limit`, `remaining`, `retryAfterMs` and `resetAfterMs`. The status is eight times the number of
 * the source, plus twice the index of the limit that bound the answer, plus one if allowed.
 */
export function readDecision(status, numbers, at, limits) {
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
  );
}

/** The index of the limit that bound the answer with this status. */
export function tierOf(status) {
  return (status >>> 1) & 3;
}

/** The source of the answer with this status. */
export function sourceOf(status) {
  return SOURCES[status >>> 3];
}
