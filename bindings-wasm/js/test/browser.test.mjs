/** The built package in a real browser, whose page imports it as any page would. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { nonEmpty, readOperations, readVectors } from './conformance.mjs';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.html': 'text/html' };
const PAGE = '<!doctype html><meta charset="utf-8"><title>Tidegate</title>';

const executablePath = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => path && existsSync(path));

let server;
let browser;
let page;

before(async () => {
  assert.ok(executablePath, 'Chromium is missing: set CHROMIUM to its path, or apt-get install -y chromium');
  server = createServer(serve);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  browser = await chromium.launch({ executablePath, args: FLAGS });
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
});

after(async () => {
  await browser?.close();
  server?.close();
});

for (const [file, replay, traces] of [
  ['decide.json', 'replayTrace', nonEmpty(readVectors('decide.json').traces)],
  ['operations.json', 'replayOperations', readOperations()],
]) {
  test(`${file} in the page`, async () => {
    const differences = await page.evaluate(async ([replay, traces]) => {
      const api = await import('/dist/index.js');
      const { [replay]: replayed } = await import('/test/replay.mjs');
      return traces.map((trace) => [trace.name, replayed(api, trace)]);
    }, [replay, traces]);
    assert.deepEqual(differences, traces.map(({ name }) => [name, []]));
  });
}

test('waiting in the page: each at its slot, and an abort gives its slot back', async () => {
  const [waits, name, restored] = await page.evaluate(async () => {
    const { createLimiter } = await import('/dist/index.js');
    const limiter = createLimiter({ limits: '50/s burst 1' });
    const started = performance.now();
    const waits = await Promise.all([0, 1, 2, 3].map(() => limiter.acquire('key').then(() => performance.now() - started)));
    limiter.holdSync('key', 3_600_000);
    const before = limiter.peekSync('key', 0).resetAfterMs;
    const controller = new AbortController();
    const waiting = limiter.acquire('key', { signal: controller.signal }).catch((error) => error.name);
    controller.abort();
    const name = await waiting;
    return [waits, name, limiter.peekSync('key', 0).resetAfterMs <= before];
  });
  waits.forEach((waited, number) => {
    assert.ok(waited >= number * 20 && waited < 5000, `waited ${waits} ms`);
  });
  assert.deepEqual([name, restored], ['AbortError', true]);
});

test('the browser\'s own clock refills the bucket', async () => {
  const waited = await page.evaluate(async () => {
    const { createLimiter } = await import('/dist/index.js');
    const limiter = createLimiter({ limits: '20/s burst 1' });
    const started = performance.now();
    if (!(await limiter.check('key')).allowed) return 'the first was refused';
    while (!(await limiter.check('key')).allowed) {
      const { retryAfterMs } = await limiter.check('key');
      await new Promise((resolve) => setTimeout(resolve, retryAfterMs));
    }
    return performance.now() - started;
  });
  assert.ok(waited >= 49 && waited < 5000, `waited ${waited} ms`);
});

test('errors are instances of the package\'s classes', async () => {
  const answer = await page.evaluate(async () => {
    const { createLimiter, InvalidLimit } = await import('/dist/index.js');
    try {
      return createLimiter({ limits: '10/fortnight' });
    } catch (error) {
      return [error instanceof InvalidLimit, error.code, error.reason];
    }
  });
  assert.deepEqual(answer, [true, 'invalid_limit', 'unknown_unit']);
});

async function serve({ url }, response) {
  const extension = /\.\w+$/.exec(url)?.[0] ?? '.html';
  const file = /^\/(dist|test)\/[\w-]+\.m?js$/.test(url) ? new URL(`..${url}`, import.meta.url) : undefined;
  if (file === undefined && url !== '/') {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'content-type': TYPES[extension] });
  response.end(file === undefined ? PAGE : await readFile(file));
}
