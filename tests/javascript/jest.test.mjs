/** Suites of users whose test runner loads modules as CommonJS: Jest as it is, and ts-jest. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const JEST = fileURLToPath(new URL('node_modules/jest/bin/jest.js', import.meta.url));

for (const [project, passed] of [['jest', 3], ['ts-jest', 2]]) {
  test(`a suite under ${project}`, () => {
    const cwd = fileURLToPath(new URL(`projects/${project}`, import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, [JEST, '--ci', '--no-cache'], { cwd, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.match(stderr, new RegExp(`Tests: +${passed} passed, ${passed} total`));
  });
}
