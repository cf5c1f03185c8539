/** How long a process and its threads live that use limiters. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { RedisServer } from './redis-server.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
// This is long, because the machine may be busy. A process that hangs never ends.
const EXIT_WITHIN_MS = 60_000;

let redis;

before(async () => {
  redis = await RedisServer.start();
});

after(() => redis.remove());

test('a process with idle limiters ends by itself', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    const stores = ['memory://', '${redis.url}'];
    globalThis.limiters = stores.map((store) => createLimiter({ limits: '10/d', store, storeTimeoutMs: 5000 }));
    for (const limiter of limiters) console.log((await limiter.check('idle')).remaining);
  `);
  assert.deepEqual([code, output], [0, '9\n9\n']);
});

test('a process ends by itself with its own client', async () => {
  const { code, output } = await run(`
    import { Redis } from 'ioredis';
    import { createLimiter } from 'tidegate';
    const store = new Redis('${redis.url}');
    globalThis.limiter = createLimiter({ limits: '10/d', store, storeTimeoutMs: 60_000 });
    console.log((await limiter.check('own client')).remaining);
    store.disconnect();
  `);
  assert.deepEqual([code, output], [0, '9\n']);
});

test('a process waits for a client that keeps no process alive', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    const answers = [['1', '0', null], new Promise(() => {})];
    const store = { callBuffer: async () => answers.shift() };
    const limiter = createLimiter({ limits: '10/d', store, storeTimeoutMs: 200 });
    console.log((await limiter.check('k')).remaining);
    limiter.check('k').catch((error) => console.log(error.code));
  `);
  assert.deepEqual([code, output], [0, '9\nstore_timeout\n']);
});

test('a process waits for the answers of pending calls', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    const limiter = createLimiter({ limits: '10/d', store: '${redis.url}', storeTimeoutMs: 5000 });
    limiter.check('first').then(({ remaining }) => {
      console.log(remaining);
      return limiter.check('first');
    }).then(({ remaining }) => console.log(remaining));
  `);
  assert.deepEqual([code, output], [0, '9\n8\n']);
});

test('a call whose key the addon cannot read is refused, and the process ends', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    const limiter = createLimiter({ limits: '10/d', store: '${redis.url}', storeTimeoutMs: 5000 });
    // An object that passes for a Uint8Array in JavaScript, but not in the addon.
    const key = Object.create(Uint8Array.prototype, { length: { value: 3 } });
    await limiter.check(key).catch(() => console.log('refused'));
    console.log((await limiter.check('readable')).remaining);
  `);
  assert.deepEqual([code, output], [0, 'refused\n9\n']);
});

test('operations of all kinds side by side settle, and the process ends', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    const limiter = createLimiter({ limits: '1000000/s', store: '${redis.url}', storeTimeoutMs: 5000 });
    const operations = [
      (key) => limiter.check(key),
      (key) => limiter.check(key, { cost: 1_000_001 }),
      (key) => limiter.acquire(key),
      (key) => limiter.check(key),
      (key) => limiter.reserve(key).then((slot) => slot.cancel()),
      (key) => limiter.checkMany([key, 'another']),
      (key) => limiter.check(key),
      (key) => limiter.reserve(key).then((slot) => slot.settle(0)),
    ];
    const outcomes = new Set();
    // Callers of all kinds call again as soon as they have their answer, so that answers of all
    // kinds arrive while others are taken.
    await Promise.all(Array.from({ length: 24 }, async (_, caller) => {
      for (let call = 0; call < 1500; call++) {
        const operation = operations[(caller + call) % operations.length];
        await operation('key ' + caller % 3).then(() => outcomes.add('settled'), ({ code }) => outcomes.add(code));
      }
    }));
    console.log([...outcomes].sort().join());
  `);
  assert.deepEqual([code, output], [0, 'cost_too_large,settled\n']);
});

test('a limiter that nobody holds is collected', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    let collected = 0;
    const registry = new FinalizationRegistry(() => { collected++; });
    for (let number = 0; number < 10; number++) {
      const limiter = createLimiter({ limits: '10/d', store: '${redis.url}', storeTimeoutMs: 5000 });
      await limiter.check('collected');
      registry.register(limiter);
    }
    const deadline = Date.now() + 5000;
    while (collected < 5 && Date.now() < deadline) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    console.log(collected >= 5);
  `, '--expose-gc');
  assert.deepEqual([code, output], [0, 'true\n']);
});

test('threads spend from one bucket, and one that ends in the middle harms nobody', async () => {
  const { code, output } = await run(`
    import { Worker } from 'node:worker_threads';
    import { createLimiter } from 'tidegate';
    const limiter = createLimiter({ limits: '100/d', store: '${redis.url}', storeTimeoutMs: 5000 });
    const spend = async (count) => {
      const decisions = await Promise.all(Array.from({ length: count }, () => limiter.check('threads')));
      return decisions.filter(({ allowed }) => allowed).length;
    };
    const source = (work) => new URL('data:text/javascript,' + encodeURIComponent(work));
    const program = (count, key) => \`
      import { parentPort } from 'node:worker_threads';
      import { createLimiter } from '\${import.meta.resolve('tidegate')}';
      const limiter = createLimiter({ limits: '100/d', store: '${redis.url}', storeTimeoutMs: 5000 });
      const decisions = Array.from({ length: \${count} }, () => limiter.check('\${key}'));
      if ('\${key}' === 'abandoned') process.exit(0);
      parentPort.postMessage((await Promise.all(decisions)).filter(({ allowed }) => allowed).length);
    \`;
    const thread = (count, key) => new Promise((resolve, reject) => {
      const worker = new Worker(source(program(count, key)));
      let admitted = 0;
      worker.on('message', (message) => { admitted = message; });
      worker.on('error', reject);
      worker.on('exit', () => resolve(admitted));
    });
    const admitted = await Promise.all([
      spend(60), thread(60, 'threads'), thread(60, 'threads'), thread(50, 'abandoned'),
    ]);
    console.log(admitted.reduce((sum, count) => sum + count));
    console.log((await limiter.peek('threads', { cost: 0 })).remaining);
  `);
  assert.deepEqual([code, output], [0, '100\n0\n']);
});

test('processes spend from one bucket in shared memory, with and without a promise', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-processes-'));
  try {
    const outputs = await Promise.all([1, 2, 3, 4].map(() => run(`
      import { createLimiter } from 'tidegate';
      const limiter = createLimiter({ limits: '100/d', store: 'shm://processes?dir=${folder}' });
      let admitted = 0;
      for (let number = 0; number < 30; number++) {
        admitted += limiter.checkSync('key').allowed;
        admitted += (await limiter.check('key')).allowed;
      }
      console.log(admitted);
    `)));
    for (const { code, output } of outputs) assert.equal(code, 0, output);
    assert.equal(outputs.reduce((sum, { output }) => sum + Number(output), 0), 100);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a process lives for a wait', async () => {
  const { code, output } = await run(`
    import { createLimiter } from 'tidegate';
    const limiter = createLimiter({ limits: '20/s burst 1' });
    for (const number of [1, 2, 3]) limiter.acquire('key').then(() => console.log(number));
  `);
  assert.deepEqual([code, output], [0, '1\n2\n3\n']);
});

function run(program, ...flags) {
  return new Promise((resolve, reject) => {
    const node = spawn(process.execPath, [...flags, '--input-type=module', '--eval', program], { cwd: HERE });
    let output = '';
    node.stdout.on('data', (data) => { output += data; });
    node.stderr.on('data', (data) => { output += data; });
    const deadline = setTimeout(() => {
      node.kill('SIGKILL');
      reject(new Error(`the process did not end within ${EXIT_WITHIN_MS} ms: ${output}`));
    }, EXIT_WITHIN_MS);
    node.on('error', reject);
    node.on('close', (code) => {
      clearTimeout(deadline);
      resolve({ code, output });
    });
  });
}
