/** Does the same as soak_process.py --asyncio, in Node: eight loops call at random, and log each call. */

import { closeSync, existsSync, openSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLimiter, Limits } from '../../bindings-node/dist/index.js';

const [store, logFile, seed] = process.argv.slice(2);
const LIMIT = '40/s burst 20';
const [TIMEOUT_MS, WAIT_MS] = [250, 500];
const PLAN = new Limits('40/s burst 20');

// The numbers of soak_log.py.
const [PLAIN, BACK, RESET, LEASED, LOCAL, DENIED, MANY, NO_KEY] = [[0, 1, 2, 3], [4, 5], 6, 7, 8, 9, 10, 999];
const LIMITERS = 40;
const OPS = ['check', 'check_many', 'peek', 'acquire', 'reserve', 'settle', 'cancel', 'hold', 'credit', 'reset', 'reserving', 'churn', 'wrong'];
const Op = Object.fromEntries(OPS.map((name, number) => [name, number]));
const Outcome = { refused: 0, admitted: 1, wrong: 5, cancelled: 6, done: 7, unexpected: 9 };
const CODES = { store_error: 2, store_timeout: 3, rate_limited: 4, invalid_argument: 5, cost_too_large: 5 };

class Log {
  #file = openSync(logFile, 'w');
  #buffer = Buffer.alloc(1 << 16);
  #filled = 0;

