/** A program with thousands of limiters on one URL has one connection, and little memory for each limiter. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createLimiter } from '../dist/index.js';
import { RedisServer } from './redis-server.mjs';

const LIMITERS = 3000;
// Each had a connection once, which took ten times as much.
const MOST_BYTES = 12_000;

test('thousands of limiters on one URL have one connection', async (each) => {
  const redis = await RedisServer.start();
  const make = (number) => createLimiter({ limits: '5/min', store: redis.url, prefix: `rule-${number}`, storeTimeoutMs: 30_000 });
  const use = async (limiters) => {
    for (const limiter of limiters) assert.ok((await limiter.check('user')).allowed);
  };
  try {
    const first = Array.from({ length: 10 }, (_, number) => make(number));
    await use(first);
    const before = process.memoryUsage.rss();
    const limiters = Array.from({ length: LIMITERS - 10 }, (_, number) => make(10 + number));
    await use(limiters);
    const bytes = Math.round((process.memoryUsage.rss() - before) / limiters.length);
    const connections = redis.run('CLIENT', 'LIST').split('\n').filter((line) => !line.includes('cmd=client|list'));
    each.diagnostic(`${LIMITERS} limiters in Node: ${connections.length} connection, ${bytes} bytes each`);
    assert.equal(connections.length, 1);
    assert.ok(bytes <= MOST_BYTES, `${bytes} bytes for each limiter`);
    for (const limiter of [...first, ...limiters]) limiter.close();
  } finally {
    await redis.remove();
  }
});
