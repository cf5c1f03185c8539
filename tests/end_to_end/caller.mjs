/** Does the same as caller.py, in Node. */

import { existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLimiter } from '../../bindings-node/dist/index.js'

const REFUSED = 0, ADMITTED = 1, OTHER = 9
const CODES = { store_error: 2, store_timeout: 3 }

const [store, limits, key, logFile, timeoutMs, pauseMs, ...options] = process.argv.slice(2)
const more = Object.fromEntries(options.map((option) => option.split('=')))
const limiter = createLimiter({ limits, store, storeTimeoutMs: Number(timeoutMs), ...more })
const log = openSync(logFile, 'w')
const pause = BigInt(Math.round(Number(pauseMs) * 1e6))
const now = () => process.hrtime.bigint()

let threads
function waited() {
  threads ??= readdirSync('/proc/self/task')
    .filter((task) => task === String(process.pid) || readComm(task) === 'tidegate-io')
    .map((task) => `/proc/self/task/${task}/schedstat`)
  return threads.reduce((sum, file) => sum + BigInt(readFileSync(file, 'utf8').split(' ')[1]), 0n)
}

function readComm(task) {
  return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim()
}

async function call(key) {
  try {
    return (await limiter.check(key)).allowed ? ADMITTED : REFUSED
  } catch (error) {
    if (!(error.code in CODES)) console.error(`${error.code}: ${error.message}`)
    return CODES[error.code] ?? OTHER
  }
}

// A machine on which a whole fleet is starting may be late at first.
while (await call('warm-up') > ADMITTED) await sleep(50)
const input = createInterface({ input: process.stdin })
console.log('ready')
const line = await new Promise((resolve) => input.once('line', resolve))
input.close()
let due = BigInt(line)

const stop = join(dirname(logFile), 'stop')
const record = Buffer.alloc(32)
while (!existsSync(stop)) {
  await sleep(Math.max(0, Number(due - now()) / 1e6))
  const waitedBefore = waited()
  const began = now()
  const code = await call(key)
  record.writeBigUInt64LE(began, 0)
  record.writeBigUInt64LE(now(), 8)
  record.writeBigUInt64LE(waited() - waitedBefore, 16)
  record.writeBigUInt64LE(BigInt(code), 24)
  writeSync(log, record)
  due = due + pause > now() ? due + pause : now()
}
limiter.close()
