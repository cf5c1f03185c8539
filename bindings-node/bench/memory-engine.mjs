/**
 * Which engine answers checks in memory faster: WebAssembly or the native addon?
 *
 *   node bench/memory-engine.mjs
 *
 * Measures CPU time per check, with both engines interleaved round by round, and prints the medians
 * of the rounds. The WebAssembly engine gives a whole Decision, the addon only a boolean, which is
 * the least that it could give.
 */

import { createRequire } from 'node:module';

import { createLimiter } from '../dist/index.js';

const ROUNDS = 15;
const CHECKS = 200_000;
const { openLimiter } = createRequire(import.meta.url)('../dist/tidegate.node');

const keysets = {
  'one key': ['user:1234567'],
  '100,000 keys': Array.from({ length: 100_000 }, (_, number) => `user:${(number * 2_654_435_761) % 10_000_000}`),
};
const limits = { allowed: '1000000/s', refused: '1/d' };

console.log(`CPU ns per check, median of ${ROUNDS} interleaved rounds of ${CHECKS} checks`);
console.log('                          wasm   napi');
for (const [keysName, keys] of Object.entries(keysets)) {
  for (const [outcome, limit] of Object.entries(limits)) {
    const engines = { wasm: wasmEngine(limit), napi: napiEngine(limit) };
    const times = { wasm: [], napi: [] };
    for (const check of Object.values(engines)) nanosPerCheck(check, keys); // warms up
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, check] of Object.entries(engines)) times[name].push(nanosPerCheck(check, keys));
    }
    const [wasm, napi] = [times.wasm, times.napi].map((all) => median(all).toFixed(0).padStart(6));
    console.log(`${keysName.padEnd(14)}${outcome.padEnd(10)}${wasm} ${napi}`);
  }
}

function wasmEngine(limit) {
  const limiter = createLimiter({ limits: limit });
  return (key) => limiter.checkSync(key);
}

function napiEngine(text) {
  const limiter = openLimiter({ limits: [{ name: text, text }], store: 'memory://' });
  return (key) => limiter.isAllowedBlocking(key, 1);
}

function nanosPerCheck(check, keys) {
  const before = process.cpuUsage();
  for (let number = 0; number < CHECKS; number++) check(keys[number % keys.length]);
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1000) / CHECKS;
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1];
}
