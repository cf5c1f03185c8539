/** Does the same as spender.py, in Node. */

import { openSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLimiter } from '../../bindings-node/dist/index.js'

const [store, limits, logFile, start, end] = process.argv.slice(2)
const limiter = createLimiter({ limits, store })
const log = openSync(logFile, 'w')
const record = Buffer.alloc(16)

await sleep(Math.max(0, Number(BigInt(start) - process.hrtime.bigint()) / 1e6))
for (;;) {
  const before = process.hrtime.bigint()
  if (before >= BigInt(end)) break
  const decisions = await Promise.all(Array.from({ length: 32 }, () => limiter.check('hot')))
  record.writeBigUInt64LE(before, 0)
  record.writeBigUInt64LE(process.hrtime.bigint(), 8)
  for (const decision of decisions) if (decision.allowed) writeSync(log, record)
}
limiter.close()
