/** Calls of the addon, and the promises that their answers settle. */

import { openAddon } from './addon.js';
import { errorFrom } from './memory/errors.js';
import { storeChanged } from './memory/store-warning.js';
import { RECORD, readRecord, tierNumbers } from './records.js';

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;
// The least length of a decision among the answers: the id of its call, and its record.
const NUMBERS = 1 + RECORD;
// The bounds of an early batch. A smaller one would not share the cost of a call of the addon among
// enough checks, and a larger one would leave Redis idle meanwhile.
const [MIN_EARLY_BATCH, MAX_EARLY_BATCH] = [32, 512];
// The table of pending calls is emptied when it has more free ids than this and no call is pending.
const MAX_IDLE_IDS = 4096;

// One queue of answers serves all limiters of this thread. So a limiter that nobody holds any more
// can be collected, and answers that arrive together share one wake-up of the event loop.
let addon;
let completions;
let immediate;
let keepAlive;

export function loadAddon() {
  if (addon === undefined) {
    addon = openAddon();
    completions = new addon.Completions(settleAnswers);
    immediate = new addon.Completions();
    addon.onStoreChange(storeChanged);
    keepAlive = setInterval(() => {}, LONGEST_INTERVAL_MS);
    keepAlive.unref();
  }
  return addon;
}

/** Makes a call of the addon that answers with a decision before it returns. */
export function decideLocally(start, limits) {
  start(immediate, 0);
  const { decisions, others } = immediate.take();
  return others === undefined ? readRecord(decisions, 1, limits) : answerOf(others[0]);
}

/** Makes a call of the addon that answers before it returns, and returns what `read` makes of the answer. */
export function callLocally(start, read) {
  start(immediate, 0);
  return read(answerOf(immediate.take().others[0]));
}

function answerOf({ answer, failure }) {
  if (failure === undefined) return answer;
  throw errorFrom(failure);
}

/** Starts a call of the addon that is answered later, and promises the decision. */
export function decideRemotely(start, limits) {
  return startRemotely(start, { limits });
}

/** Starts a call of the addon that is answered later, and promises what `read` makes of the answer. */
export function callRemotely(start, read) {
  return startRemotely(start, { read });
}

/**
 * Starts a call of the addon that is answered later, also if the limiter is not remote, and returns
 * what the addon returns. `read` and `reject` get the answer.
 */
export function startWaiting(start, { read, reject }) {
  sendBatches();
  const id = addCall({ read, resolve() {}, reject });
  return startOrForget(start, id);
}

function startRemotely(start, how) {
  // Checks that were made before this call are sent first, because calls are answered in the order
  // in which they were made.
  sendBatches();
  return new Promise((resolve, reject) => {
    // The call is added before its answer can arrive: answers are taken in a later turn of the event
    // loop.
    startOrForget(start, addCall({ ...how, resolve, reject }));
  });
}

function startOrForget(start, id) {
  try {
    return start(completions, id);
  } catch (error) {
    // The addon could not read an argument, so no answer will come. A call that stays pending
    // would keep the process alive for ever.
    removeCall(id);
    letProcessEnd();
    throw error;
  }
}

/** The checks that one limiter makes in one turn of the event loop, which share a call of the addon. */
export class CheckBatch {
  #native;
  #limits;
  #keys = '';
  #checks = [];

  constructor(native, limits) {
    this.#native = native;
    this.#limits = limits;
  }

  /** Adds a check, and promises its decision. */
  check(key, cost) {
    return new Promise((resolve, reject) => {
      const id = addCall({ limits: this.#limits, resolve, reject });
      this.#keys += key;
      const size = this.#checks.push(id, key.length, cost);
      if (size === 3) sendAfterTurn(this);
      else if (size >= 3 * earlyBatch) this.send();
    });
  }

  /** Sends the checks that have been added since the last time. */
  send() {
    if (this.#checks.length === 0) return;
    const keys = this.#keys;
    const checks = new Float64Array(this.#checks);
    this.#keys = '';
    this.#checks = [];
    this.#native.checkBatch(keys, checks, completions);
  }
}

let batches = [];
// The number of checks that are sent before the turn of the event loop is over: half of the calls
// that were pending when the last answers came. Redis then works on these while the turn makes the rest.
let earlyBatch = MAX_EARLY_BATCH;

function sendAfterTurn(batch) {
  // The next tick comes after the rest of this turn, so all checks that it makes share a batch.
  if (batches.push(batch) === 1) process.nextTick(sendBatches);
}

/** Sends all batches of checks. */
export function sendBatches() {
  if (batches.length === 0) return;
  const filled = batches;
  batches = [];
  for (const batch of filled) batch.send();
}

// The pending calls by their ids, and the ids that are free. A call is `{ limits, resolve, reject }`
// if a decision answers it, and otherwise `{ read, resolve, reject }`.
const pending = [];
const freeIds = [];

// Adds a call and returns its id. The process stays alive while a call is pending, and no longer.
function addCall(call) {
  if (pending.length === freeIds.length) keepAlive.ref();
  const id = freeIds.length > 0 ? freeIds.pop() : pending.length;
  pending[id] = call;
  return id;
}

function removeCall(id) {
  const call = pending[id];
  pending[id] = undefined;
  freeIds.push(id);
  return call;
}

function letProcessEnd() {
  if (pending.length > freeIds.length) return;
  keepAlive.unref();
  if (freeIds.length > MAX_IDLE_IDS) pending.length = freeIds.length = 0;
}

function settleAnswers() {
  const half = Math.ceil((pending.length - freeIds.length) / 2);
  earlyBatch = Math.min(Math.max(half, MIN_EARLY_BATCH), MAX_EARLY_BATCH);
  // All answers are taken in one step, because an answer that arrived between two steps would not
  // wake the event loop.
  const { decisions, others = [] } = completions.take();
  for (let at = 0; at < decisions.length; at += NUMBERS + tierNumbers(decisions[at + 1])) {
    const { limits, resolve } = removeCall(decisions[at]);
    resolve(readRecord(decisions, at + 1, limits));
  }
  for (const { id, answer, failure } of others) {
    const { read, resolve, reject } = removeCall(id);
    if (failure === undefined) resolve(read(answer));
    else reject(errorFrom(failure));
  }
  letProcessEnd();
}
