/** A suite of a user with ts-jest's default preset, which checks the types and makes CommonJS. */

import { describe, expect, test } from '@jest/globals';
import { Limiter as NodeLimiter, createLimiter as createNodeLimiter } from 'tidegate';
import { Limiter, RateLimited, createLimiter } from 'tidegate-wasm';
import type { Decision, MemoryLimiter } from 'tidegate-wasm';

describe('limiters', () => {
  test('of tidegate-wasm', async () => {
    const limiter: MemoryLimiter = createLimiter({ limits: '1/h' });
    const decision: Decision = limiter.checkSync('key');
    expect([limiter instanceof Limiter, decision.allowed]).toEqual([true, true]);
    await expect(limiter.acquire('key', { timeoutMs: 1 })).rejects.toThrow(RateLimited);
  });

  test('of tidegate', () => {
    const limiter = createNodeLimiter({ limits: '1/h' });
    expect([limiter instanceof NodeLimiter, limiter.checkSync('key').allowed]).toEqual([true, true]);
  });
});
