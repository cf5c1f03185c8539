/** The tests that run tests/vectors through a JavaScript package: this one, and the one for Node. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { replayOperations, replayTrace, replayUnderLimitsOfCalls } from './replay.mjs';

const VECTORS = new URL('../../../tests/vectors/', import.meta.url);

const TRACES_WITH_CHANGE = 12;
// The methods, parameters and options that JavaScript has beyond surface.json.
const METHODS_BEYOND = {
  Limiter: ['checkSync', 'checkManySync', 'peekSync', 'reserveSync', 'settleSync', 'creditSync', 'holdSync', 'resetSync', 'reserving', 'withLimits'],
  Reservation: ['cancelSync', 'settleSync'],
};
const PARAMETERS_BEYOND = { check: ['limits'], peek: ['limits'], reserve: ['limits'], acquire: ['limits', 'signal'] };

// The largest value, which JSON reads as 2^64, stands for no bound.
const unbounded = (number) => (number === 2 ** 64 ? Infinity : number);

export function readVectors(name) {
  return JSON.parse(readFileSync(new URL(name, VECTORS), 'utf8'));
}

/** The traces of operations.json that one limiter can run, which are those without a change of limits. */
export function readOperations() {
  const { traces } = readVectors('operations.json');
  return nonEmpty(traces.filter((trace) => !changes(trace)));
}

/** The traces that need several limiters over one store, because their limits change. */
export function readChanges() {
  const found = readVectors('operations.json').traces.filter(changes);
  assert.equal(found.length, TRACES_WITH_CHANGE);
  return found;
}

function changes({ steps }) {
  return steps.some(({ op }) => op === 'change');
}

/**
 * Adds the tests of all vector files.
 *
 * @param api the package's exports
 * @param {string[]} options the options of `createLimiter`, by their names in surface.json
 */
export function testVectors(api, options) {
  testVectorsOfMemory(api);
  testSignals(api);
  testSurface(api, options);
}

/** Adds the tests of the vector files that concern memory. */
export function testVectorsOfMemory(api) {
  testDecisions(api);
  testOperations(api);
  testLimitsOfCalls(api);
  testFixed(api);
  testGrammar(api);
  testErrors(api);
}

function testDecisions(api) {
  for (const trace of nonEmpty(readVectors('decide.json').traces)) {
    test(`decide.json: ${trace.name}`, () => {
      nonEmpty(trace.steps);
      assert.deepEqual(replayTrace(api, trace), []);
    });
  }
}

function testOperations(api) {
  for (const trace of readOperations()) {
    test(`operations.json: ${trace.name}`, () => {
      nonEmpty(trace.steps);
      assert.deepEqual(replayOperations(api, trace), []);
    });
  }
}

function testLimitsOfCalls(api) {
  for (const trace of [...readOperations(), ...readChanges(), ...nonEmpty(readVectors('fixed.json').traces)]) {
    test(`with limits of the calls: ${trace.name}`, () => {
      nonEmpty(trace.steps);
      assert.deepEqual(replayUnderLimitsOfCalls(api, trace), []);
    });
  }
}

function testFixed(api) {
  for (const trace of nonEmpty(readVectors('fixed.json').traces)) {
    test(`fixed.json: ${trace.name}`, () => {
      nonEmpty(trace.steps);
      assert.deepEqual(replayOperations(api, trace), []);
    });
  }
}

