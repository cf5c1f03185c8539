import { checkWellFormed, describe, invalid } from './arguments.js';
import { MonotonicClock, checkClock, splitNanos } from './clock.js';
import { Decision } from './decision.js';
import { raise, view } from './engine.js';
import { StoreError } from './errors.js';
import { Engine } from './tidegate_wasm.js';

const MAX_KEY = 1024;
const FAILED = 0xffff_ffff;
const encoder = new TextEncoder();

/** The buckets of one limiter, in this runtime's memory. */
export class MemoryBuckets {
  #limits;
  #engine;
  #clock;
  #monotonic;
  #started = false;
  // Views of the engine's memory; they become empty when that memory grows.
  #key;
  #answer;

  constructor(limits, clock) {
    this.#limits = limits;
    this.#clock = clock === undefined ? undefined : checkClock(clock);
    this.#engine = new Engine(limits.join('\n'));
    raise(this.#engine);
    this.#look();
  }

  checkSync(key, cost) {
    if (this.#engine === undefined) throw new StoreError('store error: the limiter is closed');
    if (!this.#started) this.#start();
    // The clock first: it may be the caller's, and what it calls must not find a key half written.
    let millis;
    let nanos;
    if (this.#clock === undefined) {
      const now = this.#monotonic.millis();
      millis = Math.floor(now);
      nanos = (now - millis) * 1e6;
    } else {
      [millis, nanos] = splitNanos(this.#clock.now());
    }
    const length = typeof key === 'string' ? this.#writeString(key) : this.#writeBytes(key);
    const status = this.#engine.check(length, millis, nanos, cost);
    if (status === FAILED) raise(this.#engine);
    if (this.#answer.length === 0) this.#look();
    const answer = this.#answer;
    return new Decision(
      (status & 1) === 1,
      this.#limits[status >>> 1],
      answer[0],
      answer[1],
      answer[2],
      'memory',
    );
  }

  check(key, cost) {
    return this.checkSync(key, cost);
  }

  close() {
    this.#engine?.free();
    this.#engine = undefined;
  }

  // Not in the constructor: edge runtimes have neither randomness nor a clock before the first
  // request, and limiters are made before it.
  #start() {
    const [seed0, seed1] = crypto.getRandomValues(new BigUint64Array(2));
    this.#engine.seed(seed0, seed1);
    this.#monotonic = new MonotonicClock();
    this.#started = true;
  }

  #look() {
    this.#key = view(Uint8Array, this.#engine.key_pointer(), MAX_KEY);
    this.#answer = view(Float64Array, this.#engine.answer_pointer(), 3);
  }

  #writeString(key) {
    const { length } = key;
    if (length === 0 || length > MAX_KEY) throw badKeyLength(key);
    if (this.#key.length === 0) this.#look();
    const bytes = this.#key;
    for (let at = 0; at < length; at++) {
      const unit = key.charCodeAt(at);
      if (unit > 0x7f) return this.#encode(key);
      bytes[at] = unit;
    }
    return length;
  }

  #encode(key) {
    checkWellFormed(key);
    const { read, written } = encoder.encodeInto(key, this.#key);
    if (read < key.length) throw badKeyLength(key);
    return written;
  }

  #writeBytes(key) {
    if (!(key instanceof Uint8Array)) {
      throw invalid('key', `it must be a string or a Uint8Array, but is ${describe(key)}`);
    }
    if (key.length === 0 || key.length > MAX_KEY) throw badKeyLength(key);
    if (this.#key.length === 0) this.#look();
    this.#key.set(key);
    return key.length;
  }
}

function badKeyLength(key) {
  const length = typeof key === 'string' ? encoder.encode(key).length : key.length;
  return invalid('key', `it must be 1 to ${MAX_KEY} bytes long, but has ${length}`);
}
