/** `Outbound.axiosAdapter`: the requests of axios within the limits. */

import { describe, invalid } from './arguments.js';
import { is_idempotent as isIdempotent } from './tidegate_wasm.js';

const KEYS_OF_REPETITION = ['Idempotency-Key', 'X-Idempotency-Key'];

/** An adapter for `axios.create({ adapter })` over one that sends requests, as `axios.getAdapter('http')` gives. */
export function adapterWith(outbound, adapter) {
  if (typeof adapter !== 'function') {
    throw invalid('adapter', `it must be a function, as axios.getAdapter(axios.defaults.adapter) gives, but is ${describe(adapter)}`);
  }
  return async (config) => {
    const { url = '', baseURL, method = 'get', data, headers, signal } = config;
    const run = outbound.runOf({
      request: { url: baseURL === undefined ? url : new URL(url, baseURL).href },
      signal: signal ?? undefined,
      repeatable: isRepeatable(data),
      idempotent: isIdempotent(method.toUpperCase(), KEYS_OF_REPETITION.some((name) => headers?.get(name))),
    });
    const response = await run.exchange(({ signal: inTime }) => adapter({ ...config, signal: inTime }));
    await run.finish(typeof response.data === 'string' ? response.data : undefined);
    return response;
  };
}

// axios has made text of objects already. What is left may be a stream, which is read once.
function isRepeatable(data) {
  return data === undefined || data === null || typeof data === 'string' || data instanceof URLSearchParams || data instanceof ArrayBuffer || ArrayBuffer.isView(data);
}
