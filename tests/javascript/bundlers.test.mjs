/** Programs of users that bundlers put together with the packages: each is built, and runs where it belongs. */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';

import commonjs from '@rollup/plugin-commonjs';
import resolve from '@rollup/plugin-node-resolve';
import { build as esbuild } from 'esbuild';
import { rollup } from 'rollup';
import { build as vite } from 'vite';
import webpack from 'webpack';

import { freePort, until } from '../../bindings-node/test/redis-server.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const INSTALLED = here('projects/node_modules');
const PROJECT = here('projects/bundlers');
const NODE_APP = join(PROJECT, 'node-app.mjs');
const WEB_APP = join(PROJECT, 'web-app.mjs');
const { chromium } = createRequire(new URL('../../bindings-wasm/js/package.json', import.meta.url))('playwright-core');
const NEXT = here('node_modules/next/dist/bin/next');
const NEXT_PROJECT = here('projects/next');
const QUIET = { logLevel: 'error' };

/** The ways to bundle a program for Node, each of which writes one file. */
const FOR_NODE = {
  'esbuild to CommonJS': (outfile) => esbuild({ entryPoints: [NODE_APP], bundle: true, platform: 'node', format: 'cjs', outfile, ...QUIET }),
  'esbuild to an ES module': (outfile) => esbuild({
    entryPoints: [NODE_APP], bundle: true, platform: 'node', format: 'esm', outfile, ...QUIET,
    // As esbuild's documentation has it for CommonJS in ES modules.
    banner: { js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);" },
  }),
  rollup: (file) => rollUp(NODE_APP, file, { preferBuiltins: true, exportConditions: ['node'] }),
  'vite for a server': (file) => viteTo(file, { build: { ssr: NODE_APP }, ssr: { noExternal: true, target: 'node' } }),
  webpack: (file) => pack(file, { target: 'node20', entry: NODE_APP }),
};

/** The ways to bundle a program for browsers. */
const FOR_BROWSERS = {
  esbuild: (outfile) => esbuild({ entryPoints: [WEB_APP], bundle: true, platform: 'browser', format: 'esm', outfile, ...QUIET }),
  rollup: (file) => rollUp(WEB_APP, file, { browser: true }),
  vite: (file) => viteTo(file, { build: { rollupOptions: { input: WEB_APP } } }),
  webpack: (file) => pack(file, { target: 'web', entry: WEB_APP }),
};

let folder;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidegate-bundled-'));
});

after(() => rmSync(folder, { recursive: true, force: true }));

describe('for Node', () => {
  for (const [name, bundle] of Object.entries(FOR_NODE)) {
    test(name, async () => {
      const isModule = ['esbuild to an ES module', 'rollup', 'vite for a server'].includes(name);
      const own = mkdtempSync(join(folder, 'node-'));
      const file = join(own, isModule ? 'program.mjs' : 'program.cjs');
      await bundle(file);
      const run = () => JSON.parse(execFileSync(process.execPath, [file], { cwd: own, encoding: 'utf8' }));
      const { remaining, small, failure } = run();
      assert.deepEqual([remaining, small], [1, 1]);
      assert.deepEqual([failure.isStoreError, failure.code], [true, 'store_error']);
      assert.match(failure.message, new RegExp(`native addon .*${process.platform}-${process.arch}.* as the store`));
      symlinkSync(INSTALLED, join(own, 'node_modules'));
      const beside = run().failure;
      assert.equal(beside.isStoreError, true);
      assert.doesNotMatch(beside.message, /native addon/, 'it uses the addon of the installed package');
    });
  }
});

describe('for browsers', () => {
  let browser;
  let server;

  before(async () => {
    const type = { html: 'text/html', mjs: 'text/javascript' };
    server = createServer(({ url }, response) => {
      response.writeHead(200, { 'Content-Type': type[url.split('.').at(-1)] ?? 'text/html' });
      response.end(url.endsWith('.mjs') ? readFileSync(join(folder, url)) : '<!doctype html>');
    });
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
    const args = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];
    const executablePath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
    browser = await chromium.launch({ executablePath, args });
  });

  after(async () => {
    await browser?.close();
    await new Promise((closed) => server.close(closed));
  });

  for (const [name, bundle] of Object.entries(FOR_BROWSERS)) {
    test(name, async () => {
      await bundle(join(folder, `${name}.mjs`));
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      const result = await page.evaluate(async (url) => {
        await import(url);
        return globalThis.result;
      }, `/${name}.mjs`);
      assert.deepEqual(result, { remaining: 1, isRateLimited: true });
      await page.close();
    });
  }
});

describe('Next', () => {
  for (const bundler of ['turbopack', 'webpack']) {
    test(`routes of Node and of the edge, built by ${bundler}`, async () => {
      const env = { ...process.env, DIST: `.next-${bundler}`, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' };
      const options = { cwd: NEXT_PROJECT, env, stdio: ['ignore', 'pipe', 'pipe'] };
      const built = spawn(process.execPath, [NEXT, 'build', `--${bundler}`], options);
      const said = await outputOf(built);
      assert.equal(built.exitCode, 0, said);
      const port = await freePort();
      const server = spawn(process.execPath, [NEXT, 'start', '--port', String(port), '--hostname', '127.0.0.1'], options);
      const output = outputOf(server);
      try {
        const get = async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).json();
        await until('Next answers', () => get('/edge').then(() => true, () => false), 60_000);
        assert.equal((await get('/edge')).remaining, 0);
        const { remaining, failure } = await get('/node');
        assert.deepEqual([remaining, failure.isStoreError, failure.code], [1, true, 'store_error'], failure.message);
        assert.doesNotMatch(failure.message, /native addon/);
      } finally {
        server.kill('SIGKILL');
        await output;
        rmSync(join(NEXT_PROJECT, env.DIST), { recursive: true, force: true });
      }
    });
  }
});

async function outputOf(child) {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { text += data; });
  await new Promise((closed) => child.once('close', closed));
  return text;
}

async function rollUp(input, file, options) {
  const onwarn = ({ code, message }) => assert.ok(['CIRCULAR_DEPENDENCY', 'THIS_IS_UNDEFINED'].includes(code), message);
  const bundle = await rollup({ input, onwarn, plugins: [resolve(options), commonjs()] });
  await bundle.write({ file, format: 'es', inlineDynamicImports: true });
  await bundle.close();
}

async function viteTo(file, { build, ...options }) {
  const output = { entryFileNames: file.split('/').at(-1), format: 'es', inlineDynamicImports: true };
  const rollupOptions = { ...build.rollupOptions, output };
  const outDir = join(file, '..');
  await vite({
    root: PROJECT, configFile: false, ...QUIET, ...options,
    build: { ...build, rollupOptions, outDir, emptyOutDir: false, minify: false },
  });
  assert.ok(readdirSync(outDir).includes(output.entryFileNames));
}

function pack(file, options) {
  const output = { path: join(file, '..'), filename: file.split('/').at(-1) };
  const config = { mode: 'production', context: PROJECT, output, optimization: { minimize: false }, performance: false, ...options };
  return new Promise((done, fail) => {
    webpack(config, (error, stats) => {
      const problem = error ?? (stats.hasErrors() || stats.hasWarnings() ? new Error(stats.toString()) : undefined);
      if (problem === undefined) done();
      else fail(problem);
    });
  });
}
