/** `Outbound.fetch`: the standard `fetch` within the limits. */

import { describe, invalid } from './arguments.js';
import { parsed } from './responses.js';
import { is_idempotent as isIdempotent } from './tidegate_wasm.js';

// An error's body beyond this is not read for what it says of limits.
const MAX_ERROR_BODY = 64 * 1024;
// How much of the end of a body `usage` sees.
const MAX_USAGE_BODY = 1024 * 1024;
const KEYS_OF_REPETITION = ['idempotency-key', 'x-idempotency-key'];

/** Makes a request with `fetch`, the runtime's own unless given, through an Outbound. */
export async function fetchWith(outbound, fetch = globalThis.fetch, input, init) {
  if (typeof fetch !== 'function') throw invalid('fetch', `this runtime has none; give one, because it is ${describe(fetch)}`);
  // A request with a wrong URL or method fails before it takes a token.
  const request = new Request(input, init);
  const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined) ?? undefined;
  const repeatable = isRepeatable(input, init);
  const run = outbound.runOf({
    request,
    signal,
    repeatable,
    idempotent: isIdempotent(request.method, KEYS_OF_REPETITION.some((name) => request.headers.has(name))),
  });
  const send = ({ signal: inTime }) => (repeatable ? fetch(input, { ...init, signal: inTime }) : fetch(request, { signal: inTime }));
  const response = await run.exchange(send, partsOf);
  if (!run.waitsForBody || response.body === null) {
    await run.finish(response.body === null ? '' : undefined);
    return response;
  }
  return withEnd(response, run);
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

// The text of a body, or nothing if it is longer than what is read.
async function beginningOf(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = '';
  for (let read = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    read += value.length;
    if (read > MAX_ERROR_BODY) {
      reader.cancel().catch(() => {});
      return undefined;
    }
    text += decoder.decode(value, { stream: true });
  }
}

// The response with a body that tells the run when it has ended, been cancelled or broken off.
function withEnd(response, run) {
  const reader = response.body.getReader();
  const end = new BodyEnd(run.usage === undefined ? 0 : MAX_USAGE_BODY);
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
        await run.finish();
        controller.error(error);
        return;
      }
      await run.finish(run.usage === undefined ? undefined : end.text());
      controller.close();
    },
    async cancel(reason) {
      await run.finish();
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
  const { status, statusText, headers, url, redirected, type } = response;
  const own = new Response(body, { status, statusText, headers });
  for (const [name, value] of Object.entries({ url, redirected, type })) Object.defineProperty(own, name, { value });
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
