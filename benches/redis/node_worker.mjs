/**
 * The Node side of compare.py: reads its lines, makes the calls that each line asks for, and
 * answers with a line of JSON that says what they took. See benches/src/redis/main.rs for the lines.
 */

import { createInterface } from 'node:readline';

import { Ratelimit } from '@upstash/ratelimit';
import { Redis as Upstash } from '@upstash/redis';
import { Redis } from 'ioredis';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';

const { REDIS_URL, UPSTASH_URL, TIDEGATE } = process.env;
const { createLimiter } = await import(TIDEGATE);

const DAY = 86_400;
const [HOT, SPREAD, EXHAUSTED] = [[10_000_000, 1], [100_000, DAY], [1, DAY]]; // tokens per seconds
const MOST_HOT_KEYS = 64;
const PRIME = 1_000_003;
// How long any contender waits for the server. No measured call comes near it; it only has to be
// longer than a busy machine may leave a process without the processor.
const PATIENCE_MS = 30_000;

const CONTENDERS = {
  tidegate(tokens, seconds) {
    const options = { limits: `${tokens}/${seconds}s`, store: REDIS_URL, prefix: `node-${tokens}` };
    const limiter = createLimiter({ ...options, storeTimeoutMs: PATIENCE_MS, denyCacheMs: 0 });
    return async (key) => (await limiter.check(key)).allowed;
  },

  'tidegate-ioredis'(tokens, seconds) {
    return overClient(new Redis(REDIS_URL), tokens, seconds);
  },

  'tidegate-upstash'(tokens, seconds) {
    return overClient(new Upstash({ url: UPSTASH_URL, token: 'none', enableTelemetry: false }), tokens, seconds);
  },

  'rate-limiter-flexible'(tokens, seconds) {
    const options = { points: tokens, duration: seconds, keyPrefix: `rlf-${tokens}` };
    const limiter = new RateLimiterRedis({ ...options, storeClient: new Redis(REDIS_URL) });
    return async (key) => {
      try {
        await limiter.consume(key);
        return true;
      } catch (refusal) {
        if (refusal instanceof RateLimiterRes) return false;
        throw refusal;
      }
    };
  },

  // Version 2.0.8: the scripts of later ones have a flag that only Upstash's servers know.
  '@upstash/ratelimit'(tokens, seconds) {
    const redis = new Upstash({ url: UPSTASH_URL, token: 'none', enableTelemetry: false });
    const window = Ratelimit.fixedWindow(tokens, `${seconds} s`);
    // It keeps no refusals, as our limiters here do not. Without a timeout of its own (0): after
    // one it would allow the call, which is a wrong answer here.
    const options = { redis, limiter: window, prefix: `upstash-${tokens}`, ephemeralCache: false, timeout: 0 };
    const limiter = new Ratelimit(options);
    return async (key) => (await limiter.limit(key)).success;
  },

  // Calls a script that does nothing, to measure the client and the server without any limiter.
  bare() {
    const client = new Redis(REDIS_URL);
    const loading = client.script('LOAD', 'return 1');
    return async (key) => (await client.evalsha(await loading, 1, key)) === 1;
  },
};

let lastClient = 0;

function overClient(store, tokens, seconds) {
  lastClient += 1;
  const options = { limits: `${tokens}/${seconds}s`, prefix: `client-${lastClient}`, storeTimeoutMs: PATIENCE_MS };
  const limiter = createLimiter({ ...options, store, denyCacheMs: 0 });
  return async (key) => (await limiter.check(key)).allowed;
}

const made = new Map();

function contender(name, [tokens, seconds]) {
  const id = `${name} ${tokens}`;
  if (!made.has(id)) made.set(id, CONTENDERS[name](tokens, seconds));
  return made.get(id);
}

async function exhaust(name, keys) {
  const check = contender(name, EXHAUSTED);
  let next = 0;
  await together(64, async () => {
    while (next < keys) await check(`user:${next++}`);
  });
  return {};
}

async function run(name, keys, outcome, concurrency, milliseconds) {
  const limit = outcome === 'deny' ? EXHAUSTED : keys <= MOST_HOT_KEYS ? HOT : SPREAD;
  const check = contender(name, limit);
  const spent = [];
  let allowed = 0;
  let begun = 0;
  const [cpu, start] = [process.cpuUsage(), performance.now()];
  const end = start + milliseconds;
  await together(concurrency, async () => {
    let before = performance.now();
    // At least one call: on a busy machine all of the time may pass before it begins.
    while (before < end || begun === 0) {
      begun += 1;
      if (await check(`user:${(begun * PRIME) % keys}`)) allowed += 1;
      const after = performance.now();
      spent.push(after - before);
      before = after;
    }
  });
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  spent.sort((a, b) => a - b);
  const quantile = (q) => spent[Math.round((spent.length - 1) * q)] * 1000;
  const [p50_us, p99_us] = [quantile(0.5), quantile(0.99)];
  return { calls: spent.length, allowed, seconds, cpu_seconds: (user + system) / 1e6, p50_us, p99_us };
}

function together(count, task) {
  return Promise.all(Array.from({ length: count }, task));
}

function answer(line) {
  const [what, name, keys, outcome, concurrency, milliseconds] = line.split(' ');
  if (what === 'exhaust') return exhaust(name, Number(keys));
  return run(name, Number(keys), outcome, Number(concurrency), Number(milliseconds));
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(line)));
}
process.exit(0);
