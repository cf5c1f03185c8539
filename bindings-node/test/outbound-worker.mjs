/** A process that calls a vendor through `createOutbound` and prints the statuses that it got. */

import { createConcurrency, createOutbound } from 'tidegate';

const { url, store, key, limits, calls, permits } = JSON.parse(process.argv[2]);
const options = { store, storeTimeoutMs: 5000 };
const concurrency = permits === undefined ? undefined : createConcurrency({ limit: permits, ...options });
const outbound = createOutbound({ limits, key, concurrency, timeoutMs: 60_000, ...options });
const statuses = await Promise.all(Array.from({ length: calls }, async () => {
  const response = await outbound.fetch(`${url}/call`);
  await response.text();
  return response.status;
}));
outbound.close();
concurrency?.close();
console.log(JSON.stringify(statuses));
