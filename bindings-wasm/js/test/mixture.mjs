/** A random mixture of everything that can happen to those who wait, and what must hold in the end. */

import assert from 'node:assert/strict';

const KEY = 'key';
// A hold reaches the lines of other limits and of other limiters within this time.
const LOOK_MS = 100;
// All callers have an answer this long after the last has come.
const ANSWERED_WITHIN_MS = 60_000;

/** The time of the runtime, with the methods that a mixture needs. */
export const realTime = {
  get now() {
    return performance.now();
  },
  sleep(ms) {
    return new Promise((resolve) => { setTimeout(resolve, ms); });
  },
};

/**
 * Runs a mixture for `seconds` and returns its figures. Fails unless the bound holds in every stretch
 * of time, callers of one line are served in their order, everybody has an answer, nobody is served
 * during a hold, and nothing is left.
 *
 * `limiters` have buckets of their own unless `isShared`. Their limit and all `plans`, which the
 * calls bring, have the rate and the burst, so that the bound of a bucket is theirs, whoever comes.
 */
export async function runMixture({ seed, seconds, time, limiters, plans, rate, burst, isShared }) {
  const mixture = new Mixture({ seed, time, limiters, plans, rate, burst, isShared });
  await mixture.run(seconds);
  return mixture.judge();
}

/**
 * The limits of a mixture: the text of the limiter's own, and the plans. `undefined` is no plan, and
 * every third seed has no other.
 */
export function limitsOf(rate, burst, seed) {
  const own = `${rate}/s burst ${burst}`;
  return { own, plans: seed % 3 === 0 ? [undefined] : [undefined, undefined, own, [own, '1000000000/s']] };
}

class Mixture {
  #random;
  #failure;
  #options;
  // The time for which an answer may be late.
  #lateMs = 0;
  #longestMs = 0;
  // How far ahead the farthest slot was.
  #farthestMs = 0;
  #calls = [];
  #groups = [new AbortController()];
  #answers = { allowed: 0, refused: 0, aborted: 0 };
  #operations = 0;
  // What has happened to each bucket.
  #buckets;
  // The number of the last caller that each line has served.
  #lastServed = new Map();
  #arrived = 0;

  constructor(options) {
    this.#options = options;
    this.#random = randomFrom(options.seed);
    const buckets = options.isShared ? 1 : options.limiters.length;
    this.#buckets = Array.from({ length: buckets }, () => ({ served: [], returned: [], holds: [], cancels: [] }));
  }

