/** The sizes that the README names: of the module, and of the entry point for memory alone. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const DIST = new URL('../dist/', import.meta.url);
const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
// Another version of the compiler makes a module of another size.
const TOLERANCE_KB = 3;

const zipped = (bytes) => gzipSync(bytes, { level: 9 }).length / 1000;
const moduleSize = (folder) => zipped(readFileSync(new URL(`${folder}tidegate_wasm_bg.wasm`, DIST)));

// The JavaScript of an entry point without its module.
async function scriptSize(path) {
  const { outputFiles: [{ contents }] } = await build({
    entryPoints: [fileURLToPath(new URL(path, DIST))],
    bundle: true, minify: true, format: 'esm', write: false, logLevel: 'error', external: ['*/module-bytes.js', '#memory-runtime'],
  });
  return zipped(contents);
}

function assertSaid(size, pattern) {
  const [, said] = README.match(pattern);
  assert.ok(Math.abs(size - Number(said)) <= TOLERANCE_KB, `it has ${size} kB, and the README says ${said}`);
}

test('the module is as large as the README says', () => {
  assertSaid(moduleSize(''), /WebAssembly module of (\d+) kB \(gzip\)/);
});

test('the entry point for memory alone is as large as the README says, a third of the full one', async () => {
  const [full, memory] = [moduleSize('') + await scriptSize('index.js'), moduleSize('memory/') + await scriptSize('memory/index.js')];
  assertSaid(memory, /`tidegate-wasm\/memory` .*\s*(\d+) kB \(gzip\) with its JavaScript/);
  assertSaid(full, /instead of (\d+) kB/);
  assert.ok(memory < 0.34 * full, `${memory} kB of ${full} kB`);
});
