/** Time that a test moves, in the place of the runtime's clocks and timers. */

const realTurn = setImmediate;
// Above what performance.now() has shown, so that the package does not see its clock step back.
const START_MS = 1e9;

/**
 * The time of this process, in whole milliseconds, from `install` on. It moves from one timer to the
 * next, and after each one all that can go on does.
 *
 * A FakeClock would not do: on it nobody waits.
 */
export class SimulatedTime {
  #now = START_MS;
  #epoch;
  // A binary heap of timers, the nearest on top. One that was cleared stays until its time.
  #heap = [];
  #timers = new Map();
  #lastId = 0;

  /** Replaces the clocks and timers for the rest of the process. `epochMs` is the time of day. */
  static install(epochMs) {
    const time = new SimulatedTime();
    time.#epoch = epochMs;
    performance.now = () => time.#now;
    Date.now = () => time.now;
    globalThis.setTimeout = (run, ms, ...given) => time.#set(() => run(...given), ms);
    globalThis.clearTimeout = (timer) => { time.#timers.delete(timer?.id); };
    return time;
  }

  /** The time of day in milliseconds. */
  get now() {
    return this.#epoch + this.#now - START_MS;
  }

  /** The number of timers that are set. */
  get timers() {
    return this.#timers.size;
  }

  /** Sets another time of day, of another test. It must not lie before the present one. */
  jump(epochMs) {
    this.#epoch = epochMs - (this.#now - START_MS);
  }

  async sleep(ms) {
    await new Promise((resolve) => { this.#set(resolve, ms); });
  }

  /** Moves the time to `until`, a time of day in milliseconds, by way of all timers that are due by then. */
  async runTo(until) {
    const end = until - this.#epoch + START_MS;
    await turn();
    while (this.#heap.length > 0 && this.#heap[0].at <= end) {
      const { at, id } = this.#pop();
      const run = this.#timers.get(id);
      if (run === undefined) continue;
      this.#timers.delete(id);
      this.#now = at;
      run();
      await turn();
    }
    this.#now = end;
  }

  #set(run, ms) {
    const id = ++this.#lastId;
    this.#timers.set(id, run);
    this.#push({ at: this.#now + Math.max(1, Math.trunc(ms)), id });
    return { id, ref() {}, unref() {} };
  }

  #push(timer) {
    const heap = this.#heap;
    let place = heap.push(timer) - 1;
    for (let above = (place - 1) >> 1; place > 0 && isBefore(timer, heap[above]); above = (place - 1) >> 1) {
      heap[place] = heap[above];
      place = above;
    }
    heap[place] = timer;
  }

  #pop() {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (heap.length === 0) return first;
    let place = 0;
    for (;;) {
      let below = 2 * place + 1;
      if (below + 1 < heap.length && isBefore(heap[below + 1], heap[below])) below++;
      if (below >= heap.length || !isBefore(heap[below], last)) break;
      heap[place] = heap[below];
      place = below;
    }
    heap[place] = last;
    return first;
  }
}

function isBefore(one, other) {
  return one.at < other.at || (one.at === other.at && one.id < other.id);
}

// Lets everything run that waits for a promise.
function turn() {
  return new Promise((resolve) => { realTurn(resolve); });
}
