/** How a limiter's store has done. */
export class StoreHealth {
  constructor(state, failures, fallbacks) {
    this.state = state;
    this.failures = failures;
    this.fallbacks = fallbacks;
  }
}
