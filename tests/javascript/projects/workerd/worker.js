/** A Cloudflare Worker with limiters that live as long as its isolate, over Upstash and in memory. */

import { Redis } from '@upstash/redis/cloudflare';
import { RateLimited, createLimiter } from 'tidegate-wasm';
import { createLimiter as createSmall } from 'tidegate-wasm/memory';

// The client and limiters are made outside of requests, as the documentation of Upstash shows.
const url = new URL('http://upstash.local');
const store = new Redis({ url: url.origin, token: 'secret', retry: false, enableTelemetry: false });
const limits = '1000000/d';
const LIMITERS = {
  shared: createLimiter({ limits, store, prefix: 'shared', storeTimeoutMs: 5000 }),
  hasty: createLimiter({ limits, store, prefix: 'hasty', storeTimeoutMs: 100 }),
  allowing: createLimiter({ limits, store, prefix: 'allowing', storeTimeoutMs: 100, onStoreError: 'allow' }),
  leased: createLimiter({ limits, store, prefix: 'leased', storeTimeoutMs: 5000, lease: { ttlMs: 1000 } }),
  slow: createLimiter({ limits: '50/s burst 1', store, prefix: 'slow', storeTimeoutMs: 5000 }),
  tight: createLimiter({ limits: '1/h', store, prefix: 'tight', storeTimeoutMs: 5000 }),
  memory: createLimiter({ limits }),
  small: createSmall({ limits }),
  slowSmall: createSmall({ limits: '50/s burst 1' }),
  slowMemory: createLimiter({ limits: '50/s burst 1' }),
  tightMemory: createLimiter({ limits: '1/h' }),
};

export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const [, name, operation] = pathname.split('/');
    try {
      return Response.json(await OPERATIONS[operation](LIMITERS[name], searchParams));
    } catch (error) {
      const status = error instanceof RateLimited ? 429 : 503;
      return Response.json({ name: error.name, code: error.code, message: error.message }, { status });
    }
  },
};

const OPERATIONS = {
  check: (limiter) => limiter.check('key'),
  many: (limiter) => limiter.checkMany(Array.from({ length: 20 }, (_, number) => `key:${number}`)),
  twice: async (limiter) => {
    await limiter.check('key');
    return limiter.check('key', { cost: 2 });
  },
  together: (limiter) => Promise.all(Array.from({ length: 20 }, () => limiter.check('key'))),
  acquire: (limiter, parameters) => limiter.acquire('key', { timeoutMs: Number(parameters.get('timeout') ?? 20_000) }),
  reserving: async (limiter) => {
    await limiter.reserving('other', { cost: 5 }, (charge) => charge.settle(3));
    return limiter.peek('other');
  },
  health: async (limiter) => limiter.storeHealth,
};
