/** `Outbound.fetch`: the standard `fetch` within the limits. */

import { offAbort, onAbort } from './abort.js';
import { describe, invalid } from './arguments.js';
import { monotonicMillis } from './clock.js';
import { mayTakeEffectTwice, parsed } from './responses.js';

// An error's body beyond this is not read for what it says of limits.
const MAX_ERROR_BODY = 64 * 1024;
// How much of the end of a body `usage` sees.
const MAX_USAGE_BODY = 1024 * 1024;
// How long the body of an error is waited for.
const ERROR_BODY_MS = 2000;
const MAX_REDIRECTS = 20;
const REDIRECTS = [301, 302, 303, 307, 308];
const OF_BODIES = ['content-encoding', 'content-language', 'content-length', 'content-location', 'content-type'];
const OF_ORIGINS = ['authorization', 'cookie', 'host', 'proxy-authorization'];
// Browsers follow redirects themselves, and show nobody where to.
const FOLLOWS_ALONE = typeof globalThis.document === 'object' || typeof globalThis.importScripts === 'function';

/** Makes a request with `fetch`, the runtime's own unless given, through an Outbound. Each redirect is a call of its own. */
export async function fetchWith(outbound, fetch = globalThis.fetch, input, init) {
  if (typeof fetch !== 'function') throw invalid('fetch', `this runtime has none; give one, because it is ${describe(fetch)}`);
  // A request with a wrong URL or method fails before it takes a token. It does not listen to the signal, which may outlive it.
  const request = new Request(input, { ...init, signal: null });
  const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined) ?? undefined;
  const follows = !FOLLOWS_ALONE && request.redirect === 'follow';
  let hop = { request, repeatable: isRepeatable(input, init) };
  const isRepeatableFirst = hop.repeatable;
  hop.send = (options) => (isRepeatableFirst ? fetch(input, { ...init, ...options }) : fetch(request, options));
  hop.send.body = init?.body ?? undefined;
  hop.send.init = init;
  const begun = monotonicMillis();
  let timeoutMs;
  for (let redirects = 0; ; redirects++) {
    const { request: current, repeatable, send } = hop;
    const run = outbound.runOf({ request: current, signal, repeatable, timeoutMs, idempotent: mayTakeEffectTwice(current) });
    const manual = follows ? { redirect: 'manual' } : {};
    const response = await run.exchange(({ signal: inTime }) => send({ signal: inTime, ...manual }), partsOf);
    const next = follows ? redirectOf(response, hop, fetch) : undefined;
    if (next === undefined) return finished(response, run, { signal, isRedirected: redirects > 0 });
    response.body?.cancel().catch(() => {});
    await run.finish();
    if (redirects === MAX_REDIRECTS) throw new TypeError(`there are more than ${MAX_REDIRECTS} redirects`);
    timeoutMs = Math.max(0, run.timeoutMs - (monotonicMillis() - begun));
    hop = next;
  }
}

// The request that a redirect asks for, as the standard of fetch says; undefined if the response is none.
function redirectOf({ status, headers }, { request, repeatable, send }, fetch) {
  const location = REDIRECTS.includes(status) ? headers.get('location') : null;
  if (location === null) return undefined;
  const url = new URL(location, request.url);
  if (!/^https?:$/.test(url.protocol)) throw new TypeError(`a redirect to ${url.protocol} is not followed`);
  const { method } = request;
  const losesBody = status === 303 ? !['GET', 'HEAD'].includes(method) : status < 303 && method === 'POST';
  const hasBody = !losesBody && request.body !== null;
  if (hasBody && !repeatable) throw new TypeError('a redirect needs the body again, which is a stream');
  const own = new Headers(request.headers);
  for (const name of losesBody ? OF_BODIES : []) own.delete(name);
  for (const name of url.origin === new URL(request.url).origin ? [] : OF_ORIGINS) own.delete(name);
  const options = { method: losesBody ? 'GET' : method, headers: own };
  // A body is sent as the caller gave it. A form gets another boundary, which its type names.
  const again = hasBody ? send.body : undefined;
  if (again instanceof FormData) own.delete('content-type');
  const next = new Request(url, options);
  const sendNext = (more) => fetch(url.href, { ...send.init, ...options, body: again, ...more });
  sendNext.init = send.init;
  sendNext.body = again;
  return { request: next, repeatable: true, send: sendNext };
}

