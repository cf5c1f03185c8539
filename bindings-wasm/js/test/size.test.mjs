/** The size of the WebAssembly module that the README names. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

const MODULE = new URL('../dist/tidegate_wasm_bg.wasm', import.meta.url);
// Another version of the compiler makes a module of another size.
const TOLERANCE_KB = 3;

test('the module is as large as the README says', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, said] = readme.match(/WebAssembly module of (\d+) kB \(gzip\)/);
  const size = gzipSync(readFileSync(MODULE), { level: 9 }).length / 1000;
  assert.ok(Math.abs(size - Number(said)) <= TOLERANCE_KB, `it has ${size} kB, and the README says ${said}`);
});
