// Compiled, never run: what the type declarations must accept and refuse.
import { CostTooLarge, FakeClock, InvalidLimit, TidegateError } from 'tidegate-wasm';
import { Limit, Limiter, createLimiter, limit } from 'tidegate-wasm';
import type { Decision, LimitInput, MemoryLimiter } from 'tidegate-wasm';

const stepped: LimitInput = { tokens: 5, periodMs: 60_000, shape: 'stepped' };
const limits: readonly LimitInput[] = ['10/s', stepped, limit('1/d', { name: 'daily' })];
const limiter: MemoryLimiter = createLimiter({ limits, clock: new FakeClock(5n) });
const general: Limiter = limiter;
const decision: Decision = limiter.checkSync('key', 2);
const wait: number = decision.allowed ? 0 : decision.retryAfterMs;
const bytes: Promise<Decision> = general.check(new Uint8Array(4), { cost: 3 });
const source: 'memory' | 'redis' = decision.source;
const text: string = new Limit('10/s').toString();
console.log(wait, bytes, source, text, general instanceof Limiter);

try {
  createLimiter({ limits: '10/fortnight' });
} catch (error) {
  if (error instanceof InvalidLimit) console.log(error.reason.length, error.code satisfies 'invalid_limit');
  if (error instanceof CostTooLarge) throw error satisfies TidegateError;
}

// @ts-expect-error limits are needed
createLimiter({});
// @ts-expect-error an unknown option
createLimiter({ limits: '1/s', store: 'redis://localhost' });
// @ts-expect-error a limiter is created, not constructed
new Limiter();
// @ts-expect-error decisions cannot be changed
decision.allowed = true;
// @ts-expect-error a limiter that may be remote does not answer without a promise
general.checkSync('key');
// @ts-expect-error a clock gives bigints
createLimiter({ limits: '1/s', clock: { now: () => 5 } });
