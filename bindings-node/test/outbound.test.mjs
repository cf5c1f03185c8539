/** Calls to a vendor from several processes that share a limit in Redis: real Redis, and a vendor with windows of its own. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { RedisServer } from './redis-server.mjs';

const TESTS = fileURLToPath(new URL('../../tests', import.meta.url));
const WORKER = fileURLToPath(new URL('outbound-worker.mjs', import.meta.url));
const WORKERS = 4;

let redis;

before(async () => {
  redis = await RedisServer.start();
});

after(() => redis.remove());

test('four processes keep a vendor’s window without a refusal, and use what is safe', async () => {
  // The jitter is long, because a busy machine delays a request after it has got its token.
  const limits = '40 in any 1s jitter 500ms';
  const safeRate = 40 / 1.5;
  const log = await callsOf({ vendor: ['--limit', '40', '--style', 'none'], worker: { key: 'safe', limits, calls: 20 } });
  assert.deepEqual(new Set(log.map(({ status }) => status)), new Set([200]));
  assert.equal(log.length, WORKERS * 20);
  assert.ok(log.at(-1).at - log[0].at <= (log.length / safeRate) * 1.25);
});

test('a refusal of one process stops all of them until the vendor’s time', async () => {
  const log = await callsOf({ vendor: ['--limit', '30', '--window', '2', '--style', 'retry-after'], worker: { key: 'held', limits: '100/s burst 1', calls: 15 } });
  const first = log.find(({ status }) => status === 429).at;
  // The vendor said 2 s. What had its token already may still come for a moment.
  const meanwhile = log.filter(({ at }) => at > first + 0.8 && at < first + 1.9);
  assert.deepEqual(meanwhile, []);
  assert.equal(log.filter(({ status }) => status === 200).length, WORKERS * 15);
});

// Lets all workers make their calls, each of which succeeds in the end, and gives the vendor's log.
async function callsOf({ vendor: flags, worker }) {
  return withVendor(flags, async ({ url, log }) => {
    const workers = Array.from({ length: WORKERS }, () => startWorker({ url, store: redis.url, ...worker }));
    const statuses = (await Promise.all(workers)).flat();
    assert.deepEqual(statuses, Array(WORKERS * worker.calls).fill(200));
    return log();
  });
}

test('a fleet makes as many calls at a time as a Concurrency has permits', async () => {
  await withVendor(['--limit', '1000', '--latency', '0.2', '--style', 'none'], async ({ url, counts }) => {
    const workers = Array.from({ length: WORKERS }, () => startWorker({ url, store: redis.url, key: 'permits', limits: '1000/s', calls: 6, permits: 3 }));
    const statuses = (await Promise.all(workers)).flat();
    assert.deepEqual(statuses, Array(WORKERS * 6).fill(200));
    const { most_in_flight: most } = await counts();
    assert.ok(most >= 2 && most <= 3, `${most} at a time`);
  });
});

async function withVendor(flags, work) {
  const vendor = spawn(process.env.PYTHON ?? 'python3', ['-m', 'vendor', ...flags], { cwd: TESTS, stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const [line] = await once(vendor.stdout, 'data');
    const { url } = JSON.parse(line);
    const ask = async (path) => (await fetch(`${url}${path}`)).json();
    return await work({ url, log: () => ask('/_log'), counts: () => ask('/_counts') });
  } finally {
    vendor.stdin.end();
    await once(vendor, 'exit');
  }
}

async function startWorker(options) {
  const worker = spawn(process.execPath, [WORKER, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  worker.stdout.on('data', (part) => {
    text += part;
  });
  const [code] = await once(worker, 'close');
  assert.equal(code, 0);
  return JSON.parse(text);
}
