/** Runs waiting.json through a JavaScript package, on limiters in memory and in simulated time. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { nonEmpty, readVectors } from './conformance.mjs';
import { SimulatedTime } from './simulated-time.mjs';

const NANOS_PER_MILLI = 1_000_000n;
const KEY = 'key';
// Everybody has been answered this long after the last event.
const ANSWERED_WITHIN_MS = 1_000_000;

/** Adds a test for each scenario. From then on the time of the process is simulated. */
export function testWaitingVectors(api) {
  const { scenarios } = readVectors('waiting.json');
  const time = SimulatedTime.install(millis(scenarios[0].events[0].at));
  for (const scenario of nonEmpty(scenarios)) {
    test(`waiting.json: ${scenario.name}`, async () => {
      nonEmpty(scenario.events);
      assert.deepEqual(await outcomesOf(api, time, scenario), expected(scenario));
      assert.equal(time.timers, 0, 'a timer is left');
    });
  }
}

async function outcomesOf({ createLimiter }, time, { limits, max_waiting: maxWaiting, events }) {
  time.jump(millis(events[0].at));
  const limiter = createLimiter({ limits, ...(maxWaiting === undefined ? {} : { maxWaiting }) });
  const callers = new Map();
  const reservations = new Map();
  const outcomes = {};
  const answers = [];
  const arrive = (id, cost, timeoutMs) => {
    const controller = new AbortController();
    callers.set(id, controller);
    const { signal } = controller;
    limiter.acquire(KEY, { cost, signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) }).then(
      () => { outcomes[id] = { served: time.now }; },
      ({ code, name, decision }) => {
        if (name === 'AbortError') outcomes[id] = { left: time.now };
        else if (code === 'rate_limited') outcomes[id] = { refused: time.now, retryAfterMs: decision.retryAfterMs };
        else outcomes[id] = { closed: time.now, code };
      },
    );
  };
  const run = async ({ do: what, ...given }) => {
    switch (what) {
      case 'arrive': {
        const timeoutMs = given.timeout === undefined ? undefined : millis(given.timeout);
        for (const id of given.ids) arrive(id, given.cost, timeoutMs);
        return undefined;
      }
      case 'leave':
        for (const id of given.ids) callers.get(id).abort();
        return undefined;
      case 'waiting':
        return limiter.waiting(KEY);
      case 'settle':
        limiter.settleSync(KEY, given.charged, given.actual);
        return undefined;
      case 'credit':
        limiter.creditSync(KEY, given.tokens);
        return undefined;
      case 'hold':
        limiter.holdSync(KEY, millis(given.wait));
        return undefined;
      case 'reset':
        limiter.resetSync(KEY);
        return undefined;
      case 'reserve': {
        const reservation = limiter.reserveSync(KEY, { cost: given.cost, maxWaitMs: millis(given.max_wait) });
        reservations.set(given.name, reservation);
        return { allowed: reservation.allowed };
      }
      case 'cancel':
        reservations.get(given.name).cancelSync();
        return undefined;
      case 'check':
        return { allowed: limiter.checkSync(KEY, given.cost).allowed };
      case 'close':
        limiter.close();
        return undefined;
      default:
        throw new Error(`unknown event ${what}`);
    }
  };
  for (const event of events) {
    await time.runTo(millis(event.at));
    answers.push(await run(event));
  }
  await time.runTo(time.now + ANSWERED_WITHIN_MS);
  return { outcomes, answers };
}

function expected({ events, outcomes }) {
  const read = (outcome) => {
    if (outcome.refused !== undefined) return { refused: roundedUp(outcome.refused), retryAfterMs: roundedUp(outcome.retry_after) };
    if (outcome.closed !== undefined) return { closed: roundedUp(outcome.closed), code: 'store_error' };
    return Object.fromEntries(Object.entries(outcome).map(([name, at]) => [name, roundedUp(at)]));
  };
  return {
    outcomes: Object.fromEntries(Object.entries(outcomes).map(([id, outcome]) => [id, read(outcome)])),
    answers: events.map(({ expect }) => {
      if (expect?.until === undefined) return expect;
      const { until, ...counts } = expect;
      return { ...counts, untilMs: roundedUp(until) };
    }),
  };
}

function millis(nanos) {
  assert.equal(BigInt(nanos) % NANOS_PER_MILLI, 0n, 'events are at whole milliseconds');
  return Number(BigInt(nanos) / NANOS_PER_MILLI);
}

function roundedUp(nanos) {
  return Number((BigInt(nanos) + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
}
