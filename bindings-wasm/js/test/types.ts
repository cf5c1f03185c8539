/** What the type declarations must accept and refuse. This file is compiled and never run. */
import { CostTooLarge, FakeClock, InvalidLimit, RateLimited, TidegateError } from 'tidegate-wasm';
import { Charge, Limit, Limiter, Limits, Reservation, createLimiter, limit } from 'tidegate-wasm';
import { Outbound, Signal, createOutbound, readSignal } from 'tidegate-wasm';
import type { CheckInput, Decision, Keys, LimitInput, LimiterOptions, LeaseOptions, MemoryLimiter, MemoryReservation, OnStoreError, ProfileRow, StoreError, UpstashClient, Waiting } from 'tidegate-wasm';

const stepped: LimitInput = { tokens: 5, periodMs: 60_000, shape: 'stepped' };
const limits: readonly LimitInput[] = ['10/s', stepped, limit('1/d', { name: 'daily' })];
const limiter: MemoryLimiter = createLimiter({ limits, clock: new FakeClock(5n) });
const general: Limiter = limiter;
const decision: Decision = limiter.checkSync('key', 2);
const wait: number = decision.allowed ? 0 : decision.retryAfterMs;
const bytes: Promise<Decision> = general.check(new Uint8Array(4), { cost: 3 });
const source: 'memory' | 'shm' | 'redis' | 'lease' | 'fallback' = decision.source;
const well: 'closed' | 'open' | 'half_open' = general.storeHealth.state;
const text: string = new Limit('10/s').toString();
console.log(JSON.stringify(decision.toJSON()), wait, bytes, source, well, text, general instanceof Limiter);

declare const ofConfig: string;
declare const ofEnvironment: string | undefined;
declare const rate: number;
try {
  createLimiter({ limits: ofConfig });
} catch (error) {
  if (error instanceof InvalidLimit) console.log(error.reason.length, error.code satisfies 'invalid_limit');
  if (error instanceof CostTooLarge) throw error satisfies TidegateError;
  if (error instanceof RateLimited) console.log(error.decision.retryAfterMs, error.key, error.code satisfies 'rate_limited');
}

const keys: Keys = ['user:1', new Uint8Array(4), 'everybody'] as const;
const checks: readonly CheckInput[] = ['a', keys, { key: 'b' }, { key: ['a', 'b'], cost: 3 }];
const many: Decision[] = limiter.checkManySync(checks);
const later: Promise<Decision[]> = general.checkMany(checks);
const plan = new Limits('10/s', { tokens: 5, periodMs: 1000, name: 'five' });
const ofPlan: MemoryLimiter = limiter.withLimits(plan);
const generalOfPlan: Limiter = general.withLimits(['1/s', plan.limits[0] ?? '2/s']);
const ofNames: string[] = [...plan].map(({ name }) => name);
const underPlan: Decision = limiter.checkSync(ofNames, { cost: [1, 2], limits: plan }) ?? ofPlan.checkSync('a');
generalOfPlan.check('a', { cost: underPlan.remaining });
const slot: MemoryReservation = limiter.reserveSync(keys, { cost: 2, maxWaitMs: Infinity });
const gaveBack: boolean = slot.allowed && slot.delayMs > 0 ? slot.cancelSync() : slot.settleSync(1).allowed;
const shared: Promise<Reservation> = general.reserve('a', { maxWaitMs: 5 });
const memory: Promise<MemoryReservation> = limiter.reserve('a');
shared.then((reservation) => [reservation.cancel() satisfies Promise<boolean>, reservation instanceof Reservation]);
const { signal } = new AbortController();
const acquired: Promise<Decision> = general.acquire(keys, { cost: 1, timeoutMs: 50, signal });
const shapes = [limiter.checkSync('a', { cost: 2 }), limiter.peekSync('a', { cost: 2 }), general.check('a', 2), general.peek('a', 2)];
const unsignalled: Promise<Decision> = general.acquire('a', { signal: null });
console.log(shapes, unsignalled);
const { callers, tokens, untilMs }: Waiting = general.waiting(keys);
console.log([callers, tokens, untilMs] satisfies number[], createLimiter({ limits, maxWaiting: 5, maxKeys: 1000, onFull: 'deny' }));
const held = [limiter.holdSync('a', 0.5), limiter.resetSync('a'), limiter.creditSync('a', 1), limiter.settleSync('a', 2, 1)];
const promised = [general.hold('a', 5), general.reset('a'), general.credit('a', 1), general.settle(keys, 2, 1)];
console.log(many, later, gaveBack, memory, acquired, held satisfies Decision[], promised satisfies Promise<Decision>[]);
const charge: Promise<Charge> = general.reserving(keys, { cost: 5, timeoutMs: 50, signal });
charge.then((it) => [it.settle(3) satisfies Promise<Decision>, it.cancel() satisfies Promise<boolean>, it instanceof Charge]);
const answer: Promise<string> = general.reserving('a', { cost: 5, onError: 'settle' }, async (it) => `${it.cost}`);
const answered: Promise<number> = limiter.reserving('a', { cost: 5 }, (it) => it.decision.remaining);
console.log(answer, answered);
(async () => {
  await using held = await general.reserving('a', { cost: 5 });
  console.log(held.cost);
})();

{
  using closing = createLimiter({ limits });
  console.log(closing.limits);
}

