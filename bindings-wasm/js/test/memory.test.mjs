/** The entry point `tidegate-wasm/memory`: the meaning of the full one, and what it leaves out. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import { build } from 'esbuild';
import * as full from 'tidegate-wasm';
import * as api from 'tidegate-wasm/memory';

import { testVectorsOfMemory } from './conformance.mjs';
import { testWaitingVectors } from './waiting-vectors.mjs';

testVectorsOfMemory(api);
testWaitingVectors(api);

test('it has every name of the full entry but those of calls to vendors', () => {
  const left = Object.keys(full).filter((name) => !(name in api));
  assert.deepEqual(left.sort(), ['Outbound', 'Signal', 'createOutbound', 'readSignal']);
  assert.deepEqual(Object.keys(api).filter((name) => !(name in full)), []);
});

test('options for other stores have no effect, and other stores are refused', () => {
  const options = { limits: '1/s', prefix: 'p', storeTimeoutMs: 50, onStoreError: 'allow', denyCacheMs: 5, lease: { ttlMs: 1000 } };
  assert.equal(api.createLimiter({ ...options, store: 'memory://' }).checkSync('key').allowed, true);
  const refused = { code: 'invalid_argument', message: /^invalid store: tidegate-wasm\/memory has memory only: .* from tidegate-wasm / };
  for (const store of ['redis://host', { eval: () => {} }]) assert.throws(() => api.createLimiter({ limits: '1/s', store }), refused);
});

test('limits, clocks and errors of either entry are those of the other', async () => {
  const clock = new full.FakeClock();
  const limiter = api.createLimiter({ limits: full.limit('1/s'), clock });
  await limiter.acquire('key');
  await limiter.acquire('key');
  assert.equal(clock.now(), 1_000_000_000n);
  assert.throws(() => api.createLimiter({ limits: '10/fortnight' }), full.InvalidLimit);
});

test('memory is bounded, and pressure counts what found no room', () => {
  const clock = new api.FakeClock();
  for (const onFull of ['deny', 'evict_idlest']) {
    const limiter = api.createLimiter({ limits: '1/h', clock, maxKeys: 100, onFull });
    const allowed = Array.from({ length: 1000 }, (_, at) => limiter.checkSync(`key:${at}`)).filter((each) => each.allowed);
    assert.equal(allowed.length, onFull === 'deny' ? 100 : 1000);
    const { denied, evicted } = limiter.pressure;
    assert.deepEqual([denied, evicted], onFull === 'deny' ? [900, 0] : [0, 900]);
  }
});

test('a bundle in which nothing of it is used has nothing of it', async () => {
  const { outputFiles: [{ text }] } = await bundle("import { createLimiter } from 'tidegate-wasm/memory'; console.log(1);");
  assert.ok(text.length < 100, text);
});

test('a bundle for browsers decides', async () => {
  const { outputFiles: [{ text }] } = await bundle(`
    import { createLimiter } from 'tidegate-wasm/memory';
    const limiter = createLimiter({ limits: '2/d' });
    console.log([1, 2, 3].map(() => limiter.checkSync('key').allowed).join());`);
  const printed = execFileSync(process.execPath, ['--input-type=module', '-'], { input: text, encoding: 'utf8' });
  assert.equal(printed, 'true,true,false\n');
});

function bundle(contents) {
  const resolveDir = fileURLToPath(new URL('.', import.meta.url));
  return build({ stdin: { contents, resolveDir }, bundle: true, minify: true, platform: 'browser', format: 'esm', write: false, logLevel: 'error' });
}
