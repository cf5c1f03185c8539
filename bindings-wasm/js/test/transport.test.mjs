/** Calls over clients that answer in every order, late, wrongly or never: every promise settles. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { createLimiter } from 'tidegate-wasm';

const CLIENTS = 60;
const CALLERS = 6;
const CALLS = 8;
const TIMEOUT_MS = 100;
// This is long, because the machine may be busy. A call that is not sent or not settled stays pending for ever.
const DEADLINE_MS = 30_000;
// The timeouts of two limiters over one client, by their prefix.
const TIMEOUTS = { impatient: TIMEOUT_MS, patient: 2 * DEADLINE_MS };

/**
 * A client like that of ioredis, whose replies come when and how the seed says. Half of the clients
 * may leave calls of the impatient limiter without a reply, and the other half may not know a script.
 * No client does both, because a script is sent again only when the rest of its batch is answered.
 */
class UnreliableClient {
  #random;
  #mayHang;

  constructor(random) {
    this.#random = random;
    this.#mayHang = random() % 2 === 0;
  }

  callBuffer(name, _script, count, ...words) {
    const choice = this.#random() % 16;
    if (choice === 0) throw new Error('the client cannot send');
    const isImpatient = words.slice(0, count).every((key) => key.startsWith('impatient'));
    if (this.#mayHang && isImpatient && choice < 3) return new Promise(() => {});
    return this.#later().then(() => {
      if (choice === 4) throw new Error('the connection is gone');
      if (choice === 5) return 'no array';
      if (!this.#mayHang && name === 'evalsha' && choice < 8) throw new Error('NOSCRIPT No matching script');
      return ['1', '0', ...Array.from({ length: Number(count) }, () => null)];
    });
  }

  #later() {
    switch (this.#random() % 5) {
      case 0: return Promise.resolve();
      case 1: return new Promise((resolve) => { process.nextTick(resolve); });
      case 2: return new Promise((resolve) => { setImmediate(resolve); });
      // The time is before or after the timeout of the impatient limiter.
      default: return new Promise((resolve) => { setTimeout(resolve, this.#random() % (1.2 * TIMEOUT_MS)); });
    }
  }
}

const CODES = ['store_error', 'cost_too_large'];
const OPERATIONS = [
  (limiter, key) => limiter.check(key),
  (limiter, key) => limiter.check([key, 'all']),
  (limiter, key) => limiter.check(key, { cost: 1001 }),
  (limiter, key) => limiter.checkMany([key, 'another', key]),
  (limiter, key) => limiter.reserve(key, { maxWaitMs: 0 }),
  (limiter, key) => limiter.credit(key, 1),
];

test('every call is sent and settles, whatever the client does', async () => {
  let settled = 0;
  const limiters = [];
  const runs = Array.from({ length: CLIENTS }, async (_, seed) => {
    const random = randomNumbers(seed);
    const store = new UnreliableClient(random);
    const options = { limits: ['1000/s', '1000/s'], store, denyCacheMs: 0 };
    const pair = Object.entries(TIMEOUTS).map(([prefix, storeTimeoutMs]) => {
      const limiter = createLimiter({ ...options, prefix, storeTimeoutMs });
      limiters.push(limiter);
      return { limiter, codes: prefix === 'patient' ? CODES : [...CODES, 'store_timeout'] };
    });
    await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
      for (let call = 0; call < CALLS; call++) {
        const operation = OPERATIONS[random() % OPERATIONS.length];
        const { limiter, codes } = pair[random() % 2];
        const failed = await operation(limiter, `key ${caller % 2}`).then(() => false, ({ code }) => {
          assert.ok(codes.includes(code), code);
          return true;
        });
        // The breaker may be open now. After the pause it lets calls through again.
        if (failed) await sleep(random() % (2 * TIMEOUT_MS));
        settled += 1;
      }
    }));
  });
  let deadline;
  const expired = new Promise((_, reject) => {
    const message = () => `only ${settled} of ${CLIENTS * CALLERS * CALLS} calls have settled`;
    deadline = setTimeout(() => reject(new Error(message())), DEADLINE_MS);
  });
  await Promise.race([Promise.all(runs), expired]).finally(() => clearTimeout(deadline));
  assert.equal(settled, CLIENTS * CALLERS * CALLS);
  for (const limiter of limiters) limiter.close();
});

/** A generator of random 32-bit numbers (Mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
