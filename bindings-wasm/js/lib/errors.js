/** The classes of errors, and the error that an engine reports. */

import { brand } from './brand.js';

/** The base of Tidegate's errors. A refusal is not an error: it is a Decision. */
export class TidegateError extends Error {
  constructor(message, options) {
    super(printable(message), options);
  }

  /** The stable code of the error's class, the same in every language. */
  code = 'error';

  /** The error as JSON: what a client needs to know, without stack and cause. */
  toJSON() {
    const { name, code, message } = this;
    return { name, code, message };
  }
}

/** A limit's text does not follow the grammar, or the limit breaks a bound. */
export class InvalidLimit extends TidegateError {
  code = 'invalid_limit';

  constructor(message, reason) {
    super(message);
    /** The stable name of the bound that was broken. */
    this.reason = reason;
  }

  toJSON() {
    return { ...super.toJSON(), reason: this.reason };
  }
}

/** A key, cost or option is not usable; the message names it and its bound. */
export class InvalidArgument extends TidegateError {
  code = 'invalid_argument';
}

/** The cost is above the burst, so the call can never be allowed. */
export class CostTooLarge extends TidegateError {
  code = 'cost_too_large';
}

/** No slot came soon enough for `acquire`, which charged nothing. */
export class RateLimited extends TidegateError {
  code = 'rate_limited';

  constructor(message, decision, key) {
    super(message);
    /** The refusal, a Decision. */
    this.decision = decision;
    /** The key of the call. If there was one per limit, the key of the limit that bound the decision. */
    this.key = key;
  }

  toJSON() {
    const key = this.key instanceof Uint8Array ? Array.from(this.key) : this.key;
    return { ...super.toJSON(), decision: { ...this.decision }, key };
  }
}

/** No concurrency permit came free within the timeout. */
export class NoPermit extends TidegateError {
  code = 'no_permit';
}

/** The store could not be reached or refused the operation. */
export class StoreError extends TidegateError {
  code = 'store_error';
}

/** The store did not answer in time; the cost may or may not have been charged. */
export class StoreTimeout extends StoreError {
  code = 'store_timeout';
}

/** The bucket's key holds a value that Tidegate did not write. */
export class CorruptBucket extends StoreError {
  code = 'corrupt_bucket';
}

// Line breaks and other control characters come from outside, in keys, names and the words of servers. They are
// escaped, so that a message is one line of a log and moves no cursor.
function printable(message) {
  if (typeof message !== 'string') return message;
  return message.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

const classes = {
  invalid_limit: InvalidLimit,
  invalid_argument: InvalidArgument,
  cost_too_large: CostTooLarge,
  rate_limited: RateLimited,
  no_permit: NoPermit,
  store_error: StoreError,
  store_timeout: StoreTimeout,
  corrupt_bucket: CorruptBucket,
};

// The names are written out, because a bundler may shorten those of the classes.
const names = { TidegateError, InvalidLimit, InvalidArgument, CostTooLarge, RateLimited, NoPermit, StoreError, StoreTimeout, CorruptBucket };

for (const [name, errorClass] of Object.entries(names)) {
  Object.defineProperty(errorClass.prototype, 'name', { value: name, configurable: true, writable: true });
  brand(errorClass, name);
}

/** The error that an engine reports as a code, a reason and a message. */
export function errorFrom({ code, reason, message }) {
  const errorClass = classes[code] ?? TidegateError;
  return new errorClass(message, reason);
}
