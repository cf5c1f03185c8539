/** The types accept the clients of other packages, and refuse anything else. This file is compiled and never run. */
import { Redis as Upstash } from '@upstash/redis';
import { Cluster, Redis as Ioredis } from 'ioredis';
import { createClient, createCluster } from 'redis';
import type { GlideClient, GlideClusterClient } from '@valkey/valkey-glide';
import { createClient as createClient4 } from 'redis-4';
import { createClient as createClient5 } from 'redis-5';
import { Limiter, createLimiter } from 'tidegate';

const limits = '10/s';
const overIoredis: Limiter = createLimiter({ limits, store: new Ioredis(), prefix: 'api', storeTimeoutMs: 20 });
const overItsCluster: Limiter = createLimiter({ limits, store: new Cluster([]) });
const overNodeRedis: Limiter = createLimiter({ limits, store: createClient() });
const overThatCluster: Limiter = createLimiter({ limits, store: createCluster({ rootNodes: [] }) });
const overUpstash: Limiter = createLimiter({ limits, store: new Upstash({ url: '', token: '' }) });
declare const glide: GlideClient | GlideClusterClient;
const overGlide: Limiter = createLimiter({ limits, store: glide });
const earlier: Limiter[] = [createLimiter({ limits, store: createClient4() }), createLimiter({ limits, store: createClient5({ RESP: 3 }) })];
const failing: Limiter = createLimiter({
  limits, store: createClient(), onStoreError: 'local', peers: 3, denyCacheMs: 0, lease: { ttlMs: 1000, maxShare: 0.5 },
});
console.log(overGlide, earlier, failing, overIoredis, overItsCluster, overNodeRedis, overThatCluster, overUpstash);

// @ts-expect-error over a client there are promises only
overIoredis.checkSync('key');
// @ts-expect-error an unknown policy
createLimiter({ limits, store: createClient(), onStoreError: 'ignore' });
// @ts-expect-error no client
createLimiter({ limits, store: {} });
