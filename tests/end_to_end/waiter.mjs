/** Does the same as waiter.py, in Node. */

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLimiter } from '../../bindings-node/dist/index.js';

const [store, limits, key, demand, patience] = process.argv.slice(2);
const limiter = createLimiter({ limits, store, storeTimeoutMs: 5000 });
await limiter.peek(key);

console.log('ready');
const input = createInterface({ input: process.stdin });
const [line] = await once(input, 'line');
input.close();
const [start, end] = line.split(' ').map(BigInt);

const served = [];

async function call() {
  try {
    await limiter.acquire(key, { signal: AbortSignal.timeout(Number(patience) * 1000) });
  } catch (error) {
    if (error.name === 'TimeoutError') return;
    throw error;
  }
  served.push(Number(process.hrtime.bigint()));
}

// Milliseconds of the monotonic clock since START. The difference is small enough to be exact.
const now = () => Number(process.hrtime.bigint() - start) / 1e6;
const calls = [];
for (let due = 0; due < Number(end - start) / 1e6; due += 1000 / Number(demand)) {
  const rest = due - now();
  if (rest >= 1) await sleep(rest);
  calls.push(call());
}
await Promise.all(calls);
limiter.close();
console.log(JSON.stringify(served));
