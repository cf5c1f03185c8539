/** Runs a mixture as a process of its own, which must come to its end by itself, and prints the figures. */

import { createLimiter } from 'tidegate';

import { limitsOf, realTime, runMixture } from '../../bindings-wasm/js/test/mixture.mjs';
import { SimulatedTime } from '../../bindings-wasm/js/test/simulated-time.mjs';
import { STORES } from './client-kinds.mjs';

// How long a store may take on a busy machine.
const PATIENT_MS = 30_000;
const EPOCH_MS = 1_764_000_000_000;

const [kind, seed, seconds, port] = process.argv.slice(2);
const run = kind === 'memory' ? inMemory : onRedis;
console.log(JSON.stringify(await run(Number(seed), Number(seconds))));

async function inMemory(seed, seconds) {
  const [rate, burst] = [20, 5];
  const { own, plans } = limitsOf(rate, burst, seed);
  const time = SimulatedTime.install(EPOCH_MS);
  const limiters = [1, 2, 3].map(() => createLimiter({ limits: own }));
  let figures;
  const mixture = runMixture({ seed, seconds, time, limiters, plans, rate, burst, isShared: false }).then((found) => { figures = found; });
  // The rest of the time is for those who come last.
  for (let hours = 0; figures === undefined && hours < seconds / 3600 + 1; hours++) {
    await Promise.race([mixture, time.runTo(time.now + 3_600_000)]);
  }
  await mixture;
  if (time.timers > 0) throw new Error(`${time.timers} timers are left`);
  return figures;
}

async function onRedis(seed, seconds) {
  const [rate, burst] = [200, 5];
  const { own, plans } = limitsOf(rate, burst, seed);
  const { client: store, end } = await STORES[kind]({ port: Number(port), url: `redis://127.0.0.1:${port}` });
  const options = { limits: own, store, prefix: `mixture-${seed}`, storeTimeoutMs: PATIENT_MS, denyCacheMs: 0 };
  const limiters = [1, 2].map(() => createLimiter(options));
  const figures = await runMixture({ seed, seconds, time: realTime, limiters, plans, rate, burst, isShared: true });
  for (const limiter of limiters) limiter.close();
  await end();
  return figures;
}
