/** The examples of the README and of the declarations run as they are written. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { nonEmpty } from './conformance.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
// The lines that an example needs before it, if it does not have its own.
const GIVEN = {
  import: "import { Limits, createLimiter, createOutbound, readSignal } from 'tidegate-wasm';\n",
  limiter: "const limiter = createLimiter({ limits: '60000/min' });\n",
};

for (const { name, program } of [...examplesOf('../README.md'), ...examplesOf('../lib/index.d.ts'), ...examplesOf('../../../docs/outbound.md')]) {
  test(`${name} runs`, () => {
    const given = (word, text) => (new RegExp(word).test(program) ? '' : text);
    const whole = given('^import ', GIVEN.import) + (/\blimiter\./.test(program) ? given('const limiter ', GIVEN.limiter) : '') + program;
    const options = { cwd: HERE, encoding: 'utf8', timeout: 20_000 };
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', whole], options);
    assert.deepEqual([status, stderr], [0, '']);
    const promised = [...program.matchAll(/console\.log\(.*\); \/\/ (\S+?)(?:: .*)?$/gm)].map(([, value]) => value);
    if (promised.length > 0) assert.deepEqual(stdout.trim().split('\n'), promised);
  });
}

function examplesOf(file) {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8').replaceAll(/^ *\* ?/gm, '');
  const blocks = [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, program]) => program);
  return nonEmpty(blocks).map((program, number) => ({ name: `example ${number + 1} of ${file.slice(3)}`, program }));
}
