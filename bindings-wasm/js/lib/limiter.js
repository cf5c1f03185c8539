import { checkCost, checkFields } from './arguments.js';

const CHECK_OPTIONS = ['cost'];

/** Decides whether a key may spend tokens, over one to four limits that all must allow. */
export class Limiter {
  #buckets;

  /** Use `createLimiter`. */
  constructor(limits, buckets) {
    /** The limits, in the order they were given. */
    this.limits = Object.freeze(limits);
    this.#buckets = buckets;
  }

  /** Spends `cost` tokens of `key` if every limit allows; never waits for tokens. */
  async check(key, options) {
    if (options === undefined) return this.#buckets.check(key, 1);
    checkFields('options', options, CHECK_OPTIONS);
    const { cost = 1 } = options;
    return this.#buckets.check(key, checkCost(cost));
  }

  /** What `check` would find, without spending. */
  async peek(key) {
    return this.#buckets.check(key, 0);
  }

  /** `check` without a promise, for buckets in memory. */
  checkSync(key, cost = 1) {
    return this.#buckets.checkSync(key, checkCost(cost));
  }

  /** `peek` without a promise, for buckets in memory. */
  peekSync(key) {
    return this.#buckets.checkSync(key, 0);
  }

  /** Lets go of the buckets: later calls throw StoreError. May be called again. */
  close() {
    this.#buckets.close();
  }
}
