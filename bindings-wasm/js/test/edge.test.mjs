/**
 * The entry point for edge runtimes, under their rules: modules are imported and never compiled at
 * run time, and there is neither randomness nor a clock before the first request.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import { RedisServer } from '../../../bindings-node/test/redis-server.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const FORWARDER = fileURLToPath(new URL('../../../tests/end_to_end/upstash_forwarder.mjs', import.meta.url));

const HOOKS = `
export async function load(url, context, next) {
  if (!url.endsWith('.wasm')) return next(url, context);
  const source = \`import { readFileSync } from 'node:fs';
    export default new globalThis.CompiledAhead(readFileSync(new URL('\${url}')));\`;
  return { format: 'module', source, shortCircuit: true };
}`;

const RULES = `
import { register } from 'node:module';
register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(HOOKS)}));

globalThis.CompiledAhead = WebAssembly.Module;
WebAssembly.Module = new Proxy(WebAssembly.Module, {
  construct() { throw new Error('compiled at run time'); },
});
const [random, now] = [crypto.getRandomValues, Date.now];
crypto.getRandomValues = () => { throw new Error('randomness before the first request'); };
Date.now = () => 0;
performance.now = () => 0;
globalThis.beginRequest = () => {
  crypto.getRandomValues = random;
  Date.now = now;
  performance.now = () => now.call(Date);
};`;

const PROGRAM = `
const { createLimiter } = await import('tidegate-wasm');
const limiter = createLimiter({ limits: ['5/s', '2/d window'] });
beginRequest();
const started = Date.now();
const { remaining, limitName, resetAfterMs } = await limiter.check('key', { cost: 2 });
const difference = Math.abs(86_400_000 - (started % 86_400_000) - resetAfterMs);
console.log(remaining, limitName, difference < 2000, (await limiter.check('key')).allowed);
const waiter = createLimiter({ limits: '20/s burst 1' });
for (let slot = 0; slot < 3; slot++) await waiter.acquire('key', { timeoutMs: 60 });
const { code } = await waiter.acquire('key', { timeoutMs: 0 }).catch((error) => error);
console.log(code, Date.now() - started >= 100);
`;

// The client, too, is made before the first request, as programs do.
const SHARED = `
const { createLimiter } = await import('tidegate-wasm');
const { Redis } = await import('@upstash/redis/cloudflare');
const store = new Redis({ url: process.env.URL, token: 'secret', retry: false, enableTelemetry: false });
const limiter = createLimiter({ limits: '60/d', store, prefix: 'edge', storeTimeoutMs: 30_000 });
beginRequest();
const decisions = await Promise.all(Array.from({ length: 100 }, () => limiter.check('key')));
console.log(decisions.filter(({ allowed }) => allowed).length, decisions[0].source, decisions[59].remaining);
const reservation = await limiter.reserve('other', { cost: 60 });
console.log(reservation.allowed, await reservation.cancel(), (await limiter.peek('other', { cost: 0 })).remaining);
`;

const FAILING = `
const { createLimiter } = await import('tidegate-wasm');
const { Redis } = await import('@upstash/redis/cloudflare');
const store = new Redis({ url: 'http://127.0.0.1:1', token: 'secret', retry: false, enableTelemetry: false });
const options = { limits: '60/h', store, storeTimeoutMs: 30_000 };
const policies = [{}, { onStoreError: 'allow' }, { onStoreError: 'deny' }, { onStoreError: 'local', peers: 3 }];
const limiters = policies.map((policy) => createLimiter({ ...options, ...policy }));
beginRequest();
for (const limiter of limiters) {
  const { allowed, source, limit } = await limiter.check('key').catch(({ code }) => ({ source: code }));
  console.log(allowed, source, limit);
}
console.log(limiters[0].storeHealth.state, limiters[3].storeHealth.fallbacks);
`;

const LEASED = `
const { createLimiter } = await import('tidegate-wasm');
const { Redis } = await import('@upstash/redis/cloudflare');
const store = new Redis({ url: process.env.URL, token: 'secret', retry: false, enableTelemetry: false });
const limiter = createLimiter({ limits: '1000/s', store, storeTimeoutMs: 30_000, lease: { ttlMs: 1000 } });
beginRequest();
const deadline = Date.now() + 20_000;
while ((await limiter.check('key')).source !== 'lease' && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 1));
console.log((await limiter.check('key')).source);
let acquired = await limiter.acquire('waited');
while (acquired.source !== 'lease' && Date.now() < deadline) {
  await new Promise((resolve) => setTimeout(resolve, 1));
  acquired = await limiter.acquire('waited');
}
console.log(acquired.source);
const together = await Promise.all(Array.from({ length: 500 }, () => limiter.acquire('waited')));
console.log(together.every(({ allowed }) => allowed), together.some(({ source }) => source === 'redis'));
limiter.close();
`;

test('the limiter works under the rules of an edge runtime', () => {
  const output = runAtTheEdge(PROGRAM);
  assert.equal(output, '0 2/d window true false\nrate_limited true\n');
});

test('a shared bucket works there, over the REST API of Upstash', async () => {
  const redis = await RedisServer.start();
  const forwarder = spawn(process.execPath, [FORWARDER, String(redis.port), 'secret'], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const [port] = await once(forwarder.stdout, 'data');
    const output = runAtTheEdge(SHARED, { URL: `http://127.0.0.1:${String(port).trim()}` });
    assert.equal(output, '60 redis 0\ntrue true 60\n');
    assert.equal(redis.run('EXISTS', 'edge:{key}'), '1');
    assert.match(redis.run('INFO', 'commandstats'), /cmdstat_mget:calls=2,/, 'one call for the checks, one for the peek');
  } finally {
    forwarder.kill();
    await redis.remove();
  }
});

test('while Redis fails the policy answers', () => {
  const output = runAtTheEdge(FAILING);
  assert.equal(output, 'undefined store_error undefined\ntrue fallback 60\nfalse fallback 60\nfalse fallback 20\nopen 1\n');
});

test('a shared bucket is leased there', async () => {
  const redis = await RedisServer.start();
  const forwarder = spawn(process.execPath, [FORWARDER, String(redis.port), 'secret'], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const [port] = await once(forwarder.stdout, 'data');
    assert.equal(runAtTheEdge(LEASED, { URL: `http://127.0.0.1:${String(port).trim()}` }), 'lease\nlease\ntrue true\n');
  } finally {
    forwarder.kill();
    await redis.remove();
  }
});

function runAtTheEdge(program, environment = {}) {
  const flags = ['--conditions', 'workerd', '--import', `data:text/javascript,${encodeURIComponent(RULES)}`];
  flags.push('--input-type=module', '--eval', program);
  return execFileSync(process.execPath, flags, { cwd: HERE, encoding: 'utf8', env: { ...process.env, ...environment } });
}
