/** `createOutbound`: calls to vendors within their limits. The engine decides what a call does next; the code here carries it out. */

import { checkFields, checkSignal, checkWait, describe, invalid } from './arguments.js';
import { checkClock } from './clock.js';
import { requireMemory } from './engine.js';
import { adapterWith } from './outbound-axios.js';
import { fetchWith } from './outbound-fetch.js';
import { OutboundRun } from './outbound-run.js';
import { placesOf } from './places.js';
import { hostOf, mayTakeEffectTwice } from './responses.js';
import { DEFAULT_MAX_HOLD_MS, readSignal } from './signal.js';
import { RetryBudget, profile_of_host as profileOfHost } from './tidegate_wasm.js';

const OPTIONS = ['limiter', 'key', 'cost', 'usage', 'profile', 'retry', 'timeoutMs', 'attemptTimeoutMs', 'concurrency', 'maxHoldMs', 'hosts', 'fetch'];
const CALL_OPTIONS = ['key', 'request', 'cost', 'timeoutMs', 'signal', 'repeatable', 'idempotent'];
const RETRY_OPTIONS = ['attempts', 'baseMs', 'longestMs', 'percent', 'reserve'];
const RETRY_DEFAULTS = { attempts: 4, baseMs: 500, longestMs: 20_000, percent: 10, reserve: 10 };
const MAX_U32 = 2 ** 32 - 1;
const UNLIMITED = 'unlimited';

/** Makes calls to vendors within their limits. */
export class Outbound {
  #limiter;
  #ownsLimiter;
  #options;
  #hosts;
  #createLimiter;

  /** Use `createOutbound`. */
  constructor(options, createLimiter) {
    if (typeof createLimiter !== 'function') {
      throw invalid('Outbound', "it is made by createOutbound({ limits: '10 in any 1s' }), not with new");
    }
    if (typeof options !== 'object' || options === null || Array.isArray(options)) {
      throw invalid('options', `it must be an object, but is ${describe(options)}: write createOutbound({ limits: '10 in any 1s' })`);
    }
    const own = Object.fromEntries(OPTIONS.filter((name) => name in options).map((name) => [name, options[name]]));
    const store = Object.fromEntries(Object.entries(options).filter(([name]) => !OPTIONS.includes(name)));
    this.#options = readOptions(own, store.clock);
    this.#createLimiter = createLimiter;
    this.#ownsLimiter = own.limiter === undefined;
    this.#hosts = this.#readHosts(own, store);
    this.#limiter = this.#ownsLimiter ? createLimiter({ limits: UNLIMITED, ...store }) : checkLimiter(own.limiter, store);
    // So that it can be passed where a program takes a fetch.
    this.fetch = this.fetch.bind(this);
  }

  /** The limiter whose tokens the calls take, except those to `hosts`. */
  get limiter() {
    return this.#limiter;
  }

  /** The Outbound of a host: that of the table `hosts`, or this one. */
  at(host) {
    let name = String(host).toLowerCase();
    for (;;) {
      const found = this.#hosts.get(name);
      if (found !== undefined) return found;
      const dot = name.indexOf('.', name.startsWith('*.') ? 2 : 0);
      if (dot < 0) return this;
      name = `*${name.slice(dot)}`;
    }
  }

  /** Makes a call with any client: waits for a slot, calls `work`, reads its response, and repeats. */
  async send(work, options = {}) {
    if (typeof work !== 'function') throw invalid('work', `it must be a function, but is ${describe(work)}`);
    checkFields('options', options, CALL_OPTIONS);
    const run = this.runOf(options);
    const response = await run.exchange(work);
    await run.finish();
    return response;
  }

  /** `fetch` within the limits. */
  async fetch(input, init) {
    return fetchWith(this, this.#options.fetch, input, init);
  }

  /** An adapter for axios that makes its requests within the limits, over another adapter. */
  axiosAdapter(adapter) {
    return adapterWith(this, adapter);
  }

  /** The run of one call; for the transports of this package. */
  runOf(call) {
    const host = call.request !== undefined ? hostOf(call.request) : typeof call.key === 'string' ? hostOf(call.key) : undefined;
    const at = host === undefined ? this : this.at(host);
    return at.#run(call, host);
  }

  #run({ key, request, cost, timeoutMs, signal, repeatable = true, idempotent = mayTakeEffectTwice(request) }, host) {
    const options = this.#options;
    checkSignal(signal ?? undefined);
    const given = key ?? (typeof options.key === 'function' ? options.key(request) : options.key) ?? host;
    if (given === undefined) throw invalid('key', 'give a key, or a request or URL whose host it is');
    const charged = cost ?? (typeof options.cost === 'function' ? options.cost(request) : options.cost);
    return new OutboundRun({
      ...options,
      limiter: this.#limiter,
      key: given,
      cost: charged,
      profile: options.profile === 'auto' ? autoProfile(host) : options.profile,
      timeoutMs: timeoutMs === undefined ? options.timeoutMs : checkWait('timeoutMs', timeoutMs),
      signal: signal ?? undefined,
      repeatable,
      idempotent,
    });
  }

