/** A client of a real Redis that gets the time from the test, so that the vectors can run over it. */

import { createLimiter } from 'tidegate';

const NANOS_PER_MILLI = 1_000_000n;
const NANOS_PER_MICRO = 1000n;
const MICROS_PER_SECOND = 1_000_000n;
const FOREVER = String(2n ** 64n - 1n);

/** A client like that of ioredis. Its server's clock stands still until the test moves it; no key expires. */
export class ClockedClient {
  micros = 0n;
  #client;

  constructor(client) {
    this.#client = client;
  }

  async callBuffer(name, script, ...rest) {
    if (name === 'EVALSHA') throw new Error('NOSCRIPT a script that names its clock is never kept');
    const clock = `{'${this.micros / MICROS_PER_SECOND}','${this.micros % MICROS_PER_SECOND}'}`;
    const text = script.toString().replaceAll("redis.call('TIME')", clock).replaceAll("'PX'", "'EX'");
    return this.#client.callBuffer(name, text, ...rest);
  }
}

/** Whether all times of a trace are whole microseconds, in which Redis counts its clock. */
export function isInMicros({ steps }) {
  return steps.every(({ at = '0' }) => BigInt(at) % NANOS_PER_MICRO === 0n);
}

/** Runs a trace of operations.json, and returns the differences from it in words. */
export async function replayOver(client, { limits, steps }, options) {
  const differences = [];
  let limiter = createLimiter({ limits, store: client, ...options });
  const reservations = new Map();
  for (let [number, { at, expect, error, ...step }] of steps.entries()) {
    if (at !== undefined) client.micros = BigInt(at) / NANOS_PER_MICRO;
    if (step.op === 'change') {
      limiter = createLimiter({ limits: step.limits, store: client, ...options });
      if (expect === undefined) continue; // The next step is the first to see the buckets.
      step = { op: 'check', cost: 0 };
    }
    const answer = await run(limiter, reservations, step).catch(({ code }) => ({ code }));
    const wanted = error === undefined ? expected(expect, limiter.limits) : { code: error };
    for (const name of new Set([...Object.keys(wanted), ...Object.keys(answer)])) {
      if (step.op === 'reset' || answer[name] === wanted[name]) continue;
      differences.push(`step ${number}: ${name} is ${answer[name]}, not ${wanted[name]}`);
    }
  }
  return differences;
}

async function run(limiter, reservations, step) {
  switch (step.op) {
    case 'check':
      return fieldsOf(await limiter.check('k', { cost: step.cost }));
    case 'peek':
      return fieldsOf(await limiter.peek('k', { cost: step.cost }));
    case 'reserve': {
      const maxWaitMs = step.max_wait === FOREVER ? Infinity : millis(step.max_wait);
      const reservation = await limiter.reserve('k', { cost: step.cost, maxWaitMs });
      reservations.set(step.reservation, reservation);
      const { allowed, delayMs, decision } = reservation;
      return { ...fieldsOf(decision), ...(allowed ? { delayMs } : {}) };
    }
    case 'cancel':
      return { restored: await reservations.get(step.reservation).cancel() };
    case 'settle':
      return fieldsOf(await limiter.settle('k', step.charged, step.actual));
    case 'credit':
      return fieldsOf(await limiter.credit('k', step.tokens));
    case 'hold':
      return fieldsOf(await limiter.hold('k', millis(step.wait)));
    case 'reset':
      return fieldsOf(await limiter.reset('k'));
    default:
      throw new Error(`unknown operation ${step.op}`);
  }
}

function expected(expect, limits) {
  if (expect === undefined || 'restored' in expect) return { ...expect };
  const { allowed, delay, tiers, ...bound } = expect;
  return {
    allowed,
    ...saidBy(bound, limits),
    ...(delay === undefined ? {} : { delayMs: roundedUp(delay) }),
    source: 'redis',
    tiers: inWords((tiers ?? [bound]).map((tier) => saidBy(tier, limits))),
  };
}

function saidBy({ tier, limit, remaining, retry_after: retryAfter, reset_after: resetAfter }, limits) {
  return {
    limit,
    remaining,
    retryAfterMs: roundedUp(retryAfter),
    resetAfterMs: roundedUp(resetAfter),
    limitName: limits[tier].name,
  };
}

// The fields of a decision, with what each limit says in words.
function fieldsOf(decision) {
  return { ...decision, tiers: inWords(decision.tiers) };
}

function inWords(tiers) {
  return tiers.map((tier) => Object.entries(tier).flat().join(' ')).join(', ');
}

function millis(nanos) {
  return Number(nanos) / Number(NANOS_PER_MILLI);
}

function roundedUp(nanos) {
  if (nanos === FOREVER) return Infinity;
  return Number((BigInt(nanos) + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
}
