/**
 * Does the same as key_flood.py, in Node: node --expose-gc --single-threaded-gc key_flood.mjs KEYS MAX_KEYS
 *
 * With one thread, a collection never waits for helpers that have no processor.
 */

import { openSync, readSync } from 'node:fs';
import { createLimiter } from '../../bindings-node/dist/index.js';

const [CHUNK, HONEST, BURST] = [500, 10, 3];
const [keys, maxKeys] = process.argv.slice(2).map(Number);
const statistics = openSync('/proc/thread-self/schedstat', 'r');
const buffer = Buffer.alloc(100);

// For how many milliseconds this thread could have run but had no processor.
function waited() {
  const length = readSync(statistics, buffer, 0, 100, 0);
  return Number(buffer.toString('latin1', 0, length).split(' ')[1]) / 1e6;
}

function memory() {
  globalThis.gc();
  return process.memoryUsage.rss();
}

// The longest call for one of these keys, in milliseconds.
function longest(first, last, call, between) {
  let worst = 0;
  for (let begin = first; begin < last; begin += CHUNK) {
    const [waitedBefore, used] = [waited(), process.cpuUsage()];
    const end = Math.min(begin + CHUNK, last);
    let most = 0;
    for (let number = begin; number < end; number++) {
      const key = `user:${number}`;
      const began = performance.now();
      call(key);
      most = Math.max(most, performance.now() - began);
    }
    const { user, system } = process.cpuUsage(used);
    worst = Math.max(worst, Math.min(most - (waited() - waitedBefore), (user + system) / 1000));
    between(begin);
  }
  return worst;
}

const limiter = createLimiter({ limits: `${BURST}/d`, maxKeys });
for (let honest = 0; honest < HONEST; honest++) {
  for (let turn = 0; turn < BURST; turn++) limiter.checkSync(`honest:${honest}`);
}
const wrong = [];
function askAsHonest(number) {
  const [spent, fresh] = [`honest:${Math.floor(number / CHUNK) % HONEST}`, `fresh:${number}`];
  if (limiter.checkSync(spent).allowed) wrong.push(spent);
  if (!limiter.checkSync(fresh).allowed) wrong.push(fresh);
}

const before = memory();
const full = Math.min(keys, 2 * maxKeys);
let worst = longest(0, full, (key) => limiter.checkSync(key), askAsHonest);
const whenFull = memory();
worst = Math.max(worst, longest(full, keys, (key) => limiter.checkSync(key), askAsHonest));
const atTheEnd = memory();
const control = longest(0, keys, (key) => ({ key, allowed: true, remaining: key.length }), () => {});
console.log(JSON.stringify({ worst, control, memory: [before, whenFull, atTheEnd], wrong }));
