/** A process that calls a vendor through `createOutbound` and prints the statuses that it got. */

import { createOutbound } from 'tidegate';

const { url, store, key, limits, calls } = JSON.parse(process.argv[2]);
const outbound = createOutbound({ limits, store, key, storeTimeoutMs: 5000, timeoutMs: 60_000 });
const statuses = await Promise.all(Array.from({ length: calls }, async () => {
  const response = await outbound.fetch(`${url}/call`);
  await response.text();
  return response.status;
}));
outbound.close();
console.log(JSON.stringify(statuses));
