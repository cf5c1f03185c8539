// Replays a trace of decide.json. Without imports, so that a browser's page can run it too.

const NANOS_PER_MILLI = 1_000_000n;

/** What differs from the trace, in words; nothing when all steps answer as they should. */
export function replayTrace({ createLimiter, FakeClock, TidegateError }, trace) {
  const differences = [];
  const clock = new FakeClock();
  const limiter = createLimiter({ limits: trace.limits, clock });
  trace.steps.forEach(({ at, key = 'k', cost, expect, error, ...unknown }, number) => {
    const differ = (what, got, wanted) => {
      differences.push(`step ${number}: ${what} is ${got}, not ${wanted}`);
    };
    if (Object.keys(unknown).length > 0) differ('a field', Object.keys(unknown), 'known');
    clock.set(BigInt(at));
    let decision;
    try {
      decision = limiter.checkSync(key, cost);
    } catch (raised) {
      if (!(raised instanceof TidegateError)) throw raised;
      if (raised.code !== error) differ('the error', raised.code, error);
      return;
    }
    if (error !== undefined) {
      differ('the answer', JSON.stringify(decision), `the error ${error}`);
      return;
    }
    const wanted = inMilliseconds(expect, limiter.limits);
    for (const name of new Set([...Object.keys(wanted), ...Object.keys(decision)])) {
      if (decision[name] !== wanted[name]) differ(name, decision[name], wanted[name]);
    }
  });
  limiter.close();
  return differences;
}

function inMilliseconds({ tier, retry_after, reset_after, ...same }, limits) {
  return {
    ...same,
    retryAfterMs: roundedUp(retry_after),
    resetAfterMs: roundedUp(reset_after),
    limitName: limits[tier].name,
    source: 'memory',
  };
}

function roundedUp(nanos) {
  return Number((BigInt(nanos) + NANOS_PER_MILLI - 1n) / NANOS_PER_MILLI);
}
