/** What the responses, requests and errors of HTTP clients say, whichever client they are of. */

import { is_idempotent as isIdempotent } from './tidegate_wasm.js';

const KEYS_OF_REPETITION = ['idempotency-key', 'x-idempotency-key'];
// The codes of the errors of Node, undici and axios. A call whose request never left may be repeated whatever it does.
const FAILURES = new Map([
  ...['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL', 'UND_ERR_CONNECT_TIMEOUT'].map((code) => [code, 'not_sent']),
  ...['ETIMEDOUT', 'ECONNABORTED', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ESOCKETTIMEDOUT'].map((code) => [code, 'timed_out']),
  ...['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'ERR_HTTP2_STREAM_ERROR', 'ERR_NETWORK'].map((code) => [code, 'broken']),
  ...[
    'CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID', 'CERT_REVOKED', 'CERT_UNTRUSTED', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERR_TLS_CERT_ALTNAME_INVALID', 'ERR_INVALID_URL', 'ERR_INVALID_PROTOCOL',
  ].map((code) => [code, 'permanent']),
]);
// What the runtimes' own `fetch` says when it gets no response. It says no more than that.
const OF_FETCH = /^(fetch failed|failed to fetch|load failed|network ?error|network connection lost)/i;
const MAX_CAUSES = 8;

/** The kind of failure that an error of a client is; undefined if it is none, but a mistake of the program, say. */
export function failureOf(error) {
  const causes = causesOf(error);
  for (const cause of causes) {
    const kind = FAILURES.get(cause.code);
    if (kind !== undefined) return kind;
  }
  if (causes.some(({ name }) => name === 'TimeoutError')) return 'timed_out';
  return causes.some(({ name, message }) => name === 'TypeError' && OF_FETCH.test(message)) ? 'broken' : undefined;
}

// The innermost comes first, because it says most: `fetch failed` has the reason as its cause.
function causesOf(error) {
  const causes = [];
  for (let cause = error; typeof cause === 'object' && cause !== null && causes.length < MAX_CAUSES; cause = cause.cause ?? cause.errors?.[0]) {
    causes.unshift(cause);
  }
  return causes;
}

/** The status, the headers and the parsed body of a client's response; undefined if it is none. */
export function partsOf(response) {
  if (typeof response !== 'object' || response === null) return undefined;
  const status = response.status ?? response.statusCode;
  const { headers } = response;
  if (!Number.isInteger(status) || typeof headers !== 'object' || headers === null) return undefined;
  return { status, headers, body: parsed(response.data) };
}

/** The parts of the response that an error carries, as axios's do. */
export function partsOfError(error) {
  if (typeof error !== 'object' || error === null) return undefined;
  return partsOf(error.response) ?? partsOf(error);
}

/** JSON that may be parsed already; undefined if it is none. Nothing in a response throws. */
export function parsed(body) {
  if (typeof body === 'object' && body !== null) return isPlain(body) ? body : undefined;
  if (typeof body !== 'string') return undefined;
  try {
    const value = JSON.parse(body);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The host of a URL, of a request of any client, or of a text that is a host already, in lower case. */
export function hostOf(request) {
  const url = typeof request === 'object' && request !== null && !(request instanceof URL) ? request.url : request;
  const text = String(url ?? '');
  try {
    const { hostname } = new URL(text.includes('//') ? text : `http://${text}`);
    // The final dot of a full name tells no other host.
    const host = hostname.toLowerCase().replace(/\.$/, '');
    return host === '' ? undefined : host;
  } catch {
    return undefined;
  }
}

/** Whether a request may take effect twice, by its method or a key that vendors tell repetitions by. One that tells no method may. */
export function mayTakeEffectTwice(request) {
  const { method, headers } = typeof request === 'object' && request !== null ? request : {};
  if (typeof method !== 'string') return true;
  const has = (name) => (typeof headers?.has === 'function' ? headers.has(name) : Object.keys(headers ?? {}).some((given) => given.toLowerCase() === name));
  return isIdempotent(method.toUpperCase(), KEYS_OF_REPETITION.some(has));
}

// A body that is a stream or bytes is no JSON.
function isPlain(value) {
  const prototype = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === null || Object.getPrototypeOf(prototype) === null;
}