  /** The wall clock has whole milliseconds, so the end is rounded up. */
  write(op, outcome, key, tokens, began, delayMs = 0) {
    if (this.#filled + 32 > this.#buffer.length) this.#flush();
    const at = this.#filled;
    this.#buffer.writeUInt8(op, at);
    this.#buffer.writeUInt8(outcome, at + 1);
    this.#buffer.writeUInt16LE(key, at + 2);
    this.#buffer.writeUInt32LE(tokens, at + 4);
    this.#buffer.writeBigUInt64LE(nanos(began), at + 8);
    this.#buffer.writeBigUInt64LE(nanos(Date.now() + 1), at + 16);
    this.#buffer.writeBigUInt64LE(BigInt(Math.floor(delayMs * 1e6)), at + 24);
    this.#filled += 32;
  }

  close() {
    this.#flush();
    closeSync(this.#file);
  }

  #flush() {
    writeSync(this.#file, this.#buffer, 0, this.#filled);
    this.#filled = 0;
  }
}

const nanos = (ms) => BigInt(ms) * 1_000_000n;
const log = new Log();
const make = (limits, options) => createLimiter({ limits, store, storeTimeoutMs: TIMEOUT_MS, ...options });
const plain = make(LIMIT);
const back = make(LIMIT, { prefix: 'soak-back' });
const resettable = make(LIMIT, { prefix: 'soak-reset' });
const leased = make('40/s burst 40', { prefix: 'soak-leased', lease: { ttlMs: 1000 } });
const local = make(LIMIT, { prefix: 'soak-local', onStoreError: 'local', peers: 4 });
const denied = make(LIMIT, { prefix: 'soak-denied', onStoreError: 'deny' });
const many = Array.from({ length: LIMITERS }, (_, number) => make('5/s', { prefix: `soak-${MANY + number}` }));

let state = Number(seed);
function random() {
  state = (state + 0x6d2b_79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const between = (least, most) => least + Math.floor(random() * (most - least + 1));
const pick = (items) => items[between(0, items.length - 1)];

function outcomeOf(error) {
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return Outcome.cancelled;
  if (!(error.code in CODES)) console.error(error);
  return CODES[error.code] ?? Outcome.unexpected;
}

async function logged(op, key, tokens, call, outcomeOfAnswer = () => Outcome.done) {
  const began = Date.now();
  let answer;
  let outcome;
  try {
    answer = await call();
    outcome = outcomeOfAnswer(answer);
  } catch (error) {
    outcome = outcomeOf(error);
  }
  log.write(op, outcome, key, tokens, began, op === Op.reserve && answer?.allowed ? answer.delayMs : 0);
  return answer;
}

const spend = (op, key, tokens, call) => logged(op, key, tokens, call, (it) => (it.allowed ? Outcome.admitted : Outcome.refused));

const CALLS = [
  [30, async () => {
    const [key, cost] = [pick(PLAIN), between(1, 3)];
    const plan = random() < 0.2 ? { limits: PLAN } : {};
    await spend(Op.check, key, cost, () => plain.check(`key-${key}`, { cost, ...plan }));
  }],
  [8, async () => {
    const checks = PLAIN.map((key) => ({ key: `key-${key}`, cost: between(1, 2) }));
    const began = Date.now();
    const decisions = await logged(Op.check_many, NO_KEY, 0, () => plain.checkMany(checks));
    decisions?.forEach(({ allowed }, at) => {
      log.write(Op.check_many, allowed ? Outcome.admitted : Outcome.refused, PLAIN[at], checks[at].cost, began);
    });
  }],
  [6, async () => {
    const key = pick(PLAIN);
    await logged(Op.peek, key, 0, () => plain.peek(`key-${key}`, { cost: between(0, 2) }));
  }],
  [12, async () => {
    const [key, cost] = [pick(PLAIN), between(1, 3)];
    await spend(Op.acquire, key, cost, () => plain.acquire(`key-${key}`, { cost, timeoutMs: WAIT_MS }));
  }],
  [1, async () => {
    const key = pick(PLAIN);
    await logged(Op.hold, key, 0, () => plain.hold(`key-${key}`, 100));
  }],
  [14, async () => {
    const [key, cost] = [pick(BACK), between(1, 4)];
    const made = await spend(Op.reserve, key, cost, () => back.reserve(`key-${key}`, { cost, maxWaitMs: WAIT_MS }));
    if (!made?.allowed) return;
    if (random() < 0.4) {
      await logged(Op.cancel, key, cost, () => made.cancel());
    } else if (random() < 0.7) {
      const actual = between(0, 6);
      await logged(Op.settle, key, Math.max(0, cost - actual), () => made.settle(actual));
    }
  }],
  [8, async () => {
    const [key, cost, actual] = [pick(BACK), between(1, 4), between(0, 6)];
    const decision = await spend(Op.check, key, cost, () => back.check(`key-${key}`, cost));
    if (decision?.allowed) {
      await logged(Op.settle, key, Math.max(0, cost - actual), () => back.settle(`key-${key}`, cost, actual));
    }
  }],
  [6, async () => {
    const [key, cost, chance, began] = [pick(BACK), between(1, 4), random(), Date.now()];
    let entered;
    let outcome = Outcome.admitted;
    try {
      await back.reserving(`key-${key}`, { cost, timeoutMs: WAIT_MS }, async (charge) => {
        entered = Date.now();
        log.write(Op.reserving, Outcome.admitted, key, cost, began);
        if (chance < 0.4) await charge.settle(between(0, cost));
        else if (chance < 0.8) throw new Planned();
      });
    } catch (error) {
      if (!(error instanceof Planned)) outcome = outcomeOf(error);
    }
    if (entered) log.write(Op.cancel, outcome, key, cost, entered);
    else log.write(Op.reserving, outcome, key, cost, began);
  }],
  [3, async () => {
    const key = pick(BACK);
    await logged(Op.credit, key, 2, () => back.credit(`key-${key}`, 2));
  }],
  [6, async () => {
    const cost = between(1, 4);
    if (random() < 0.02) await logged(Op.reset, RESET, 0, () => resettable.reset('key'));
    else await spend(Op.check, RESET, cost, () => resettable.check('key', cost));
  }],
  [20, () => spend(Op.check, LEASED, 1, () => leased.check('key'))],
  [10, async () => {
    const cost = between(1, 3);
    await spend(Op.check, LOCAL, cost, () => local.check('key', cost));
  }],
  [8, async () => {
    const cost = between(1, 3);
    await spend(Op.check, DENIED, cost, () => denied.check('key', cost));
  }],
  [30, async () => {
    const number = between(0, LIMITERS - 1);
    await spend(Op.check, MANY + number, 1, () => many[number].check('key'));
  }],
  [2, async () => {
    const limiter = make('9/s', { prefix: `soak-brief-${between(0, 99)}` });
    for (const _ of [1, 2]) await logged(Op.churn, NO_KEY, 0, () => limiter.check('key'));
    limiter.close();
  }],
  [4, async () => {
    const began = Date.now();
    const outcome = await plain.check('key-0', pick([21, -1, '1', 2 ** 70])).then(() => Outcome.unexpected, outcomeOf);
    log.write(Op.wrong, outcome, NO_KEY, 0, began);
  }],
  [10, async () => {
    const key = pick(PLAIN);
    const signal = AbortSignal.timeout(pick([0, 1, 20, 100]));
    await spend(Op.acquire, key, 1, () => plain.acquire(`key-${key}`, { timeoutMs: WAIT_MS, signal }));
  }],
];

class Planned extends Error {}

const weights = CALLS.reduce((sum, [weight]) => sum + weight, 0);
function someCall() {
  let left = random() * weights;
  return CALLS.find(([weight]) => { left -= weight; return left < 0; })?.[1] ?? CALLS[0][1];
}

const input = createInterface({ input: process.stdin });
console.log('ready');
await new Promise((resolve) => { input.once('line', resolve); });
input.close();

const stop = join(dirname(logFile), 'stop');
async function run() {
  while (!existsSync(stop)) {
    await someCall()();
    await sleep(random() * 30);
  }
}
// A heap that is collected often shows a leak soon.
const collecting = setInterval(globalThis.gc, 500);
await Promise.all(Array.from({ length: 8 }, run));
clearInterval(collecting);
for (const limiter of [plain, back, resettable, leased, local, denied, ...many]) limiter.close();
log.close();
