/** Arguments that are made to confuse: each is a typed error, in one line, and the process can end. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { InvalidArgument, InvalidLimit, StoreError, TidegateError, createLimiter } from '../dist/index.js';

const CLIENT = { callBuffer: async () => assert.fail('nothing is sent') };
const STORES = ['memory://', 'redis://127.0.0.1:1', CLIENT];
// biome-ignore lint/suspicious/noSparseArray: it is what is tested
const SPARSE = [, 'a'];

test('a key that is no key is an InvalidArgument in every method', async () => {
  const keys = [SPARSE, new Array(2), [new Proxy(new Uint8Array(2), {}), 'a'], new Proxy(new Uint8Array(2), {}), ['a', null], {}, null];
  for (const store of STORES) {
    const limiter = createLimiter({ limits: ['1/d', '2/d'], store });
    for (const key of keys) {
      const calls = [
        limiter.check(key),
        limiter.peek(key),
        limiter.reserve(key),
        limiter.acquire(key),
        limiter.settle(key, 1, 0),
        limiter.credit(key, 1),
        limiter.hold(key, 1),
        limiter.reset(key),
        limiter.checkMany(['fine', { key }]),
      ];
      for (const call of calls) await assert.rejects(call, InvalidArgument);
      assert.throws(() => limiter.waiting(key), InvalidArgument);
    }
    limiter.close();
  }
});

test('a Proxy of an array is the array of its elements', async () => {
  const limiter = createLimiter({ limits: ['1/d', '2/d'] });
  assert.ok(limiter.checkSync(new Proxy(['user', 'org'], {})).allowed);
  assert.ok(!limiter.checkSync(['user', 'org']).allowed);
});

test('checks with holes are refused', async () => {
  for (const store of STORES) {
    const limiter = createLimiter({ limits: '1/d', store });
    await assert.rejects(limiter.checkMany(SPARSE), InvalidArgument);
    limiter.close();
  }
});

test('a process whose calls were refused, or were made with a Proxy, can end', () => {
  const program = `
    import { createLimiter } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url))};
    const limiter = createLimiter({ limits: ['1/d', '2/d'], store: 'redis://127.0.0.1:1' });
    const codes = [];
    for (const key of [[, 'a'], new Proxy(new Uint8Array(2), {}), new Proxy(['a', 'b'], {})]) {
      for (const call of [() => limiter.check(key), () => limiter.checkMany([key]), () => limiter.reserve(key)]) {
        await call().catch(({ code }) => codes.push(code));
      }
    }
    console.log(JSON.stringify(codes));
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8', timeout: 120_000 });
  const [refused, failed] = ['invalid_argument', 'store_error'];
  assert.deepEqual(JSON.parse(output), [refused, refused, refused, refused, refused, refused, failed, failed, failed]);
});

test('a message is one line, whatever it repeats', () => {
  const hostile = 'a\u001b[31m\r\nINFO forged\u2028\u009b';
  const limiter = createLimiter({ limits: '1/d' });
  const failing = [
    [InvalidLimit, () => createLimiter({ limits: hostile })],
    [InvalidArgument, () => createLimiter({ limits: '1/d', [hostile]: 1 })],
    [InvalidArgument, () => createLimiter({ limits: '1/d', store: 'redis://a\u001b[31mb' })],
    [InvalidArgument, () => limiter.checkSync('a', hostile)],
    [TidegateError, () => createLimiter({ limits: '1/d', onFull: hostile })],
    [StoreError, () => { throw new StoreError(`store error: ${hostile}`); }],
  ];
  for (const [kind, call] of failing) {
    assert.throws(call, (error) => {
      assert.ok(error instanceof kind, `${error}`);
      assert.doesNotMatch(error.message, /[\p{Cc}\p{Zl}\p{Zp}]/u);
      return true;
    });
  }
});
