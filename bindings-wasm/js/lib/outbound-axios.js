/** `Outbound.axiosAdapter`: the requests of axios within the limits. */

import { describe, invalid } from './arguments.js';
import { mayTakeEffectTwice } from './responses.js';

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
      idempotent: mayTakeEffectTwice({ method, headers }),
    });
    const response = await run.exchange(({ signal: inTime }) => adapter({ ...config, signal: inTime }));
    const { data: body } = response;
    if (typeof body?.once === 'function') for (const event of ['end', 'close']) body.once(event, () => run.finish());
    else await run.finish(typeof body === 'string' ? body : undefined);
    return response;
  };
}

// axios has made text of objects already. What is left may be a stream, which is read once.
function isRepeatable(data) {
  return data === undefined || data === null || typeof data === 'string' || data instanceof URLSearchParams || data instanceof ArrayBuffer || ArrayBuffer.isView(data);
}
