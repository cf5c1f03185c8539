/** A suite of a user whose Jest has no configuration, so its modules are CommonJS. */

for (const name of ['tidegate', 'tidegate-wasm']) {
  const { FakeClock, InvalidLimit, Limiter, createLimiter } = require(name);

  test(`${name} limits`, async () => {
    const clock = new FakeClock();
    const limiter = createLimiter({ limits: '2/s', clock });
    expect(limiter).toBeInstanceOf(Limiter);
    expect([limiter.checkSync('key').allowed, (await limiter.check('key', { cost: 2 })).allowed]).toEqual([true, false]);
    await limiter.acquire('key', { cost: 2 });
    expect(clock.now()).toBe(500_000_000n);
    expect(() => createLimiter({ limits: 'nonsense' })).toThrow(InvalidLimit);
  });
}

test('tidegate reaches Redis', async () => {
  const { StoreError, createLimiter } = require('tidegate');
  const limiter = createLimiter({ limits: '2/s', store: 'redis://127.0.0.1:1' });
  await expect(limiter.check('key')).rejects.toThrow(StoreError);
});
