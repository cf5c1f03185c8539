/** A suite with the fake timers of Jest. */

const { cases } = require('./waits.cjs');

for (const name of ['tidegate', 'tidegate-wasm']) {
  for (const each of cases(require(name))) {
    test(`${name}: ${each.name}`, () =>
      each.run({ start: () => jest.useFakeTimers(), stop: () => jest.useRealTimers(), advance: (ms) => jest.advanceTimersByTimeAsync(ms) }));
  }
}
