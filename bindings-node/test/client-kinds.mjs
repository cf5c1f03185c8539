/** The kinds of store with which tests run: each client that a program may have, and a URL. */

import { Redis as Upstash } from '@upstash/redis';
import { Redis as Ioredis } from 'ioredis';
import { createClient } from 'redis';

import { startForwarder } from '../../tests/end_to_end/upstash_forwarder.mjs';

/** The functions that make a client of each kind, and return the client and what ends it. */
export const CLIENTS = {
  async ioredis({ port }) {
    const client = new Ioredis({ port, maxRetriesPerRequest: 0, retryStrategy: () => 50 });
    client.on('error', () => {});
    return { client, end: () => client.disconnect() };
  },
  async 'ioredis with automatic pipelining'({ port }) {
    const client = new Ioredis({ port, maxRetriesPerRequest: 0, retryStrategy: () => 50, enableAutoPipelining: true });
    client.on('error', () => {});
    return { client, end: () => client.disconnect() };
  },
  async 'node-redis'({ port }) {
    const client = createClient({ socket: { port, reconnectStrategy: () => 50 }, disableOfflineQueue: true });
    client.on('error', () => {});
    await client.connect();
    return { client, end: () => client.destroy() };
  },
  async upstash({ port }) {
    const { url, close } = await startForwarder({ redisPort: port, token: 'secret' });
    const client = new Upstash({ url, token: 'secret', retry: false, enableTelemetry: false });
    return { client, end: close };
  },
};

/** The functions that make a store of each kind for `createLimiter`. */
export const STORES = {
  url: async ({ url }) => ({ client: url, end() {} }),
  ...CLIENTS,
};
