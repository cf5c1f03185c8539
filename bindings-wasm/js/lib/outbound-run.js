/** One call to a vendor, as its machine in the engine says. */

import { offAbort, onAbort } from './abort.js';
import { invalid } from './arguments.js';
import { NANOS_PER_MILLI, monotonicMillis } from './clock.js';
import { Decision } from './decision.js';
import { requireMemory } from './engine.js';
import { NoPermit, RateLimited, StoreError } from './errors.js';
import { failureOf, partsOf, partsOfError } from './responses.js';
import { nanos, responseParts, signalOf } from './signal.js';
import { OutboundCall } from './tidegate_wasm.js';
import { throwIfAborted } from './waiters.js';

const NEVER = 2n ** 64n - 1n;
// The longest time of a runtime's timer.
const MAX_TIMER_MS = 2 ** 31 - 1;

/** One attempt of a call, which the function of `Outbound.send` is given. */
class Attempt {
  constructor(run, number, timeoutMs, signal) {
    /** 1 for the first, 2 for its first retry. */
    this.number = number;
    /** The milliseconds that are left for it; Infinity for any time. */
    this.timeoutMs = timeoutMs;
    /** Aborts when that time is over or the caller leaves. */
    this.signal = signal;
    /** The buckets after its tokens were taken. */
    this.decision = run.decision;
    Object.defineProperty(this, 'settle', { value: (actual) => run.settle(actual) });
    Object.freeze(this);
  }
}

/** The state of one call. */
export class OutboundRun {
  #call;
  #machine;
  #place;
  #timer;
  #refusal;
  #sends = 0;
  #isEnded = false;

  constructor(call) {
    this.#call = call;
    const { retry, timeoutMs, attemptTimeoutMs, places, repeatable, idempotent } = call;
    requireMemory();
    const deadline = timeoutMs === Infinity ? NEVER : atMost(this.#now() + nanos('timeoutMs', timeoutMs));
    this.#machine = new OutboundCall(
      retry.attempts, nanos('baseMs', retry.baseMs), nanos('longestMs', retry.longestMs), deadline,
      nanos('attemptTimeoutMs', attemptTimeoutMs), places !== undefined, repeatable, idempotent,
    );
  }

  /** The function that reads what the call has used, if there is one. */
  get usage() {
    return this.#call.usage;
  }

  /** The longest time for the call. */
  get timeoutMs() {
    return this.#call.timeoutMs;
  }

  /** Whether something is to be done when the body of the response has ended. */
  get waitsForBody() {
    return this.#call.usage !== undefined || this.#place !== undefined || this.#call.signal !== undefined;
  }

  /** Makes the call, again if need be, and resolves to the last response. `partsIn` reads a response. */
  async exchange(work, partsIn = partsOf) {
    let response;
    let error;
    try {
      throwIfAborted(this.#call.signal);
      this.#machine.start(this.#now());
      for (await this.#carry(); this.#machine.step === 'send'; await this.#carry()) {
        discard(response);
        ({ response, error } = await this.#attempt(work, partsIn));
      }
    } catch (thrown) {
      this.#cancel();
      throw thrown;
    }
    const isMade = this.#machine.step === 'return' || response !== undefined;
    if (isMade && error === undefined) return response;
    const reason = this.#machine.word;
    this.#cancel();
    throw error ?? this.#refusal ?? this.#gaveUp(reason);
  }

  /** The response has ended: the charge is corrected to what its text says was used, and the place given back. */
  async finish(text) {
    if (!this.#end()) return;
    const { usage } = this;
    if (text === undefined || usage === undefined) return;
    try {
      const actual = usage(text);
      if (actual !== undefined) await this.settle(actual);
    } catch (error) {
      // The response has come, and is not lost for a charge that stays at its estimate.
      if (!(error instanceof StoreError)) warnOnce(usage, error);
    }
  }

  /** Corrects the charge to the tokens that the call has used. */
  async settle(actual) {
    return this.#call.limiter.settle(this.#call.key, this.#call.cost, actual);
  }

  // Sends the request once, and tells the machine what became of it.
  async #attempt(work, partsIn) {
    const { signal } = this.#call;
    const timeoutMs = millisOf(this.#machine.amount);
    this.#timer?.release();
    const timer = new AttemptTimer(timeoutMs, signal);
    this.#timer = timer;
    let response;
    let error;
    let parts;
    try {
      this.#sends += 1;
      response = await timer.race(work(new Attempt(this, this.#sends, timeoutMs, timer.signal)));
      parts = await timer.race(partsIn(response));
      if (parts === undefined) throw invalid('work', 'it must resolve to a response that has a status and headers');
    } catch (thrown) {
      throwIfAborted(signal);
      response = undefined;
      error = thrown;
      parts = partsOfError(thrown);
    } finally {
      timer.stop();
    }
    if (parts !== undefined) {
      this.#responded(parts);
      return { response, error };
    }
    const kind = timer.isOver ? 'timed_out' : failureOf(error);
    if (kind === undefined) throw error;
    this.#machine.failed(kind, this.#now(), random(), this.#call.budget);
    return { response: undefined, error };
  }

  #responded({ status, headers, body }) {
    const { profile, maxHoldMs, budget } = this.#call;
    const response = responseParts(status, headers, { profile, body, maxHoldMs });
    signalOf(this.#machine.responded(...response, this.#now(), random(), budget));
  }

  // Carries out the steps up to the next attempt or the end.
  async #carry() {
    const { limiter, key, budget, signal } = this.#call;
    for (;;) {
      const { step, amount } = this.#machine;
      if (step === 'acquire' || step === 'permit') {
        const isGranted = step === 'acquire' ? await this.#acquire(millisOf(amount)) : await this.#enter(millisOf(amount));
        // The caller may have left at the very moment.
        throwIfAborted(signal);
        if (isGranted) this.#machine.granted(this.#now(), budget);
        else this.#machine.denied(this.#now(), budget);
        continue;
      }
      if (step === 'hold') await withoutStoreErrors(limiter.hold(key, millisOf(amount)));
      else if (step === 'release') this.#leave();
      else if (step === 'sleep') await this.#sleep(millisOf(amount));
      else return;
      throwIfAborted(signal);
      this.#machine.done(this.#now(), budget);
    }
  }

  async #acquire(timeoutMs) {
    const { limiter, key, cost, signal } = this.#call;
    try {
      this.decision = await limiter.acquire(key, { cost, timeoutMs, signal });
      return true;
    } catch (error) {
      if (!(error instanceof RateLimited)) throw error;
      this.#refusal = error;
      return false;
    }
  }

  async #enter(timeoutMs) {
    const { places, key, signal } = this.#call;
    try {
      const from = places(key);
      const place = await from.acquire({ timeoutMs, signal });
      // A semaphore of another library may give no place, and take it back itself.
      if (typeof place?.release === 'function') this.#place = place;
      else if (place !== false && place !== null && typeof from.release === 'function') this.#place = from;
    } catch (error) {
      const isRefusal = error instanceof RateLimited || error instanceof NoPermit || error?.name === 'TimeoutError';
      if (!isRefusal) throw error;
      this.#refusal = error instanceof RateLimited ? error : undefined;
    }
    return this.#place !== undefined;
  }

  #sleep(ms) {
    const { clock, signal } = this.#call;
    if (typeof clock?.advance === 'function') {
      clock.advance(ms);
      return undefined;
    }
    return sleep(ms, signal);
  }

  #gaveUp(reason) {
    const { key, limiter } = this.#call;
    const refusal = new Decision(false, limiter.limits[0], 0, 0, 0, 'memory');
    return new RateLimited(`the call gave up before it was made: ${reason}`, refusal, Array.isArray(key) ? key[0] : key);
  }

  #cancel() {
    if (!this.#isEnded) this.#machine.cancelled(this.#now(), this.#call.budget);
    this.#end();
  }

  // Gives everything back, and says whether the call had not ended before.
  #end() {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    this.#machine.free();
    this.#timer?.release();
    this.#leave();
    return true;
  }

