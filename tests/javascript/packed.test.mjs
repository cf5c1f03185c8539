/** The files that npm would publish: what the linters of packages say, and one copy of each class in Node. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { describe, test } from 'node:test';

import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

const require = createRequire(import.meta.url);
const ATTW = fileURLToPath(new URL('node_modules/@arethetypeswrong/cli/dist/index.js', import.meta.url));
const PROJECTS = new URL('projects/', import.meta.url);
const inProjects = (path) => fileURLToPath(new URL(path, PROJECTS));

for (const name of ['tidegate', 'tidegate-wasm']) {
  describe(name, () => {
    test('publint finds nothing', async () => {
      const pkgDir = inProjects(`node_modules/${name}`);
      const { messages, pkg } = await publint({ pkgDir, strict: true, pack: false });
      assert.deepEqual(messages.map((message) => formatMessage(message, pkg)), []);
    });

    test('the licences are in it, and no script runs where it is installed', () => {
      const files = readdirSync(inProjects(`node_modules/${name}`)).sort();
      assert.deepEqual(files, ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'package.json']);
      for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT']) {
        const [own, original] = [inProjects(`node_modules/${name}/${licence}`), new URL(`../../${licence}`, import.meta.url)];
        assert.equal(readFileSync(own, 'utf8'), readFileSync(original, 'utf8'));
      }
      const { scripts } = JSON.parse(readFileSync(inProjects(`node_modules/${name}/package.json`), 'utf8'));
      const run = ['preinstall', 'install', 'postinstall', 'prepublish', 'preprepare', 'prepare', 'postprepare'];
      assert.deepEqual(Object.keys(scripts ?? {}).filter((script) => run.includes(script)), []);
    });

    test('the types are right in every mode of resolution', () => {
      const file = inProjects(`node_modules/.packed/${name}.tgz`);
      const { status, stdout } = spawnSync(process.execPath, [ATTW, '--no-color', '--no-emoji', file], { encoding: 'utf8' });
      assert.equal(status, 0, stdout);
      assert.match(stdout, /No problems found/);
    });

    test('import and require give the same classes', () => {
      const program = `
        import * as imported from '${name}';
        import { createRequire } from 'node:module';
        const required = createRequire(import.meta.url)('${name}');
        const names = Object.keys(imported);
        console.log(names.length > 10 && names.every((each) => imported[each] === required[each]));
        console.log(Object.keys(required).every((each) => each in imported));
        const clock = new imported.FakeClock();
        const limiter = required.createLimiter({ limits: '1/s burst 1', clock });
        for (let turn = 0; turn < 3; turn++) await limiter.acquire('key');
        console.log(limiter instanceof imported.Limiter, clock.now());`;
      const options = { cwd: inProjects('.'), encoding: 'utf8' };
      const printed = execFileSync(process.execPath, ['--input-type=module', '--eval', program], options);
      assert.equal(printed, 'true\ntrue\ntrue 2000000000n\n');
    });

    test('import and require of every other entry give the same classes', () => {
      const { exports } = JSON.parse(readFileSync(inProjects(`node_modules/${name}/package.json`), 'utf8'));
      const entries = Object.keys(exports).filter((entry) => entry !== '.' && !entry.endsWith('.json')).map((entry) => `${name}/${entry.slice(2)}`);
      assert.deepEqual(entries, name === 'tidegate-wasm' ? ['tidegate-wasm/memory'] : []);
      for (const entry of entries) {
        const program = `
          import * as imported from '${entry}';
          import { createRequire } from 'node:module';
          const required = createRequire(import.meta.url)('${entry}');
          const names = Object.keys(required);
          console.log(names.length > 10 && names.every((each) => imported[each] === required[each]));`;
        const printed = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { cwd: inProjects('.'), encoding: 'utf8' });
        assert.equal(printed, 'true\n');
      }
    });

    test('the public names are those of the declarations', () => {
      const declared = [];
      for (const file of name === 'tidegate' ? ['index.d.ts', 'memory/index.d.ts'] : ['index.d.ts']) {
        const text = readFileSync(inProjects(`node_modules/${name}/dist/${file}`), 'utf8');
        declared.push(...[...text.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, each]) => each));
      }
      const names = Object.keys(require(inProjects(`node_modules/${name}`)));
      assert.deepEqual(names.sort(), [...new Set(declared)].sort());
    });
  });
}
