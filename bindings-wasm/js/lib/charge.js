/** What `reserving` gives: a charge at an estimate, with the methods that settle or cancel it. */

import { checkTokens, invalid } from './arguments.js';
import { CORRECTIONS } from './engine.js';
import { StoreError } from './errors.js';

// These functions reach into a charge, and are not for users.
let end;
let isInDoubt;

/** Tokens that are charged at an estimate until their true number is known. */
export class Charge {
  #buckets;
  #limits;
  #key;
  #hasEnded = false;
  // Whether the store may have carried out a correction although it failed. Then the tokens are not
  // given back without being asked for, because they must not come back twice.
  #inDoubt = false;

  /** Use `Limiter.reserving`. */
  constructor(buckets, limits, { key, cost, decision }) {
    /** The decision of `acquire`. */
    this.decision = decision;
    /** The tokens that were charged. */
    this.cost = cost;
    this.#buckets = buckets;
    this.#limits = limits;
    this.#key = key;
  }

  static {
    end = (charge) => {
      charge.#hasEnded = true;
    };
    isInDoubt = (charge) => charge.#inDoubt;
  }

  /** Corrects the charge to `actual` tokens, once. It can be called again if the store fails. */
  async settle(actual) {
    const tokens = checkTokens('actual', actual, this.#limits);
    if (this.#hasEnded) {
      throw invalid('charge', 'it has been cancelled, settled or disposed of before, so there is nothing to settle');
    }
    return this.#correct(tokens);
  }

  /** Gives all tokens back, and says so: false after `settle`, another `cancel`, or the end. */
  async cancel() {
    if (this.#hasEnded) return false;
    await this.#correct(0);
    return true;
  }

  async #correct(actual) {
    this.#hasEnded = true;
    try {
      return await this.#buckets.correct(this.#key, CORRECTIONS.settle, this.cost, actual);
    } catch (error) {
      this.#hasEnded = false;
      this.#inDoubt ||= error instanceof StoreError;
      throw error;
    }
  }
}

// Older runtimes do not have the symbol.
if (typeof Symbol.asyncDispose === 'symbol') {
  const value = async function dispose() {
    end(this);
  };
  Object.defineProperty(Charge.prototype, Symbol.asyncDispose, { value, writable: true, configurable: true });
}

/** Calls `work` with the charge, ends the charge with it, and resolves to what `work` gives. */
export async function holdDuring(charge, onError, work) {
  try {
    return await work(charge);
  } catch (error) {
    // The error of `work` matters more than that of the store.
    if (onError === 'cancel' && !isInDoubt(charge)) await charge.cancel().catch(() => {});
    throw error;
  } finally {
    end(charge);
  }
}
