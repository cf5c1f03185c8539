/** A program for browsers, to be bundled together with the package. */

import { RateLimited, createLimiter } from 'tidegate-wasm';

async function main() {
  const limiter = createLimiter({ limits: '2/d' });
  const { remaining } = await limiter.check('key');
  const error = await limiter.acquire('key', { cost: 2, timeoutMs: 1 }).catch((caught) => caught);
  return { remaining, isRateLimited: error instanceof RateLimited };
}

globalThis.result = main();
