/** Counts of what a store with a bounded number of keys could not keep. */
export class Pressure {
  constructor(evicted, denied) {
    this.evicted = evicted;
    this.denied = denied;
  }
}