function testGrammar({ limit, InvalidLimit }) {
  const { valid, invalid } = readVectors('grammar.json');
  for (const { text, canonical, tokens, period, burst, shape, ...unknown } of nonEmpty(valid)) {
    test(`grammar.json: ${JSON.stringify(text)} is ${canonical}`, () => {
      assert.deepEqual(unknown, {});
      const read = limit(text);
      assert.equal(String(read), canonical);
      const fields = { ...read };
      const periodMs = Number(BigInt(period)) / 1e6;
      const counts = { tokens: unbounded(tokens), burst: unbounded(burst) };
      assert.deepEqual(fields, { ...counts, periodMs, shape, name: text.trim() });
      const { name } = read;
      assert.deepEqual({ ...limit(canonical, { name }) }, fields, 'the canonical text reads back');
      assert.equal(limit({ ...fields, name: undefined }).name, limit(canonical).name, 'parts have the canonical name');
      assert.deepEqual({ ...limit({ ...fields }) }, fields, 'the parts read back');
    });
  }
  for (const { text, reason, write, ...unknown } of nonEmpty(invalid)) {
    test(`grammar.json: ${JSON.stringify(text)} is refused: ${reason}`, () => {
      assert.deepEqual(unknown, {});
      assert.throws(() => limit(text), (error) => {
        assert.ok(error instanceof InvalidLimit);
        assert.equal(error.code, 'invalid_limit');
        assert.equal(error.reason, reason);
        assert.ok(error.message.includes(JSON.stringify(text)) || /[^ -~]/.test(text), error.message);
        assert.ok(error.message.endsWith(write === undefined ? '' : ` ${write}`), error.message);
        return true;
      });
    });
  }
}

function testSignals({ Signal, readSignal }) {
  const { cases } = readVectors('signals.json');
  assert.ok(cases.length > 500);
  const unit = 1_000_000n;
  const number = (text) => (text === null ? undefined : unbounded(Number(text)));
  const millis = (text) => (text === null ? undefined : Math.ceil(number(text) / 1e6));
  test('signals.json: every response says what the oracle says', () => {
    for (const { name, status, profile, headers, body, now, expect } of cases) {
      const signal = readSignal(status, headers, { profile, body, now: Number(BigInt(now) / unit) });
      assert.ok(signal instanceof Signal && Object.isFrozen(signal));
      const expected = {
        holdMs: millis(expect.hold), askedMs: millis(expect.asked), scope: expect.scope, bucket: expect.bucket,
        remaining: number(expect.remaining), limit: number(expect.limit), limitName: expect.limit_name,
        windowMs: millis(expect.window), resetMs: millis(expect.reset), shouldRetry: expect.should_retry,
        kind: expect.kind, source: expect.source,
      };
      assert.deepEqual({ ...signal }, expected, name);
    }
  });
  test('headers of every form say the same', () => {
    const pairs = [['Retry-After', '5'], ['retry-after', '7'], ['X-RateLimit-Remaining', '0']];
    const given = [
      pairs,
      new Headers(pairs),
      new Map([['Retry-After', ['5', '7']], ['X-RateLimit-Remaining', 0]]),
      { 'retry-after': ['5', 7], 'x-ratelimit-remaining': '0', other: undefined, another: null },
      Object.assign(Object.create(null), { 'retry-after': '5, 7', 'x-ratelimit-remaining': '0' }),
    ];
    for (const headers of given) {
      const { holdMs, remaining, source } = readSignal(429, headers);
      assert.deepEqual({ holdMs, remaining, source }, { holdMs: 7000, remaining: 0, source: 'retry-after' });
    }
  });
  test('the clock counts where the response has no date', () => {
    const headers = { 'Retry-After': 'Mon, 05 Jan 2026 10:02:00 GMT' };
    const now = new Date('2026-01-05T10:00:30Z');
    assert.equal(readSignal(503, headers, { now }).holdMs, 90_000);
    assert.equal(readSignal(503, headers, { now: now.getTime() + 0.5 }).holdMs, 90_000);
    assert.equal(readSignal(503, { ...headers, Date: 'Mon, 05 Jan 2026 10:01:59 GMT' }, { now: 0 }).holdMs, 1000);
    assert.equal(readSignal(503, { 'Retry-After': '60' }, { maxHoldMs: 250 }).holdMs, 250);
    assert.equal(readSignal(503, { 'Retry-After': '60' }, { maxHoldMs: Infinity }).holdMs, 60_000);
  });
  test('a body is read within bounds', () => {
    const hold = (body) => readSignal(429, {}, { body }).holdMs;
    assert.equal(hold({ retry_after: 1e-7 }), 1);
    assert.equal(hold({ retry_after: 1e30 }), 900_000);
    assert.equal(hold({ retry_after: Number.NaN, a: [1, null, { b: [] }] }), 0);
    let deep = { retry_after: 5 };
    for (let level = 0; level < 20; level++) deep = { x: [deep] };
    assert.equal(hold(deep), 0);
    const wide = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`x${index}`, 1]));
    assert.equal(hold({ ...wide, retry_after: 5 }), 0);
    const endless = {};
    endless.x = endless;
    assert.equal(hold(endless), 0);
    assert.equal(readSignal(429, { 'x-a\0retry-after': '5', 'retry-after\0': '6\x00' }).holdMs, 0);
  });
  const wrong = [
    ['status', '429', {}], ['status', -1, {}], ['status', 1000, {}], ['headers', 429, undefined], ['headers', 429, 'a: b'], ['headers', 429, ['a']],
    ['profile', 429, {}, { profile: 'GitHub' }], ['profile', 429, {}, { profile: 5 }], ['profile', 429, {}, { profile: [{ header: 'x' }] }],
    ['profile', 429, {}, { profile: [{ header: 'x', meaning: 'wait' }] }], ['profile', 429, {}, { profile: [{ header: 'x', meaning: 'reset', unit: 'minutes' }] }],
    ['profile', 429, {}, { profile: [{ header: 'x', meaning: 'reset', per: 1 }] }], ['body', 429, {}, { body: '{}' }],
    ['now', 429, {}, { now: -1 }], ['now', 429, {}, { now: new Date(Number.NaN) }], ['maxHoldMs', 429, {}, { maxHoldMs: '1' }], ['options', 429, {}, { vendor: 'x' }],
  ];
  for (const [name, ...call] of wrong) {
    test(`readSignal names a wrong ${name}: ${JSON.stringify(call)}`, () => {
      assert.throws(() => readSignal(...call), { code: 'invalid_argument', message: new RegExp(`^invalid ${name}: `) });
    });
  }
}

