/** The answer to `reserve`, with the methods that cancel or settle it. */

import { checkTokens, invalid } from './arguments.js';
import { StoreError } from './errors.js';

/** Tokens that are charged ahead of time, or a refusal because no slot is near enough. */
export class Reservation {
  #buckets;
  #limits;
  #slot;

  /** Use `Limiter.reserve`. */
  constructor(buckets, limits, slot) {
    const { decision, delayMs, cost } = slot;
    /** Whether the tokens were charged. A refused call has changed nothing. */
    this.allowed = decision.allowed;
    /** The time to wait before spending the tokens; Infinity when refused. */
    this.delayMs = decision.allowed ? delayMs : Infinity;
    /** The state of the buckets after the charge, or the refusal. */
    this.decision = decision;
    this.cost = cost;
    this.#buckets = buckets;
    this.#limits = limits;
    this.#slot = decision.allowed ? slot : undefined;
  }

  /** Gives the tokens back, and says whether all came back: false after `settle` or another `cancel`. If it fails it can be called again. */
  async cancel() {
    const slot = this.#slot;
    return this.#heldOnFailure(slot, this.#cancel(this.#buckets));
  }

  /** `cancel` without a promise, for buckets in memory. */
  cancelSync() {
    return this.#cancel(this.#buckets.synchronous);
  }

  /** Corrects the charge to `actual` tokens, which may exceed the burst. Fails after `settle` or `cancel`. After a `StoreError` it can be called again. */
  async settle(actual) {
    const slot = this.#slot;
    return this.#heldOnFailure(slot, this.#settle(this.#buckets, actual));
  }

  /** `settle` without a promise, for buckets in memory. */
  settleSync(actual) {
    return this.#settle(this.#buckets.synchronous, actual);
  }

  async #heldOnFailure(slot, ending) {
    try {
      return await ending;
    } catch (error) {
      if (error instanceof StoreError) this.#slot = slot;
      throw error;
    }
  }

  #cancel(buckets) {
    const slot = this.#slot;
    this.#slot = undefined;
    return slot === undefined ? false : buckets.cancel(slot);
  }

  #settle(buckets, actual) {
    const tokens = checkTokens('actual', actual, this.#limits);
    const slot = this.#slot;
    if (slot === undefined) {
      throw invalid('reservation', 'it was refused, cancelled or settled, so there is no charge to settle');
    }
    this.#slot = undefined;
    return buckets.settleSlot(slot, tokens);
  }
}
