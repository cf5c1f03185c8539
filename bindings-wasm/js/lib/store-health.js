/** The state of a limiter's store, and counts of its failures. */
export class StoreHealth {
  constructor(state, failures, fallbacks, lastError, sinceMs = 0) {
    this.state = state;
    this.failures = failures;
    this.fallbacks = fallbacks;
    this.lastError = lastError;
    this.sinceMs = sinceMs;
  }
}
