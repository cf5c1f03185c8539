/** The state of a limiter's store, and counts of its failures. */
export class StoreHealth {
  constructor(state, failures, fallbacks) {
    this.state = state;
    this.failures = failures;
    this.fallbacks = fallbacks;
  }
}
