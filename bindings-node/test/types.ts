/** What the type declarations must accept and refuse. This file is compiled and never run. */
import { FakeClock, Limiter, RateLimited, StoreTimeout, createLimiter } from 'tidegate';
import type { Decision, MemoryLimiter, MemoryReservation, Reservation, Waiting } from 'tidegate';

const inMemory: MemoryLimiter = createLimiter({ limits: '10/s', clock: new FakeClock() });
const also: MemoryLimiter = createLimiter({ limits: '10/s', store: 'memory://' });
const shared: Limiter = createLimiter({
  limits: ['10/s', { tokens: 1, periodMs: 50 }],
  store: 'redis://127.0.0.1',
  prefix: 'api',
  storeTimeoutMs: 20,
  onStoreError: 'local',
  peers: 8,
  lease: { ttlMs: 1000, maxShare: 0.5 },
  maxKeys: 1000,
  onFull: 'evict_idlest',
});
const host: MemoryLimiter = createLimiter({ limits: '10/s', store: 'shm://api?max_keys=1000', prefix: 'api', maxWaiting: 5 });
const waiting: Waiting = host.waiting(['user', 'org']);
const anywhere: Limiter = createLimiter({ limits: '10/s', store: process.env.STORE ?? 'memory://' });
const fromEnvironment: Limiter = createLimiter({ limits: '10/s', store: process.env.STORE });
const now: Decision = inMemory.checkSync(Buffer.from('key'));
const later: Promise<Decision> = shared.check('key', { cost: 2 });
const dropped: number = host.pressure.evicted + shared.pressure.denied;
const source: 'memory' | 'shm' | 'redis' | 'lease' | 'fallback' = now.source;
const failed: number = shared.storeHealth.failures + shared.storeHealth.fallbacks;
const slot: MemoryReservation = host.reserveSync(['user', 'org'], { cost: 2, maxWaitMs: 50 });
const remote: Promise<Reservation> = shared.reserve(Buffer.from('key'));
const acquired: Promise<Decision> = shared.acquire('key', { timeoutMs: 50, signal: AbortSignal.timeout(100) });
acquired.catch((error: unknown) => error instanceof RateLimited && error.decision.retryAfterMs > 0);
console.log(slot.cancelSync(), remote, shared.checkMany(['a', { key: ['a', 'b'], cost: 2 }]));
console.log(waiting.untilMs, dropped, failed, also, later, anywhere.limits, source, shared instanceof Limiter);
console.log(host.peekSync('key', 2).remaining, shared.peek('key', { cost: 0 }), fromEnvironment.check('key', 2));
shared.peek('key').catch((error: unknown) => error instanceof StoreTimeout && (error.code satisfies 'store_timeout'));

// @ts-expect-error a shared bucket answers by promise only
shared.checkSync('key');
// @ts-expect-error the store may be remote
anywhere.peekSync('key');
// @ts-expect-error limits are needed
createLimiter({ store: 'redis://127.0.0.1' });
// @ts-expect-error an unknown option
createLimiter({ limits: '1/s', timeout: 5 });
// @ts-expect-error an unknown policy
createLimiter({ limits: '1/s', store: 'redis://127.0.0.1', onStoreError: 'ignore' });
const unfailing: MemoryLimiter = createLimiter({ limits: '1/s', store: 'shm://api', onStoreError: 'deny' });
unfailing.checkSync('key');
// @ts-expect-error the number of milliseconds
createLimiter({ limits: '1/s', store: 'redis://127.0.0.1', storeTimeoutMs: '5' });
// @ts-expect-error a shared bucket's reservation answers by promise only
remote.then((reservation) => reservation.settleSync(1));
// @ts-expect-error shared memory has a clock of its own
createLimiter({ limits: '1/s', store: 'shm://api', clock: new FakeClock() }).checkSync('key');
declare const limits: string;
console.log(createLimiter({ limits }), createLimiter({ limits, store: process.env.STORE }), createLimiter({ limits: [limits], store: 'shm://api' }));
console.log(createLimiter({ limits: `${limits} burst 5`, store: 'redis://127.0.0.1' }));
// @ts-expect-error an unknown unit
createLimiter({ limits: '10/fortnight' });
// @ts-expect-error an unknown unit
createLimiter({ limits: ['10/s', '10/fortnight'], store: 'redis://127.0.0.1' });
// @ts-expect-error an unknown unit
createLimiter({ limits: ['10/s', '10/fortnight'], store: 'shm://api' });
