/** A suite with the fake timers of vitest. */

import * as node from 'tidegate';
import * as wasm from 'tidegate-wasm';
import { test, vi } from 'vitest';

import { cases } from './waits.cjs';

for (const [name, api] of Object.entries({ tidegate: node, 'tidegate-wasm': wasm })) {
  for (const each of cases(api)) {
    test(`${name}: ${each.name}`, () =>
      each.run({ start: () => vi.useFakeTimers(), stop: () => vi.useRealTimers(), advance: (ms) => vi.advanceTimersByTimeAsync(ms) }));
  }
}
