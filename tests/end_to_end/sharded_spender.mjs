/**
 * Spends as test_sharding_proxy.py does, over a client of the program's own, and prints how many calls
 * were admitted.
 *
 *   sharded_spender.mjs CLIENT PORT PREFIX PER_KEY_CALLS LIMIT KEYS ROUNDS
 */

import { createRequire } from 'node:module';
import { createLimiter } from '../../bindings-node/dist/index.js';

const require = createRequire(new URL('../../bindings-node/package.json', import.meta.url));
const [kind, port, prefix, perKeyCalls, limits, keyNumber, rounds] = process.argv.slice(2);
const CLIENTS = {
  async ioredis() {
    const { Redis } = require('ioredis');
    // The proxy knows no INFO, by which the client would find out whether the server is ready.
    const client = new Redis({ port, enableReadyCheck: false });
    return { client, end: () => client.disconnect() };
  },
  async 'node-redis'() {
    const { createClient } = require('redis');
    const client = await createClient({ url: `redis://127.0.0.1:${port}`, RESP: 2, disableClientInfo: true }).connect();
    return { client, end: () => client.destroy() };
  },
};

const { client: store, end } = await CLIENTS[kind]();
const limiter = createLimiter({ limits, store, prefix, storeTimeoutMs: 20_000, perKeyCalls: perKeyCalls === 'true' });
const keys = Array.from({ length: Number(keyNumber) }, (_, number) => `user:${number}`);
let admitted = 0;
for (let turn = 0; turn < Number(rounds); turn++) {
  const turned = [...keys.slice(turn), ...keys.slice(0, turn)];
  const decisions = await Promise.all(turned.map((key) => limiter.check(key)));
  admitted += decisions.filter(({ allowed }) => allowed).length;
}
limiter.close();
end();
console.log(admitted);
