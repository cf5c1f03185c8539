/** The package as its users get it: from this folder, and from the file that `npm pack` makes. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const COMPILER = join(PACKAGE, 'node_modules/typescript/bin/tsc');
const NODE_TYPES = join(PACKAGE, 'node_modules/@types');
const BUILT_OR_FRESH = /bindings-node: dist is (built|up to date)/;

const PROGRAM = `
const limiter = createLimiter({ limits: '2/d' });
const [first, second] = [limiter.checkSync('key'), limiter.checkSync('key', 2)];
const unreachable = createLimiter({ limits: '1/s', store: 'redis://127.0.0.1:1' });
const { code } = await unreachable.check('key').catch((error) => error);
console.log(first.allowed, second.allowed, second.retryAfterMs > 0, code);
`;
const PRINTED = 'true false true store_error\n';

let folder;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidegate-package-'));
});

after(() => rmSync(folder, { recursive: true, force: true }));

test('npm install from the folder after its build', () => {
  assert.match(npm(PACKAGE, 'run', 'build'), BUILT_OR_FRESH);
  const project = newProject('from-folder');
  npm(project, 'install', PACKAGE);
  useIn(project);
});

test('npm install from the packed file needs nothing else', () => {
  npm(PACKAGE, 'pack', '--ignore-scripts', '--pack-destination', folder);
  const [file] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  const project = newProject('from-file');
  npm(project, 'install', join(folder, file));
  assert.deepEqual(readdirSync(join(project, 'node_modules/tidegate')).sort(), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'package.json']);
  useIn(project);
});

test('the clients of other packages fit', () => compile(PACKAGE, 'test/client-types.ts', '--skipLibCheck'));

function useIn(project) {
  const programs = {
    'with-import.mjs': `import { createLimiter } from 'tidegate';\n${PROGRAM}`,
    'with-require.cjs': `const { createLimiter } = require('tidegate');\n(async () => {${PROGRAM}})();`,
  };
  for (const [file, program] of Object.entries(programs)) {
    writeFileSync(join(project, file), program);
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: project, encoding: 'utf8' });
    assert.deepEqual([status, stdout, stderr], [0, PRINTED, ''], file);
  }
  for (const program of ['types.mts', 'types.cts']) {
    cpSync(join(PACKAGE, 'test/types.ts'), join(project, program));
    compile(project, program);
  }
}

function compile(project, program, ...more) {
  const options = [...more, '--noEmit', '--strict', '--target', 'es2022', '--module', 'node16'];
  options.push('--typeRoots', NODE_TYPES, '--types', 'node');
  try {
    execFileSync(process.execPath, [COMPILER, ...options, program], { cwd: project, encoding: 'utf8' });
  } catch (error) {
    assert.fail(`${program}: ${error.stdout}`);
  }
}

function newProject(name) {
  const project = join(folder, name);
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "user", "private": true }');
  return project;
}

// Runs npm in the project. If npm runs this test, its variables are left out of the environment,
// because they name the folder of this package.
function npm(project, ...command) {
  const inherited = ([name]) => !/^npm_/i.test(name) || name === 'npm_config_cache';
  const environment = Object.entries(process.env).filter(inherited);
  return execFileSync('npm', [...command, '--no-audit', '--no-fund', '--offline'], {
    cwd: project, env: Object.fromEntries(environment), encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'],
  });
}
