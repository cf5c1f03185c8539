/** How many keys memory has room for, what happens beyond, and what happens when there is no memory left. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { FakeClock, InvalidArgument, createLimiter } from '../dist/index.js';

const KEYS = Array.from({ length: 1000 }, (_, number) => `user:${number}`);
const DAY_MS = 86_400_000;

test('there is room for a million keys unless told otherwise', () => {
  const limiter = createLimiter({ limits: '1/d' });
  assert.ok(limiter.checkManySync(KEYS).every(({ allowed }) => allowed));
  assert.ok(!limiter.checkManySync(KEYS).some(({ allowed }) => allowed));
  assert.deepEqual({ ...limiter.pressure }, { evicted: 0, denied: 0 });
});

test('deny refuses new keys and forgets no debt', () => {
  const clock = new FakeClock(0n);
  const limiter = createLimiter({ limits: '1/d', maxKeys: 100, onFull: 'deny', clock });
  const decisions = limiter.checkManySync(KEYS);
  const kept = KEYS.filter((_, at) => decisions[at].allowed);
  assert.ok(kept.length >= 100 && kept.length < 300, `${kept.length}`);
  assert.deepEqual({ ...limiter.pressure }, { evicted: 0, denied: KEYS.length - kept.length });
  assert.ok(!limiter.checkManySync(kept).some(({ allowed }) => allowed));
  const refused = decisions.findIndex(({ allowed }) => !allowed);
  assert.ok(Math.abs(decisions[refused].retryAfterMs - DAY_MS) <= 1, `${decisions[refused].retryAfterMs}`);
  clock.advance(decisions[refused].retryAfterMs);
  assert.ok(limiter.checkSync(KEYS[refused]).allowed);
});

for (const options of [{}, { onFull: 'evict_idlest' }]) {
  test(`evicting admits new keys and says so, with ${JSON.stringify(options)}`, () => {
    const limiter = createLimiter({ limits: '1/d', maxKeys: 100, clock: new FakeClock(0n), ...options });
    assert.ok(limiter.checkManySync(KEYS).every(({ allowed }) => allowed));
    const { evicted, denied } = limiter.pressure;
    assert.ok(evicted > KEYS.length - 300 && evicted <= KEYS.length - 100, `${evicted}`);
    assert.equal(denied, 0);
    limiter.close();
    assert.deepEqual({ ...limiter.pressure }, { evicted, denied });
  });
}

test('two limits have the room for each of their keys', () => {
  const limiter = createLimiter({ limits: ['1/d', '2/d'], maxKeys: 100, onFull: 'deny' });
  const admitted = KEYS.filter((key) => limiter.checkSync([key, 'everybody']).allowed);
  assert.equal(admitted.length, 2);
  assert.deepEqual({ ...limiter.pressure }, { evicted: 0, denied: 0 });
});

test('the number of keys is what there is room for: a table has ten slots for seven keys, and at least eight', () => {
  for (const [maxKeys, kept] of [[1, 8], [100, 144]]) {
    const limiter = createLimiter({ limits: '1/d', maxKeys, onFull: 'deny' });
    const allowed = Array.from({ length: 10_000 }, (_, number) => limiter.checkSync(`user:${number}`).allowed);
    assert.equal(allowed.filter(Boolean).length, kept);
  }
});

test('a number of keys or a policy outside its bounds is refused', () => {
  for (const maxKeys of [0, -1, 100_000_001, 1.5, '3', null, NaN]) {
    assert.throws(() => createLimiter({ limits: '1/s', maxKeys }), (error) => {
      return error instanceof InvalidArgument && /^invalid maxKeys: .*from 1 to 100000000/.test(error.message);
    });
  }
  for (const onFull of ['', 'Deny', 'evict', 1, null]) {
    assert.throws(() => createLimiter({ limits: '1/s', onFull }), (error) => {
      return error instanceof InvalidArgument && /^invalid onFull: it must be "evict_idlest" or "deny"/.test(error.message);
    });
  }
});

// Each of these runs in a process of its own, because the memory of the module never shrinks.

test('a flood of keys that owe takes at most 48 bytes for each, and no call waits long for it', () => {
  const { bytes, worstMs } = measure(`
    const keys = 100_000;
    const limiter = createLimiter({ limits: '1/d' });
    const before = memory().buffer.byteLength;
    const stalls = [];
    for (let number = 0; number < keys; number++) {
      const started = performance.now();
      limiter.checkSync('192.168.0.1:' + number);
      stalls.push(performance.now() - started);
    }
    // What a growing table leaves free is no part of a key.
    const bytes = (memory().buffer.byteLength - before - SPARE_BYTES) / keys;
    // The machine may be busy with something else in a few calls; growing is done in one of them.
    console.log(JSON.stringify({ bytes, worstMs: stalls.sort((a, b) => b - a)[0] }));
  `);
  assert.ok(bytes <= 48, `${bytes} bytes a key`);
  assert.ok(worstMs < 250, `a call of ${worstMs} ms`);
});

test('a flood beyond the room takes no more memory, whatever the policy', () => {
  for (const onFull of ['evict_idlest', 'deny']) {
    const { grown, pressure } = measure(`
      const limiter = createLimiter({ limits: '1/d', maxKeys: 10_000, onFull: '${onFull}' });
      const check = (from, to) => {
        for (let number = from; number < to; number++) limiter.checkSync('key ' + number);
        return memory().buffer.byteLength;
      };
      const filled = check(0, 20_000);
      const grown = check(20_000, 120_000) - filled;
      console.log(JSON.stringify({ grown, pressure: limiter.pressure }));
    `);
    assert.equal(grown, 0);
    const counted = onFull === 'deny' ? 'denied' : 'evicted';
    assert.ok(pressure[counted] > 100_000, JSON.stringify(pressure));
    assert.equal(pressure.evicted + pressure.denied, pressure[counted]);
  }
});

test('a closed limiter leaves its memory to the next one', () => {
  const { grown } = measure(`
    const fill = () => {
      const limiter = createLimiter({ limits: '1/d' });
      for (let number = 0; number < 20_000; number++) limiter.checkSync('key ' + number);
      limiter.close();
      return memory().buffer.byteLength;
    };
    const first = fill();
    for (let round = 0; round < 20; round++) fill();
    console.log(JSON.stringify({ grown: fill() - first }));
  `);
  assert.equal(grown, 0);
});

for (const onFull of ['evict_idlest', 'deny']) {
  test(`without memory a limiter lives on and does what is full, with ${onFull}`, () => {
    const { allowed, evicted, denied, held, refused, waited, usable } = measure(`
      const limiter = createLimiter({ limits: '1/d', onFull: '${onFull}' });
      const other = createLimiter({ limits: '1/d' });
      limiter.checkSync('held');
      other.peekSync('held', 0);
      useUpMemory();
      let allowed = 0;
      for (let number = 0; number < 200_000; number++) if (limiter.checkSync('key ' + number).allowed) allowed++;
      const { evicted, denied } = limiter.pressure;
      const held = limiter.checkSync('held', 0).remaining;
      // Small things eat what a growing table has left, until a limiter cannot be used.
      const limiters = [];
      let refused;
      while (refused === undefined && limiters.length < 1_000_000) {
        try {
          limiters.push(createLimiter({ limits: '1/d' }));
          limiters.at(-1).peekSync('key', 0);
        } catch (error) {
          refused = [error.name, error.code, error.message];
        }
      }
      limiter.checkSync('key 1');
      const waited = await limiter.acquire('key 1').catch((error) => [error.name, error.code]);
      other.checkSync('key 1');
      for (const each of limiters) each.close();
      createLimiter({ limits: '1/d' }).checkSync('key 1');
      const usable = limiter.checkSync('key 2', 0).allowed;
      console.log(JSON.stringify({ allowed, evicted, denied, held, refused, waited, usable }));
    `);
    if (onFull === 'deny') assert.deepEqual([evicted, allowed + denied, held], [0, 200_000, 0]);
    else assert.equal(allowed, 200_000);
    assert.ok(evicted + denied > 0);
    const [name, code, message] = refused;
    assert.deepEqual([name, code], ['StoreError', 'store_error']);
    assert.match(message, /memory .* used up/);
    assert.deepEqual(waited, ['StoreError', 'store_error']);
    assert.ok(usable);
  });
}

// What a program prints as JSON that has these names.
function measure(program) {
  const start = `
    import { createLimiter } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url))};
    import { initSync } from ${JSON.stringify(new URL('../dist/tidegate_wasm.js', import.meta.url))};
    // The module runs already, and this returns its exports.
    const memory = () => initSync().memory;
    const SPARE_BYTES = 1 << 20;
    // Takes all memory that the module could still have.
    function useUpMemory() {
      for (let pages = 32_768; pages > 0; ) {
        try {
          memory().grow(pages);
        } catch {
          pages >>= 1;
        }
      }
    }
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', start + program], { encoding: 'utf8' });
  return JSON.parse(output);
}
