/** The examples of the README and of docs/concurrency.md run as they are written, on a Redis of their own. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { RedisServer } from './redis-server.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const URL_IN_EXAMPLES = 'redis://127.0.0.1:6379';

let redis;

before(async () => {
  redis = await RedisServer.start();
});

after(() => redis.remove());

const programs = ['../README.md', '../../docs/concurrency.md'].flatMap((file) => {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8');
  const found = [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, program]) => ({ file: file.replaceAll('../', ''), program }));
  assert.ok(found.length > 0, file);
  return found;
});
assert.ok(programs.some(({ program }) => program.includes(URL_IN_EXAMPLES)), 'no example uses a server');

programs.forEach(({ file, program }, number) => {
  test(`example ${number + 1}, of ${file}, runs`, () => {
    const options = { cwd: HERE, encoding: 'utf8', timeout: 20_000 };
    // The default timeout is for servers, not for machines that are busy with tests.
    const input = program.replaceAll(`'${URL_IN_EXAMPLES}'`, `'${redis.url}', storeTimeoutMs: 5000`);
    const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', input], options);
    assert.deepEqual([status, stderr], [0, '']);
  });
});
