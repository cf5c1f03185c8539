// The entry point for edge runtimes, under their rules: modules are imported, never compiled at
// run time, and before the first request there is neither randomness nor a clock.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const HERE = fileURLToPath(new URL('.', import.meta.url));

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

test('the limiter works under the rules of an edge runtime', () => {
  const flags = ['--conditions', 'workerd', '--import', `data:text/javascript,${encodeURIComponent(RULES)}`];
  flags.push('--input-type=module', '--eval', PROGRAM);
  const output = execFileSync(process.execPath, flags, { cwd: HERE, encoding: 'utf8' });
  assert.equal(output, '0 2/d window true false\nrate_limited true\n');
});