  #leave() {
    const place = this.#place;
    this.#place = undefined;
    if (place === undefined) return;
    // A place that cannot be given back is no error of the call.
    Promise.resolve().then(() => place.release()).catch(() => {});
  }

  #now() {
    const { clock } = this.#call;
    return clock === undefined ? BigInt(Math.round(monotonicMillis() * 1e6)) : clock.now();
  }
}

/** Bounds one attempt. When it has ended, so has the bound: a body may take longer. */
class AttemptTimer {
  #controller = new AbortController();
  #timer;
  #outer;
  #abort;
  #rejection;
  isOver = false;

  constructor(ms, outer) {
    this.#outer = outer;
    this.#abort = () => this.#controller.abort(outer.reason);
    this.#rejection = new Promise((_, reject) => {
      this.#controller.signal.addEventListener('abort', () => reject(this.#controller.signal.reason), { once: true });
    });
    // Nobody may be listening when it comes.
    this.#rejection.catch(() => {});
    if (outer?.aborted) this.#abort();
    else if (outer !== undefined) onAbort(outer, this.#abort);
    if (ms > MAX_TIMER_MS) return;
    this.#timer = setTimeout(() => {
      this.isOver = true;
      this.#controller.abort(new DOMException(`no response within ${ms} ms`, 'TimeoutError'));
    }, ms);
  }

  get signal() {
    return this.#controller.signal;
  }

  /** The work, or the end of the time, because a client may ignore the signal. */
  race(work) {
    return Promise.race([work, this.#rejection]);
  }

  /** Lets the response take any time from here on. The caller's signal stays connected, so that it aborts a body too. */
  stop() {
    clearTimeout(this.#timer);
  }

  /** Forgets the caller's signal, which may outlive many calls. */
  release() {
    clearTimeout(this.#timer);
    if (this.#outer !== undefined) offAbort(this.#outer, this.#abort);
  }
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    // A longer wait than a timer holds comes back early, and waits for the rest in the line of its bucket.
    const timer = setTimeout(() => {
      if (signal !== undefined) offAbort(signal, abort);
      resolve();
    }, Math.min(ms, MAX_TIMER_MS));
    if (signal !== undefined) onAbort(signal, abort);
  });
}

// Frees the connection of a response that is made again and that nobody reads.
function discard(response) {
  const body = response?.body;
  if (typeof body?.cancel === 'function' && !body.locked) Promise.resolve(body.cancel()).catch(() => {});
}

const warned = new WeakSet();

// Warns of a function for usage that fails, once, because it may fail for every response.
function warnOnce(usage, error) {
  if (warned.has(usage)) return;
  warned.add(usage);
  const message = `usage failed, so the estimate stays charged: ${error}`;
  globalThis.process?.emitWarning?.(message, { type: 'TidegateWarning', code: 'TIDEGATE_USAGE' });
}

// The call itself obeys a hold that could not be stored.
async function withoutStoreErrors(operation) {
  try {
    await operation;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
}

function millisOf(amount) {
  return amount === NEVER ? Infinity : Number((amount + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
}

function atMost(nanoseconds) {
  return nanoseconds < NEVER ? nanoseconds : NEVER;
}

function random() {
  return crypto.getRandomValues(new BigUint64Array(1))[0];
}
