/** Does the same as outage_spender.py, in Node. */

import { openSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLimiter } from '../../bindings-node/dist/index.js'

const [store, limits, peers, logFile, end] = process.argv.slice(2)
const limiter = createLimiter({ limits, store, onStoreError: 'local', peers: Number(peers) })
const log = openSync(logFile, 'w')
const record = Buffer.alloc(18)

while ((await limiter.peek('elsewhere', { cost: 0 })).source !== 'redis') await sleep(10)
console.log('ready')
for (;;) {
  const before = process.hrtime.bigint()
  if (before >= BigInt(end)) break
  const { allowed, source, retryAfterMs } = await limiter.check('hot')
  record.writeBigUInt64LE(before, 0)
  record.writeBigUInt64LE(process.hrtime.bigint(), 8)
  record.writeUInt8(Number(allowed), 16)
  record.writeUInt8(Number(source === 'redis'), 17)
  writeSync(log, record)
  if (!allowed) await sleep(Math.min(retryAfterMs, 5))
}
limiter.close()
