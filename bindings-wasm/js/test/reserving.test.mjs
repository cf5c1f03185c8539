/** `reserving` in memory, declared with `await using`, and in runtimes without `Symbol.asyncDispose`. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as api from 'tidegate-wasm';

import { testHandingOn, testReserving } from './reserving.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

// The oldest Node that is supported cannot read `await using` itself, so TypeScript compiles it.
const PROGRAM = `
import { createLimiter } from 'tidegate-wasm';

const limiter = createLimiter({ limits: '100/d' });
let kept;
{
  await using settled = await limiter.reserving('key', { cost: 40 });
  await settled.settle(15);
  await using charge = await limiter.reserving('key', { cost: 40 });
  kept = charge;
}
console.log(limiter.peekSync('key', 0).remaining, await kept.cancel());
`;

testReserving(api.createLimiter, api);
testHandingOn(api.createLimiter);

test('a charge can be declared with await using', () => {
  const [source, compiled] = [here('using.mts'), here('using.mjs')];
  writeFileSync(source, PROGRAM);
  try {
    const options = ['--strict', '--target', 'es2022', '--module', 'node16', '--lib', 'es2022,dom', '--types', ''];
    execFileSync(process.execPath, [here('../node_modules/typescript/bin/tsc'), ...options, source]);
    assert.equal(run(compiled), '45 false');
  } finally {
    rmSync(source, { force: true });
    rmSync(compiled, { force: true });
  }
});

test('where the runtime has no Symbol.asyncDispose, a charge does without', () => {
  const program = `
    const { iterator, asyncIterator, toStringTag, hasInstance, for: registered } = Symbol;
    globalThis.Symbol = { iterator, asyncIterator, toStringTag, hasInstance, for: registered };
    const { Charge, createLimiter } = await import('tidegate-wasm');
    const limiter = createLimiter({ limits: '100/d' });
    const charge = await limiter.reserving('key', { cost: 40 });
    await charge.settle(15);
    const named = [...Object.getOwnPropertyNames(Charge.prototype), ...Object.getOwnPropertySymbols(Charge.prototype)];
    console.log(limiter.peekSync('key', 0).remaining, named.map((name) => name.toString()).join());`;
  assert.equal(run('--input-type=module', '--eval', program), '85 constructor,settle,cancel');
});

test('a FakeClock moves to the slot', async () => {
  const clock = new api.FakeClock();
  const limiter = api.createLimiter({ limits: '2/s burst 1', clock });
  for (let slot = 0; slot < 3; slot++) await limiter.reserving('key', { cost: 1 }, () => {});
  assert.equal(clock.now(), 1_000_000_000n);
});

function run(...given) {
  const { stdout, stderr } = spawnSync(process.execPath, given, { cwd: here('.'), encoding: 'utf8', timeout: 20_000 });
  assert.equal(stderr, '');
  return stdout.trim();
}
