/** Compiles all texts of grammar.json: the types accept the grammar, and refuse a text outside it where it is written. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { valid, invalid } = JSON.parse(readFileSync(here('../../../tests/vectors/grammar.json'), 'utf8'));

/** The reasons of texts that are outside the grammar. The others break a bound, which the types do not know. */
const OF_GRAMMAR = ['syntax', 'unknown_unit', 'tokens_not_positive', 'period_not_positive', 'burst_not_positive'];

test('the types read the grammar', () => {
  const lines = ["import { createLimiter } from 'tidegate-wasm';"];
  const refused = new Set();
  for (const { text, reason } of [...valid, ...invalid]) {
    // A number may be too large in a spelling that is outside the grammar too, such as `1e99`.
    if (reason === 'number_too_large') continue;
    lines.push(`createLimiter({ limits: ${JSON.stringify(text)} });`);
    if (OF_GRAMMAR.includes(reason)) refused.add(lines.length);
  }
  const found = linesWithErrors('grammar.mts', lines);
  const texts = (numbers) => [...numbers].map((number) => lines[number - 1]);
  assert.ok(refused.size > 60 && valid.length > 70);
  assert.deepEqual(texts(found), texts(refused));
});

/** The numbers, from 1, of the lines with an error of types. */
function linesWithErrors(name, lines) {
  const file = here(name);
  const options = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'node16', '--lib', 'es2022,dom', '--types', ''];
  writeFileSync(file, lines.join('\n'));
  try {
    const { stdout } = spawnSync(
      process.execPath, [here('../node_modules/typescript/bin/tsc'), ...options, '--pretty', 'false', file], { encoding: 'utf8' },
    );
    const errors = stdout.split('\n').filter((line) => /error TS/.test(line));
    const places = errors.map((line) => [line, /grammar\.mts\((\d+),/.exec(line)?.[1]]);
    for (const [line, place] of places) assert.ok(place !== undefined && /TS2769|TS2322/.test(line), line);
    return new Set(places.map(([, place]) => Number(place)));
  } finally {
    rmSync(file);
  }
}
