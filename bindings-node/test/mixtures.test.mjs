/**
 * Everything that can happen to those who wait, at random: in memory in simulated time, and on a real
 * Redis by URL and over a client. `make test-long` runs it for ten minutes on each store.
 */

import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { RedisServer } from './redis-server.mjs';

const PROCESS = fileURLToPath(new URL('mixture-process.mjs', import.meta.url));
const SEEDS = [1, 2, 3];
const IS_LONG = process.env.TIDEGATE_TEST_LONG !== undefined;
const SIMULATED_S = IS_LONG ? 24_000 : 1200;
const REAL_S = IS_LONG ? 200 : 2;
// A process that takes so much longer hangs, also on a busy machine.
const ENDED_WITHIN_MS = 300_000;

test('in memory, an hour is simulated without a fault', async (each) => {
  for (const seed of SEEDS) each.diagnostic(await run('memory', seed, SIMULATED_S));
});

describe('on Redis', () => {
  let redis;

  before(async () => { redis = await RedisServer.start(); });
  after(async () => { await redis.remove(); });

  for (const kind of ['url', 'ioredis']) {
    for (const seed of SEEDS) {
      test(`by ${kind}, seed ${seed}`, async (each) => {
        each.diagnostic(await run(kind, seed, REAL_S, String(redis.port)));
      });
    }
  }
});

// Runs a mixture and returns its figures. The process has to end by itself.
async function run(kind, seed, seconds, ...port) {
  const timeout = 1000 * seconds + ENDED_WITHIN_MS;
  const given = [PROCESS, kind, String(seed), String(seconds), ...port];
  const { stdout } = await promisify(execFile)(process.execPath, given, { timeout, killSignal: 'SIGKILL' });
  return `${kind}, seed ${seed}: ${stdout.trim()}`;
}
