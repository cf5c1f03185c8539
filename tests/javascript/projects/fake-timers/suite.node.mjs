/** A suite with the mock timers of node:test, which leave performance.now() as it is, and with those of sinon. */

import { mock, test } from 'node:test';

import sinon from 'sinon';
import * as node from 'tidegate';
import * as wasm from 'tidegate-wasm';

import { cases } from './waits.cjs';

const realImmediate = setImmediate;
const settled = () => new Promise((resolve) => realImmediate(resolve));

const nodeTimers = (apis) => ({
  start: () => mock.timers.enable({ apis }),
  stop: () => mock.timers.reset(),
  async advance(ms) {
    mock.timers.tick(ms);
    await settled();
  },
});

function sinonTimers(config) {
  let clock;
  return {
    start: () => {
      clock = sinon.useFakeTimers(config);
    },
    stop: () => clock.restore(),
    advance: (ms) => clock.tickAsync(ms),
  };
}

const TIMERS = {
  'node:test, setTimeout only': () => nodeTimers(['setTimeout']),
  'node:test, setTimeout and Date': () => nodeTimers(['setTimeout', 'Date']),
  'node:test, all': () => nodeTimers(['setTimeout', 'setInterval', 'setImmediate', 'Date']),
  sinon: () => sinonTimers(undefined),
  'sinon, setTimeout only': () => sinonTimers({ toFake: ['setTimeout', 'clearTimeout'] }),
};

for (const [name, api] of Object.entries({ tidegate: node, 'tidegate-wasm': wasm })) {
  for (const [library, make] of Object.entries(TIMERS)) {
    for (const each of cases(api)) test(`${name}, ${library}: ${each.name}`, () => each.run(make()));
  }
}
