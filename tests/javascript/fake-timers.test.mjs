/** Suites of users who wait in `acquire` under the fake timers of node:test, sinon, Jest and vitest. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const RUNNERS = {
  'node:test and sinon': { command: ['--test', 'suite.node.mjs'], passed: /^# pass 20$/m },
  Jest: { command: [here('node_modules/jest/bin/jest.js'), '--ci', '--no-cache'], passed: /Tests: +4 passed, 4 total/ },
  vitest: { command: [here('node_modules/vitest/vitest.mjs'), 'run'], passed: /Tests +4 passed \(4\)/ },
};

for (const [name, { command, passed }] of Object.entries(RUNNERS)) {
  test(`acquire resolves under the fake timers of ${name}`, () => {
    const { NODE_TEST_CONTEXT: _, ...env } = { ...process.env, NO_COLOR: '1' };
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: here('projects/fake-timers'), encoding: 'utf8', env });
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout + stderr, passed);
  });
}