function testErrors(api) {
  const { errors } = readVectors('errors.json');
  for (const { code, class: name, base } of nonEmpty(errors)) {
    test(`errors.json: ${name} has the code ${code}`, () => {
      const error = new api[name]('the message');
      assert.equal(error.code, code);
      assert.equal(error.name, name);
      assert.equal(error.message, 'the message');
      assert.equal(Object.getPrototypeOf(api[name]), base === null ? Error : api[base]);
    });
  }
  test('errors.json: there are no other error classes', () => {
    const ours = Object.keys(api).filter((name) => api[name].prototype instanceof Error);
    assert.deepEqual(ours.sort(), errors.map((error) => error.class).sort());
  });
}

function testSurface(api, expectedOptions) {
  const { classes, functions, bounds } = readVectors('surface.json');
  test('surface.json: the most checks of one call', async () => {
    const many = (count) => Array.from({ length: count }, () => 'key');
    const limiter = api.createLimiter({ limits: `${2 * bounds.checks}/d` });
    assert.ok(limiter.checkManySync(many(bounds.checks)).every(({ allowed }) => allowed));
    const client = { callBuffer: async () => assert.fail('it is refused before anything is sent') };
    for (const each of [limiter, api.createLimiter({ limits: '1/d', store: client })]) {
      await assert.rejects(each.checkMany(many(bounds.checks + 1)), {
        code: 'invalid_argument',
        message: `invalid checks: there may be at most ${bounds.checks} in one call; make several calls`,
      });
    }
    assert.ok(limiter.checkManySync(many(bounds.checks)).every(({ allowed }) => allowed), 'none of too many was charged');
  });
  const inThisLanguage = (names) => names.map(inCamelCase).sort();
  const limiter = api.createLimiter({ limits: '10/s' });
  const instances = {
    Limit: limiter.limits[0],
    Limiter: limiter,
    Decision: limiter.peekSync('key', 0),
    TierDecision: limiter.peekSync('key', 0).tiers[0],
    Pressure: limiter.pressure,
    StoreHealth: limiter.storeHealth,
    Reservation: limiter.reserveSync('key'),
    FakeClock: new api.FakeClock(0n),
    Signal: api.readSignal(200, {}),
  };
  for (const [name, { languages, ...surface }] of nonEmpty(Object.entries(classes))) {
    if (languages !== undefined && !languages.includes('javascript')) continue;
    test(`surface.json: ${name}`, async () => {
      const instance = instances[name];
      assert.ok(instance instanceof api[name]);
      for (const [part, listed] of Object.entries(surface)) {
        await surfaceTests[part](name, instance, listed);
      }
    });
  }

  for (const [name, parameters] of nonEmpty(Object.entries(functions))) {
    test(`surface.json: ${name}`, async () => {
      const found = api[inCamelCase(name)];
      const own = parametersOf(found).filter((parameter) => parameter !== 'options');
      const options = await fieldsNamedBy(() => found(200, {}, { '?': 1 }));
      const expected = parameters.map((parameter) => inCamelCase(parameter === 'max_hold' ? 'max_hold_ms' : parameter));
      assert.deepEqual([...own, ...options].sort(), expected.sort());
    });
  }

  const surfaceTests = {
    fields(_name, instance, fields) {
      const getters = membersOf(instance).filter(([, { get }]) => get !== undefined);
      const ours = [...Object.keys(instance), ...getters.map(([name]) => name)];
      assert.deepEqual(ours.sort(), fields.map((field) => inCamelCase(DURATION_FIELDS.includes(field) ? `${field}_ms` : field)).sort());
    },

    // Users do not construct a Limiter: createLimiter makes one from options.
    async constructor(name, _instance, parameters) {
      if (name !== 'Limiter') {
        assert.deepEqual(parametersOf(api[name]), inThisLanguage(parameters));
        return;
      }
      const options = await fieldsNamedBy(() => api.createLimiter({ '?': 1 }));
      assert.deepEqual(options, inThisLanguage(expectedOptions));
      for (const option of expectedOptions) assert.ok(parameters.includes(option), option);
    },

    async methods(name, instance, methods) {
      const beyond = METHODS_BEYOND[name] ?? [];
      const ours = membersOf(instance).filter(([, { value }]) => value !== undefined).map(([name]) => name);
      assert.deepEqual(ours.sort(), [...new Set([...inThisLanguage(Object.keys(methods)), ...beyond])].sort());
      for (const [listed, parameters] of Object.entries(methods)) {
        const method = inCamelCase(listed);
        const own = parametersOf(instance[method]);
        const flat = own.includes('options')
          ? [...own.filter((parameter) => parameter !== 'options'),
              ...(await fieldsNamedBy(() => instance[method]('key', { '?': 1 })))].sort()
          : own;
        const { [method]: more = [] } = PARAMETERS_BEYOND;
        assert.deepEqual(flat, [...inThisLanguage(parameters), ...more].sort(), method);
      }
    },
  };
}

