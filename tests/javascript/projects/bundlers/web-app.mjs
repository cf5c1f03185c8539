/** A program for browsers, to be bundled together with the package. */

import { RateLimited, createLimiter } from 'tidegate-wasm';
import { createLimiter as createSmall } from 'tidegate-wasm/memory';

async function main() {
  const limiter = createLimiter({ limits: '2/d' });
  const { remaining } = await limiter.check('key');
  const error = await limiter.acquire('key', { cost: 2, timeoutMs: 1 }).catch((caught) => caught);
  const small = createSmall({ limits: '2/d' });
  await small.acquire('key');
  assertLeft(small.checkSync('key').remaining, 0);
  return { remaining, isRateLimited: error instanceof RateLimited };
}

function assertLeft(actual, expected) {
  if (actual !== expected) throw new Error(`${actual} are left in the small engine`);
}

globalThis.result = main();
