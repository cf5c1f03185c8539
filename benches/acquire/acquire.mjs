/** Measures `acquire` beside `check` in memory, in turn. Prints the median nanoseconds of each as JSON. */

import { createLimiter } from '../../bindings-node/dist/index.js';

const [rounds, calls] = process.argv.slice(2).map(Number);
const LIMIT = '1000000000/s'; // more than a round can spend, so that nobody waits

async function timed(method) {
  const limiter = createLimiter({ limits: LIMIT });
  await limiter[method]('k');
  const start = process.hrtime.bigint();
  for (let call = 0; call < calls; call += 1) await limiter[method]('k');
  const nanos = Number(process.hrtime.bigint() - start);
  limiter.close();
  return nanos / calls;
}

const times = { acquire: [], check: [] };
for (let round = 0; round < rounds; round += 1) {
  for (const [method, all] of Object.entries(times)) all.push(await timed(method));
}
const median = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];
console.log(JSON.stringify([median(times.acquire), median(times.check)]));
