/** The answer to `reserve`, and what can be done with it. */

import { checkCount, invalid } from './arguments.js';

/** The answer to `reserve`: tokens charged ahead of time, or that none are near enough. */
export class Reservation {
  #buckets;
  #slot;

  /** Use `Limiter.reserve`. */
  constructor(buckets, slot) {
    const { decision, delayMs, cost } = slot;
    /** Whether the tokens were charged. A refused call has changed nothing. */
    this.allowed = decision.allowed;
    /** How long to wait before spending them; Infinity when refused. */
    this.delayMs = decision.allowed ? delayMs : Infinity;
    /** The buckets after the charge; when refused, why. */
    this.decision = decision;
    this.cost = cost;
    this.#buckets = buckets;
    this.#slot = decision.allowed ? slot : undefined;
  }

  /** Gives the tokens back; says whether all came back. Afterwards, and after `settle`: false. */
  async cancel() {
    return this.#cancel(this.#buckets);
  }

  /** `cancel` without a promise, for buckets in memory. */
  cancelSync() {
    return this.#cancel(this.#buckets.synchronous);
  }

  /** Corrects the charge to the `actual` tokens, above the burst too. Once, and not after `cancel`. */
  async settle(actual) {
    return this.#settle(this.#buckets, actual);
  }

  /** `settle` without a promise, for buckets in memory. */
  settleSync(actual) {
    return this.#settle(this.#buckets.synchronous, actual);
  }

  #cancel(buckets) {
    const slot = this.#slot;
    this.#slot = undefined;
    return slot === undefined ? false : buckets.cancel(slot);
  }

  #settle(buckets, actual) {
    checkCount('actual', actual);
    const slot = this.#slot;
    if (slot === undefined) {
      throw invalid('reservation', 'it was refused, cancelled or settled, so there is no charge to settle');
    }
    this.#slot = undefined;
    return buckets.settleSlot(slot, actual);
  }
}
