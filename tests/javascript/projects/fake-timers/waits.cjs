/** What every library of fake timers must let a suite do; `timers` is that library behind one interface. */

const HOUR_MS = 3_600_000;

/** Runs each case under fake timers, with a limiter that was used before they were set up and with a new one. */
exports.cases = ({ createLimiter }) => [
  ['a limiter that is made under fake timers', () => createLimiter({ limits: '1/h' })],
  [
    'a limiter that was used before',
    () => {
      const limiter = createLimiter({ limits: '1/h' });
      limiter.checkSync('another');
      return limiter;
    },
  ],
].map(([name, make]) => ({
  name,
  async run(timers, isBefore = name.includes('before')) {
    let limiter = isBefore ? make() : undefined;
    timers.start();
    try {
      limiter ??= make();
      limiter.checkSync('key');
      const order = [];
      const waits = [1, 2, 3].map((place) => limiter.acquire('key').then(() => order.push(place)));
      await timers.advance(HOUR_MS - 1000);
      if (order.length > 0) throw new Error('a wait was over before its time');
      await timers.advance(1001);
      await waits[0];
      if (order.join() !== '1') throw new Error(`served ${order} after one slot`);
      await timers.advance(HOUR_MS);
      await timers.advance(HOUR_MS);
      await Promise.all(waits);
      if (order.join() !== '1,2,3') throw new Error(`served ${order}`);
      if (limiter.checkSync('key').allowed) throw new Error('the last slot is not charged');
    } finally {
      timers.stop();
    }
    // Real time goes on, and does not step back.
    if (limiter.checkSync('key').allowed) throw new Error('time has jumped');
    if (!limiter.checkSync('fresh').allowed) throw new Error('a fresh key is refused');
  },
}));
