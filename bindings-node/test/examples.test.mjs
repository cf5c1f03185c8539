/** The examples of the README run as they are written, on a Redis of their own. */

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

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const programs = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, program]) => program);
assert.ok(programs.some((program) => program.includes(URL_IN_EXAMPLES)), 'no example uses a server');

programs.forEach((program, number) => {
  test(`example ${number + 1} of README.md runs`, () => {
    const options = { cwd: HERE, encoding: 'utf8', timeout: 20_000 };
    // The default timeout is for servers, not for machines that are busy with tests.
    const input = program.replaceAll(`'${URL_IN_EXAMPLES}'`, `'${redis.url}', storeTimeoutMs: 5000`);
    const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', input], options);
    assert.deepEqual([status, stderr], [0, '']);
  });
});