  async run(seconds) {
    const { time } = this.#options;
    const end = time.now + 1000 * seconds;
    const heart = time === realTime ? this.#beat(end) : undefined;
    while (time.now < end && this.#failure === undefined) {
      for (let events = this.#below(4); events > 0; events--) this.#doSomething();
      await time.sleep(1 + this.#below(this.#pauseMs));
    }
    this.#groups.at(-1).abort();
    await heart;
    const answered = Promise.all(this.#calls);
    const hang = new AbortController();
    const isOver = Promise.race([answered.then(() => true), sleepUnless(hang.signal, time, ANSWERED_WITHIN_MS)]);
    assert.ok(await isOver, `seed ${this.#options.seed}: somebody has no answer`);
    hang.abort();
  }

  #below(bound) {
    return Math.floor(this.#random() * bound);
  }

  // The pause between events, so that 1.5 times as many tokens are wanted as there are.
  get #pauseMs() {
    const { rate, burst, limiters, isShared } = this.#options;
    const tokens = 1.5 * 0.75 * ((1 + burst) / 2);
    return Math.max(2, Math.round((2 * 1000 * tokens) / (1.5 * rate * (isShared ? 1 : limiters.length))));
  }

  #doSomething() {
    this.#operations++;
    const { limiters, plans, isShared } = this.#options;
    const place = this.#below(limiters.length);
    const limiter = limiters[place];
    const bucket = this.#buckets[isShared ? 0 : place];
    const plan = this.#below(plans.length);
    const under = plans[plan] === undefined ? limiter : limiter.withLimits(plans[plan]);
    const chance = this.#random();
    if (chance < 0.75) this.#call(this.#arrive(limiter, bucket, `${place} ${plans[plan]}`, plans[plan]));
    else if (chance < 0.85) this.#call(this.#reserve(under, bucket));
    else if (chance < 0.9) this.#leaveTogether();
    else if (chance < 0.91) this.#call(this.#hold(under, bucket));
    else if (chance < 0.94) this.#call(this.#credit(under, bucket, 1));
  }

  #call(work) {
    const call = work.catch((error) => { this.#failure ??= error; });
    this.#calls.push(call);
  }

  async #arrive(limiter, bucket, line, limits) {
    const { time, burst } = this.#options;
    const number = ++this.#arrived;
    const cost = 1 + this.#below(burst);
    const options = { cost, limits };
    const kind = this.#below(4);
    if (kind < 2) options.timeoutMs = this.#below(500);
    if (kind > 0) ({ signal: options.signal } = this.#groups.at(-1));
    const asked = time.now;
    const under = limits === undefined ? limiter : limiter.withLimits(limits);
    try {
      const acquiring = limiter.acquire(KEY, options);
      this.#farthestMs = Math.max(this.#farthestMs, under.waiting(KEY).untilMs);
      await acquiring;
    } catch (error) {
      const { code, name } = error;
      if (code === 'rate_limited') this.#answers.refused++;
      else if (name === 'AbortError') this.#answers.aborted++;
      else throw error;
      return;
    }
    this.#answers.allowed++;
    const at = time.now;
    bucket.served.push({ at, tokens: cost });
    this.#longestMs = Math.max(this.#longestMs, at - asked);
    const last = this.#lastServed.get(line) ?? 0;
    assert.ok(number > last, `seed ${this.#options.seed}: ${number} of the line ${line} was served after ${last}`);
    this.#lastServed.set(line, number);
    if (cost === 1 || this.#below(3) > 0) return;
    const back = this.#below(cost);
    bucket.returned.push({ at: time.now, tokens: back });
    await under.settle(KEY, cost, cost - back);
  }

  async #reserve(under, bucket) {
    const { time, burst } = this.#options;
    const made = time.now;
    const cost = 1 + this.#below(burst);
    const reservation = await under.reserve(KEY, { cost, maxWaitMs: this.#below(1000) });
    if (!reservation.allowed) return;
    this.#farthestMs = Math.max(this.#farthestMs, reservation.delayMs);
    await time.sleep(1 + this.#below(50));
    bucket.cancels.push({ made, at: time.now });
    // Callers that wait get them at once if their time has come.
    bucket.returned.push({ at: time.now, tokens: cost });
    await reservation.cancel();
  }

  // All callers of the last group leave, and the next have a signal of their own.
  #leaveTogether() {
    const { isShared, time } = this.#options;
    this.#groups.at(-1).abort();
    // A limiter that has not heard of a hold may shorten it by giving back a slot that covers it.
    if (isShared) this.#buckets[0].cancels.push({ made: 0, at: time.now });
    this.#groups = [new AbortController()];
  }

  async #hold(under, bucket) {
    const { time } = this.#options;
    const waitMs = this.#below(400);
    const asked = time.now;
    await under.hold(KEY, waitMs);
    bucket.holds.push({ at: time.now, end: asked + waitMs });
  }

  async #credit(under, bucket, tokens) {
    bucket.returned.push({ at: this.#options.time.now, tokens });
    await under.credit(KEY, tokens);
  }

  // Measures how late an answer may be: by what the event loop was busy, and the store.
  async #beat(end) {
    const { time, limiters } = this.#options;
    for (let before = time.now; before < end;) {
      await time.sleep(1);
      await limiters[0].peek('heartbeat');
      const { now } = time;
      // The time that was to pass is not late.
      this.#lateMs = Math.max(this.#lateMs, now - before - 1);
      before = now;
    }
  }

  async judge() {
    const { seed, time, limiters, plans, burst, isShared } = this.#options;
    if (this.#failure !== undefined) throw this.#failure;
    for (const limiter of limiters) {
      for (const plan of plans) {
        const under = plan === undefined ? limiter : limiter.withLimits(plan);
        assert.deepEqual(under.waiting(KEY), { callers: 0, tokens: 0, untilMs: 0 }, `seed ${seed}`);
      }
      // Nothing is left of the lines: the bucket is full once time has paid.
      const deadline = time.now + ANSWERED_WITHIN_MS;
      while ((await limiter.peek(KEY, 0)).remaining < burst) {
        assert.ok(time.now < deadline, `seed ${seed}: the bucket is not full again`);
        await time.sleep(10);
      }
    }
    const margins = this.#buckets.map((bucket) => this.#leastMargin(bucket));
    const during = this.#buckets.flatMap((bucket) => this.#servedDuringHolds(bucket));
    const tokens = this.#buckets.flatMap(({ served }) => served).reduce((sum, { tokens }) => sum + tokens, 0);
    const figures = {
      operations: this.#operations,
      callers: this.#arrived,
      ...this.#answers,
      tokens,
      holds: this.#buckets.flatMap(({ holds }) => holds).length,
      isShared,
      lateMs: Math.round(this.#lateMs),
      longestMs: Math.round(this.#longestMs),
      leastMargin: Math.round(10 * Math.min(...margins)) / 10,
    };
    const shown = `seed ${seed}: ${JSON.stringify(figures)}`;
    assert.ok(figures.leastMargin >= 0, shown);
    assert.deepEqual(during, [], shown);
    assert.ok(this.#answers.allowed > 0, shown);
    return figures;
  }

  // How many tokens fewer than the bound the fullest of all stretches of time had. Tokens that came
  // back before a stretch may have slots in it, as far ahead as the farthest slot was.
  #leastMargin({ served, returned }) {
    const { rate, burst, limiters, plans, isShared } = this.#options;
    // Callers of each plan are a line, which keeps tokens for a first one that needs several.
    const lines = new Set(plans.map(String)).size * (isShared ? limiters.length : 1);
    const kept = lines === 1 ? 0 : lines * (burst - 1);
    const most = burst + kept + (rate * this.#lateMs) / 1000;
    const farthest = Math.max(this.#longestMs, this.#farthestMs) + 2 * this.#lateMs;
    const [back, backLongAgo] = [new RunningSum(returned), new RunningSum(returned)];
    let [fewest, highest, used] = [Infinity, -Infinity, 0];
    for (const { at, tokens } of served) {
      const paid = (rate * at) / 1000;
      highest = Math.max(highest, paid + backLongAgo.upTo(at - farthest) - used);
      used += tokens;
      fewest = Math.min(fewest, paid + back.upTo(at) - used - highest);
    }
    return fewest + most;
  }

  // Callers that were served during a hold, later than they can have heard of it. Tokens that come back
  // shorten a hold, or serve somebody who came after it, and a cancelled reservation removes one that it
  // covered.
  #servedDuringHolds({ served, returned, holds, cancels }) {
    const { rate, isShared } = this.#options;
    const heardMs = this.#lateMs + (isShared ? LOOK_MS : 0);
    return holds.flatMap(({ at, end }) => {
      const since = at - heardMs - LOOK_MS;
      const back = returned.filter((it) => since < it.at && it.at < end).reduce((sum, it) => sum + it.tokens, 0);
      const cancelled = cancels.find((it) => it.made <= at && at <= it.at)?.at ?? Infinity;
      const shorter = Math.min(end - (1000 * back) / rate, cancelled);
      const during = served.filter((it) => at + heardMs < it.at && it.at < shorter);
      const tokens = during.reduce((sum, it) => sum + it.tokens, 0);
      return tokens > back ? during.map((it) => it.at - at) : [];
    });
  }
}

/** The sum of what has happened up to times that ascend. */
class RunningSum {
  #events;
  #place = 0;
  #sum = 0;

  constructor(events) {
    this.#events = events;
  }

  upTo(time) {
    while (this.#place < this.#events.length && this.#events[this.#place].at <= time) {
      this.#sum += this.#events[this.#place++].tokens;
    }
    return this.#sum;
  }
}

// Sleeps in short steps, so that no timer is left for long. Answers false when the time is over.
async function sleepUnless(signal, time, ms) {
  for (const end = time.now + ms; time.now < end && !signal.aborted;) await time.sleep(50);
  return false;
}

// Numbers that look random, from 0 to 1.
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