const DURATIONS = ['period', 'retry_after', 'reset_after', 'store_timeout', 'deny_cache', 'by', 'delay', 'max_wait', 'timeout', 'wait', 'since'];
// The fields of a Signal that are durations. Other classes have methods of these names.
const DURATION_FIELDS = ['hold', 'asked', 'window', 'reset'];

function inCamelCase(name) {
  const withUnit = DURATIONS.includes(name) ? `${name}_ms` : name;
  return withUnit.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
}

// The members that the class of an instance defines, with their descriptors.
function membersOf(instance) {
  const members = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(instance));
  return Object.entries(members).filter(([name]) => name !== 'constructor');
}

// The parameters of a function or constructor as written, with the fields that it takes from an object.
function parametersOf(callable) {
  const source = callable.toString();
  const from = source.startsWith('class') ? source.indexOf('constructor(') : 0;
  const list = source.slice(source.indexOf('(', from) + 1, source.indexOf(') {', from));
  // A parameter `surplus` is there to refuse an argument too many.
  return [...list.replace(/ = [^,{}]+/g, '').matchAll(/\w+/g)].map(([name]) => name).filter((name) => name !== 'surplus').sort();
}

// The fields that an object may have, from the error for an unknown field, which lists them.
async function fieldsNamedBy(call) {
  try {
    await call();
  } catch (error) {
    return error.message.split('there are ')[1].split(', ').sort();
  }
  return assert.fail('an unknown field was accepted');
}

export function nonEmpty(list) {
  assert.ok(list.length > 0, 'there are no vectors');
  return list;
}