// The response, with a body that tells the run when it has ended if that is of use.
async function finished(response, run, { signal, isRedirected }) {
  const isStream = typeof response.body?.getReader === 'function';
  if (!isStream || !run.waitsForBody) {
    await run.finish(response.body === null ? '' : undefined);
    if (isRedirected) Object.defineProperty(response, 'redirected', { value: true });
    return response;
  }
  return withEnd(response, run, { signal, isRedirected });
}

// Whether the arguments make the same request again. A stream is read once.
function isRepeatable(input, init) {
  const { body } = init ?? {};
  if (body === undefined || body === null) return !(input instanceof Request) || input.body === null;
  return typeof body === 'string' || body instanceof URLSearchParams || body instanceof FormData || body instanceof Blob || body instanceof ArrayBuffer || ArrayBuffer.isView(body);
}

// Only bodies of errors say something of limits that headers do not; those of successes are the caller's alone.
async function partsOf(response) {
  const { status, headers } = response;
  const isJson = headers.get('content-type')?.toLowerCase().includes('json') ?? false;
  const isSmall = Number(headers.get('content-length') ?? 0) <= MAX_ERROR_BODY;
  if (status < 400 || !isJson || !isSmall || response.body === null) return { status, headers };
  return { status, headers, body: parsed(await beginningOf(response.clone().body)) };
}

// The text of a body, or nothing if it is longer than what is read or takes longer than it is waited for.
async function beginningOf(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ done: false }), ERROR_BODY_MS);
  });
  let text = '';
  try {
    for (let read = 0; ;) {
      const { done, value } = await Promise.race([reader.read(), late]);
      if (done) return text + decoder.decode();
      read += value === undefined ? Infinity : value.length;
      if (read > MAX_ERROR_BODY) {
        reader.cancel().catch(() => {});
        return undefined;
      }
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    clearTimeout(timer);
  }
}

// Bodies that nobody holds any more have ended too.
const forgotten = typeof FinalizationRegistry === 'function' ? new FinalizationRegistry((finish) => finish()) : undefined;

// The response with a body that tells the run when it has ended, been cancelled, broken off or forgotten.
function withEnd(response, run, { signal, isRedirected }) {
  const reader = response.body.getReader();
  const end = new BodyEnd(run.usage === undefined ? 0 : MAX_USAGE_BODY);
  const abort = () => finish();
  const finish = async (text) => {
    if (signal !== undefined) offAbort(signal, abort);
    await run.finish(text);
  };
  if (signal !== undefined) onAbort(signal, abort);
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) {
          end.add(value);
          controller.enqueue(value);
          return;
        }
      } catch (error) {
        await finish();
        controller.error(error);
        return;
      }
      await finish(run.usage === undefined ? undefined : end.text());
      controller.close();
    },
    async cancel(reason) {
      await finish();
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
  const { status, statusText, headers, url, redirected, type } = response;
  const own = new Response(body, { status, statusText, headers });
  for (const [name, value] of Object.entries({ url, redirected: redirected || isRedirected, type })) Object.defineProperty(own, name, { value });
  forgotten?.register(body, finish);
  return own;
}

/** The last bytes of a body. */
class BodyEnd {
  #parts = [];
  #length = 0;
  #most;

  constructor(most) {
    this.#most = most;
  }

  add(bytes) {
    if (this.#most === 0) return;
    this.#parts.push(bytes);
    this.#length += bytes.length;
    while (this.#length - this.#parts[0].length >= this.#most) this.#length -= this.#parts.shift().length;
  }

  text() {
    const decoder = new TextDecoder();
    return this.#parts.map((part) => decoder.decode(part, { stream: true })).join('') + decoder.decode();
  }
}
