/**
 * Replays traces of decide.json and operations.json. It imports nothing, so that a page in a browser
 * can run it too.
 */

const NANOS_PER_MILLI = 1_000_000n;
const FOREVER = String(2n ** 64n - 1n);

/** Runs a trace of decide.json, and returns the differences from it in words. */
export function replayTrace(api, { limits, steps }) {
  const checks = steps.map(({ key = 'k', ...step }) => ({ op: 'check', key, ...step }));
  return replay(api, limits, checks);
}

/** Runs a trace of operations.json or fixed.json on one key, and returns the differences from it in words. */
export function replayOperations(api, { limits, steps }) {
  return replay(api, limits, steps.map((step) => ({ key: 'k', ...step })));
}

/**
 * The same by a limiter without limits to which the calls bring them, and so also a trace that changes
 * the limits.
 */
export function replayUnderLimitsOfCalls(api, { limits, steps }) {
  const named = steps.map((step) => ({ key: 'k', ...step }));
  return replay(api, 'none', [{ op: 'change', limits }, ...named]);
}

function replay({ createLimiter, FakeClock, TidegateError }, limits, steps) {
  const differences = [];
  const clock = new FakeClock();
  const base = createLimiter({ limits, clock });
  let limiter = base;
  const reservations = new Map();
  steps.forEach(({ at, expect, error, ...call }, number) => {
    const differ = (what, got, wanted) => {
      differences.push(`step ${number}: ${what} is ${got}, not ${wanted}`);
    };
    if (at !== undefined) clock.set(BigInt(at));
    if (call.op === 'change') {
      limiter = base.withLimits(call.limits);
      if (expect === undefined) return;
      call = { op: 'peek', key: call.key, cost: 0 };
    }
    let answer;
    try {
      answer = run(limiter, reservations, call);
    } catch (raised) {
      if (!(raised instanceof TidegateError)) throw raised;
      if (raised.code !== error) differ('the error', raised.code, error);
      return;
    }
    if (error !== undefined) {
      differ('the answer', JSON.stringify(answer), `the error ${error}`);
      return;
    }
    const wanted = expected(expect, limiter.limits);
    for (const name of new Set([...Object.keys(wanted), ...Object.keys(answer)])) {
      if (answer[name] !== wanted[name]) differ(name, answer[name], wanted[name]);
    }
  });
  base.close();
  return differences;
}

// Runs a step and returns its answer as fields. Fails for a step with an unknown field.
function run(limiter, reservations, { op, key, ...call }) {
  switch (op) {
    case 'check': {
      const { cost, ...unknown } = call;
      refuse(unknown);
      return fieldsOf(limiter.checkSync(key, cost));
    }
    case 'peek': {
      const { cost, ...unknown } = call;
      refuse(unknown);
      return fieldsOf(limiter.peekSync(key, cost));
    }
    case 'reserve': {
      const { cost, max_wait: maxWait, reservation: name, ...unknown } = call;
      refuse(unknown);
      const maxWaitMs = maxWait === FOREVER ? Infinity : millis(maxWait);
      const reservation = limiter.reserveSync(key, { cost, maxWaitMs });
      if (name !== undefined) reservations.set(name, reservation);
      const { allowed, delayMs, decision, cost: reserved, ...more } = reservation;
      refuse(more);
      if (allowed !== decision.allowed || String(reserved) !== String(cost)) throw new Error('a reservation contradicts itself');
      if (!allowed && delayMs !== Infinity) throw new Error(`a refused slot is ${delayMs} ms away`);
      return { ...fieldsOf(decision), ...(allowed ? { delayMs } : {}) };
    }
    case 'cancel': {
      const { reservation: name, ...unknown } = call;
      refuse(unknown);
      return { restored: reservations.get(name).cancelSync() };
    }
    case 'settle': {
      const { charged, actual, ...unknown } = call;
      refuse(unknown);
      return fieldsOf(limiter.settleSync(key, charged, actual));
    }
    case 'credit': {
      const { tokens, ...unknown } = call;
      refuse(unknown);
      return fieldsOf(limiter.creditSync(key, tokens));
    }
    case 'hold': {
      const { wait, ...unknown } = call;
      refuse(unknown);
      return fieldsOf(limiter.holdSync(key, millis(wait)));
    }
    case 'reset':
      refuse(call);
      limiter.resetSync(key);
      return {};
    default:
      throw new Error(`unknown operation ${op}`);
  }
}

function refuse(unknown) {
  const fields = Object.keys(unknown);
  if (fields.length > 0) throw new Error(`unknown fields: ${fields}`);
}

function expected(expect, limits) {
  if (expect === undefined || 'restored' in expect) return { ...expect };
  const { allowed, delay, tiers = [binding(expect)], ...bound } = expect;
  return {
    allowed,
    ...saidBy(bound, limits),
    ...(delay === undefined ? {} : { delayMs: roundedUp(delay) }),
    source: 'memory',
    tiers: inWords(tiers.map((tier) => saidBy(tier, limits))),
  };
}

function binding({ tier, limit, remaining, retry_after, reset_after }) {
  return { tier, limit, remaining, retry_after, reset_after };
}

function saidBy({ tier, limit, remaining, retry_after: retryAfter, reset_after: resetAfter, ...unknown }, limits) {
  refuse(unknown);
  return {
    limit: count(limit),
    remaining: count(remaining),
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

// The largest value, which JSON reads as 2^64, stands for no bound.
function count(number) {
  return number === 2 ** 64 ? Infinity : number;
}

function roundedUp(nanos) {
  if (nanos === FOREVER) return Infinity;
  return Number((BigInt(nanos) + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
}