  /** Closes its limiters: later calls throw StoreError. */
  close() {
    if (this.#ownsLimiter) this.#limiter.close();
    for (const other of this.#hosts.values()) other.close();
  }

  #readHosts({ hosts = {}, ...own }, store) {
    checkFields('hosts', hosts, Object.keys(hosts));
    const table = new Map();
    for (const [host, entry] of Object.entries(hosts)) {
      checkHost(host);
      if (entry instanceof Outbound) {
        table.set(host.toLowerCase(), entry);
        continue;
      }
      if (typeof entry !== 'object' || entry === null) throw invalid('hosts', `each is an object of options, but that of ${describe(host)} is ${describe(entry)}`);
      const { limits, ...shared } = store;
      const { limiter, ...inherited } = own;
      // Each host has buckets of its own, in a shared store too.
      const prefix = shared.store === undefined || entry.limiter !== undefined ? {} : { prefix: `${shared.prefix ?? 'tidegate'}:${host.toLowerCase()}` };
      const options = entry.limiter === undefined ? { ...shared, ...prefix, ...inherited, ...entry } : { ...inherited, ...entry };
      table.set(host.toLowerCase(), new Outbound(options, this.#createLimiter));
    }
    return table;
  }
}

if (typeof Symbol.dispose === 'symbol') {
  const value = function dispose() {
    this.close();
  };
  Object.defineProperty(Outbound.prototype, Symbol.dispose, { value, writable: true, configurable: true });
}

// A key that matches no request would leave its vendor without a limit.
function checkHost(host) {
  const name = host.startsWith('*.') ? host.slice(2) : host;
  if (name !== '' && !name.endsWith('.') && hostOf(name) === name.toLowerCase()) return;
  throw invalid('hosts', `its names are hosts, such as "api.example.com" or "*.example.com", and not ${describe(host)}`);
}

function readOptions(own, clock) {
  const { key, cost = 1, usage, profile = 'auto', timeoutMs = Infinity, attemptTimeoutMs = Infinity, maxHoldMs = DEFAULT_MAX_HOLD_MS } = own;
  for (const [name, value] of Object.entries({ usage, fetch: own.fetch })) {
    if (value !== undefined && typeof value !== 'function') throw invalid(name, `it must be a function, but is ${describe(value)}`);
  }
  checkWait('timeoutMs', timeoutMs);
  checkWait('attemptTimeoutMs', attemptTimeoutMs);
  checkWait('maxHoldMs', maxHoldMs);
  // A wrong profile is told now, and not with the first response.
  if (profile !== 'auto') readSignal(200, [], { profile, maxHoldMs });
  const retry = readRetry(own.retry);
  requireMemory();
  const budget = new RetryBudget(retry.percent, retry.reserve);
  const places = placesOf(own.concurrency);
  if (clock !== undefined) checkClock(clock);
  return { key, cost, usage, profile, timeoutMs, attemptTimeoutMs, maxHoldMs, retry, budget, places, clock, fetch: own.fetch };
}

function readRetry(retry = {}) {
  checkFields('retry', retry, RETRY_OPTIONS);
  const read = { ...RETRY_DEFAULTS, ...retry };
  checkWhole('retry.attempts', read.attempts, 1, MAX_U32);
  checkWait('retry.baseMs', read.baseMs);
  checkWait('retry.longestMs', read.longestMs);
  checkWhole('retry.percent', read.percent, 0, 100);
  checkWhole('retry.reserve', read.reserve, 0, MAX_U32);
  return read;
}

function checkWhole(name, number, least, most) {
  if (Number.isInteger(number) && number >= least && number <= most) return;
  throw invalid(name, `it must be a whole number from ${least} to ${most}, but is ${describe(number)}`);
}

function checkLimiter(limiter, store) {
  const [surplus] = Object.keys(store);
  if (surplus !== undefined) throw invalid('limiter', `it has limits and a store already, so leave ${describe(surplus)} out`);
  if (typeof limiter?.acquire === 'function' && typeof limiter.hold === 'function') return limiter;
  throw invalid('limiter', `it must be a Limiter, but is ${describe(limiter)}`);
}

function autoProfile(host) {
  return host === undefined ? 'generic' : profileOfHost(host);
}