declare const client: UpstashClient;
// A text of which the compiler does not know the whole is read when the program runs.
const read = [limit(ofConfig), limit(ofEnvironment ?? '10/s'), limit(`${rate}/s`), new Limit(`10/${ofConfig}`), new Limits(ofConfig, '10/s')];
const also = [createLimiter({ limits: `${rate}/min burst 5` }), createLimiter({ limits: [ofConfig, '10/s'], maxKeys: 5 })];
const mixed: LimitInput[] = ['10/s', stepped];
const under = [limiter.withLimits(ofConfig), limiter.withLimits([ofConfig, '1/s']), limiter.withLimits(mixed)];
const unsure = [limiter.checkSync('a', { limits: ofConfig }), limiter.peekSync('a', { limits: [`${rate}/h`, stepped, limit('1/d')] })];
const ofOptions = (options: LimiterOptions) => createLimiter({ ...options, prefix: 'api' });
const frozen = { limits: ['10/s', '100/min burst 20'] } as const satisfies LimiterOptions;
console.log(createLimiter({ limits: plan }), createLimiter({ limits: plan, store: client }));
console.log(read, also, under, unsure, createLimiter(frozen), ofOptions(frozen), ofOptions({ limits: ofConfig }), mixed);

const policy: OnStoreError = 'local';
const lease: LeaseOptions = { ttlMs: 1000 };
const remote: Limiter = createLimiter({ limits, store: client, onStoreError: policy, peers: 3, denyCacheMs: 0, lease });
console.log(remote);
const unfailing: MemoryLimiter = createLimiter({ limits, onStoreError: 'allow', denyCacheMs: 0, lease });
const failure: StoreError | undefined = unfailing.storeHealth.lastError;
const served: Promise<void> = unfailing.ping();
console.log(failure, served);
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
// @ts-expect-error a reservation is made by reserve
new Reservation();
// @ts-expect-error a reservation that may be remote does not answer without a promise
shared.then((reservation) => reservation.cancelSync());
// @ts-expect-error the wait is a number of milliseconds
limiter.holdSync('a', '5');
// @ts-expect-error an estimate has no default
limiter.reserving('a', {});
// @ts-expect-error only a function can fail
limiter.reserving('a', { cost: 1, onError: 'cancel' });
// @ts-expect-error an unknown word
limiter.reserving('a', { cost: 1, onError: 'drop' }, () => 1);
// @ts-expect-error a signal is an AbortSignal
limiter.acquire('a', { signal: 5 });
// @ts-expect-error a check is a key, keys, or an object with them
limiter.checkManySync([5]);
// @ts-expect-error a plan is limits
limiter.checkSync('a', { limits: 5 });
// @ts-expect-error an unknown unit
createLimiter({ limits: '10/fortnight' });
// @ts-expect-error one of two limits has an unknown unit
createLimiter({ limits: ['10/s', '10/fortnight'] });
// @ts-expect-error one of three limits has an unknown unit
createLimiter({ limits: [stepped, limit('1/s'), '10/fortnight'] });
// @ts-expect-error one of the two texts has an unknown unit
createLimiter({ limits: rate > 5 ? '10/s' : '10/fortnight' });
// @ts-expect-error an unknown unit, over a client
createLimiter({ limits: '10/fortnight', store: client });
// @ts-expect-error an unknown unit
limit('10/fortnight');
// @ts-expect-error an unknown unit
new Limit('10/fortnight', { name: 'biweekly' });
// @ts-expect-error an unknown unit
new Limits('10/s', '10/fortnight');
// @ts-expect-error an unknown unit
limiter.withLimits('10/fortnight');
// @ts-expect-error an unknown unit
general.withLimits(['1/s', '10/fortnight']);
// @ts-expect-error an unknown unit
limiter.checkSync('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
limiter.peekSync('a', { limits: ['10/fortnight'] });
// @ts-expect-error an unknown unit
limiter.reserveSync('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
limiter.reserve('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
general.reserve('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
general.check('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
general.peek('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
general.acquire('a', { limits: '10/fortnight' });
// @ts-expect-error an unknown unit
general.reserving('a', { cost: 5, limits: '10/fortnight' });
// @ts-expect-error an unknown unit
general.reserving('a', { cost: 5, limits: '10/fortnight' }, () => 1);

declare const response: Response;
const acme: readonly ProfileRow[] = [{ header: 'acme-wait', meaning: 'retry_after', unit: 'seconds' }];
const said: Signal = readSignal(response.status, response.headers, { profile: acme, now: new Date(), body: {} });
const leftOver: number | undefined = readSignal(200, { 'retry-after': ['5'] }, { profile: 'github' }).remaining;
const heldScope: 'vendor' | 'credential' | 'bucket' = readSignal(200, new Map([['a', 'b']])).scope;
console.log(said.holdMs + said.askedMs, leftOver, heldScope);
// @ts-expect-error an unknown meaning
readSignal(429, [], { profile: [{ header: 'a', meaning: 'wait' }] });
// @ts-expect-error headers are no text
readSignal(429, 'a: b');
// @ts-expect-error a signal does not change
said.holdMs = 5;

const outbound: Outbound = createOutbound({ limits: '10 in any 1s', retry: { attempts: 3 }, timeoutMs: 30_000, hosts: { 'api.github.com': { limits: '80/min', profile: 'github' } } });
const fetched: Promise<Response> = outbound.fetch('https://api.github.com/zen', { method: 'GET' });
const sent: Promise<{ status: number; headers: Headers }> = outbound.send(async ({ signal, number }) => ({ status: number, headers: new Headers(), signal }), { key: 'k' });
const overLimiter: Outbound = createOutbound({ limiter: general, cost: (request: Request) => request.url.length, usage: (text) => text.length });
const given: typeof fetch = overLimiter.fetch;
console.log(fetched, sent, given, outbound.at('api.github.com').limiter.limits);
// @ts-expect-error an unknown option
createOutbound({ limits: '10/s', speed: 5 });
// @ts-expect-error a limit outside the grammar
createOutbound({ limits: '10/fortnight' });
