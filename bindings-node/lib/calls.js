/** Makes calls of the addon, and gives their answers to the callers that wait for them. */

import { createRequire } from 'node:module';

import { Decision } from './memory/decision.js';
import { errorFrom } from './memory/errors.js';

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;
// How many numbers a decision is, with the number of its call; see the addon.
const NUMBERS = 8;
// Enough to share what a call of the addon takes, few enough that Redis is not kept waiting.
const [LEAST_PORTION, MOST_GATHERED] = [32, 512];
// How many numbers of calls are kept for later ones.
const MOST_SPARE = 4096;

// One queue of answers for all limiters of this thread, so that a limiter nobody
// holds any more can be collected, and answers that come together share one wake-up.
let addon;
let completions;
let immediate;
let keepAlive;
let sources;

export function loadAddon() {
  if (addon === undefined) {
    addon = createRequire(import.meta.url)('./tidegate.node');
    completions = new addon.Completions(settleAll);
    immediate = new addon.Completions();
    sources = addon.sourceNames();
    keepAlive = setInterval(() => {}, LONGEST_INTERVAL_MS);
    keepAlive.unref();
  }
  return addon;
}

/** Makes a call of the addon that answers with a decision before it returns. */
export function decideLocally(start, limits) {
  start(immediate, 0);
  const { decisions, others } = immediate.take();
  return others === undefined ? decisionAt(decisions, 0, limits) : answerOf(others[0]);
}

/** Makes a call of the addon that answers before it returns, and gives what `read` makes of it. */
export function callLocally(start, read) {
  start(immediate, 0);
  return read(answerOf(immediate.take().others[0]));
}

function answerOf({ answer, failure }) {
  if (failure === undefined) return answer;
  throw errorFrom(failure);
}

/** Starts a call of the addon under a number, and promises the decision. */
export function decideRemotely(start, limits) {
  return startRemotely(start, { limits });
}

/** Starts a call of the addon under a number, and promises what `read` makes of its answer. */
export function callRemotely(start, read) {
  return startRemotely(start, { read });
}

function startRemotely(start, how) {
  // Calls are answered in the order in which they were made.
  sendGathered();
  return new Promise((resolve, reject) => {
    // The call is added before its answer can arrive: answers are taken in a later turn of the event
    // loop.
    const id = expect({ ...how, resolve, reject });
    try {
      start(completions, id);
    } catch (error) {
      // The addon could not read an argument, so no answer will come. A call that stays pending
      // would keep the process alive for ever.
      expected(id);
      letProcessEnd();
      throw error;
    }
  });
}

/** The checks of one limiter in one turn of the event loop: one call of the addon, and one trip. */
export class Gathering {
  #native;
  #limits;
  #keys = '';
  #asked = [];

  constructor(native, limits) {
    this.#native = native;
    this.#limits = limits;
  }

  /** Promises the decision. */
  check(key, cost) {
    return new Promise((resolve, reject) => {
      const id = expect({ limits: this.#limits, resolve, reject });
      this.#keys += key;
      const size = this.#asked.push(id, key.length, cost);
      if (size === 3) gather(this);
      else if (size >= 3 * portion) this.send();
    });
  }

  /** Sends what has been gathered. */
  send() {
    if (this.#asked.length === 0) return;
    const keys = this.#keys;
    const asked = new Float64Array(this.#asked);
    this.#keys = '';
    this.#asked = [];
    this.#native.checkGathered(keys, asked, completions);
  }
}

let gathered = [];
// How many checks are sent before a turn is over: half of those that were last on their way, so
// that Redis works on them while the turn goes on with the others.
let portion = MOST_GATHERED;

function gather(gathering) {
  // After all that this turn of the event loop goes on with: what it asks for travels together.
  if (gathered.push(gathering) === 1) process.nextTick(sendGathered);
}

/** Sends all that has been gathered. */
export function sendGathered() {
  if (gathered.length === 0) return;
  const all = gathered;
  gathered = [];
  for (const gathering of all) gathering.send();
}

// The callers that wait for an answer, by the number of their call, and the numbers that are free.
const waiting = [];
const free = [];

// The process stays alive for answers that are on their way, and for nothing else.
function expect(settling) {
  if (waiting.length === free.length) keepAlive.ref();
  const id = free.length > 0 ? free.pop() : waiting.length;
  waiting[id] = settling;
  return id;
}

function expected(id) {
  const settling = waiting[id];
  waiting[id] = undefined;
  free.push(id);
  return settling;
}

function settleAll() {
  const half = Math.ceil((waiting.length - free.length) / 2);
  portion = Math.min(Math.max(half, LEAST_PORTION), MOST_GATHERED);
  // All answers in one step: an answer that comes between two steps would wake nobody.
  const { decisions, others = [] } = completions.take();
  for (let at = 0; at < decisions.length; at += NUMBERS) {
    const { limits, resolve } = expected(decisions[at]);
    resolve(decisionAt(decisions, at, limits));
  }
  for (const { id, answer, failure } of others) {
    const { read, resolve, reject } = expected(id);
    if (failure === undefined) resolve(read(answer));
    else reject(errorFrom(failure));
  }
  letProcessEnd();
}

function letProcessEnd() {
  if (waiting.length > free.length) return;
  keepAlive.unref();
  if (free.length > MOST_SPARE) waiting.length = free.length = 0;
}

function decisionAt(numbers, at, limits) {
  const bound = limits[numbers[at + 1]];
  const limit = numbers[at + 4];
  return new Decision(
    numbers[at + 2] === 1,
    // A share of a limit has a smaller burst.
    limit === bound.burst ? bound : { burst: limit, name: bound.name },
    numbers[at + 5],
    numbers[at + 6],
    numbers[at + 7],
    sources[numbers[at + 3]],
  );
}

/** The decision in an answer that has others as well. */
export function decisionOf({ allowed, tier, limit, remaining, retryAfterMs, resetAfterMs, source }, limits) {
  const bound = { burst: limit, name: limits[tier].name };
  return new Decision(allowed, bound, remaining, retryAfterMs, resetAfterMs, source);
}
