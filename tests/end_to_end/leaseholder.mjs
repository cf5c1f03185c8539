/** Does the same as leaseholder.py, in Node. */

import { once } from 'node:events';
import { openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLimiter } from '../../bindings-node/dist/index.js';

const [store, limits, key, ttl, demands, logFile] = process.argv.slice(2);
const lease = Number(ttl) > 0 ? { ttlMs: Math.round(Number(ttl) * 1000) } : undefined;
const limiter = createLimiter({ limits, store, storeTimeoutMs: 5000, lease });
const phases = demands.split(',').map((phase) => phase.split(':').map(Number));
const log = openSync(logFile, 'w');
const record = Buffer.alloc(16);
const sources = {};

console.log('ready');
const input = createInterface({ input: process.stdin });
const [line] = await once(input, 'line');
input.close();
const [start, end] = line.split(' ').map(BigInt);

// Milliseconds of the monotonic clock since START. The difference is small enough to be exact.
const now = () => Number(process.hrtime.bigint() - start) / 1e6;
const endAt = Number(end - start) / 1e6;

function gap(at) {
  const [, rate] = phases.find(([until]) => at / 1000 < until) ?? phases.at(-1);
  return rate > 0 ? 1000 / rate : 0;
}

for (let due = 0; ; ) {
  const wait = Math.min(due, endAt) - now();
  if (wait >= 1) await sleep(wait);
  const at = now();
  if (at >= endAt) break;
  const step = gap(at);
  if (step === 0) {
    due = at + 10;
    continue;
  }
  const before = process.hrtime.bigint();
  const decision = await limiter.check(key);
  const after = process.hrtime.bigint();
  if (decision.allowed) {
    record.writeBigUInt64LE(before, 0);
    record.writeBigUInt64LE(after, 8);
    writeSync(log, record);
  }
  sources[decision.source] = (sources[decision.source] ?? 0) + 1;
  due = Math.max(due + step, now() - 50);
}
limiter.close();
console.log(JSON.stringify(sources));
