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
  testDecisions(api);
  testOperations(api);
  testLimitsOfCalls(api);
  testFixed(api);
  testGrammar(api);
  testErrors(api);
  testSurface(api, options);
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
  const { classes, bounds } = readVectors('surface.json');
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
  };
  for (const [name, surface] of nonEmpty(Object.entries(classes))) {
    test(`surface.json: ${name}`, async () => {
      const instance = instances[name];
      assert.ok(instance instanceof api[name]);
      for (const [part, listed] of Object.entries(surface)) {
        await surfaceTests[part](name, instance, listed);
      }
    });
  }

  const surfaceTests = {
    fields(_name, instance, fields) {
      const getters = membersOf(instance).filter(([, { get }]) => get !== undefined);
      const ours = [...Object.keys(instance), ...getters.map(([name]) => name)];
      assert.deepEqual(ours.sort(), inThisLanguage(fields));
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
