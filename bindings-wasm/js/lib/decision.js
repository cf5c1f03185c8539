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
