/** Compiles types.ts, in which the type declarations are tested. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

for (const [how, file] of [['import', 'types.mts'], ['require', 'types.cts']]) {
  test(`the declarations hold for ${how}`, () => {
    const copy = here(file);
    copyFileSync(here('types.ts'), copy);
    try {
      compile(copy);
    } finally {
      rmSync(copy);
    }
  });
}

function compile(file) {
  const options = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'node16'];
  options.push('--lib', 'es2022,dom', '--types', '');
  const compiler = here('../node_modules/typescript/bin/tsc');
  try {
    execFileSync(process.execPath, [compiler, ...options, file], { encoding: 'utf8' });
  } catch (error) {
    assert.fail(error.stdout);
  }
}
