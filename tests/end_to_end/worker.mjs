/**
 * A Node service that calls the vendor as often as its bucket lets it.
 *
 *   worker.mjs STORE_URL LIMIT KEY SECONDS ATTEMPTS_PER_SECOND
 *
 * Speaks with its parent as worker.py does.
 */

import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLimiter } from '../../bindings-node/dist/index.js'

const [store, limits, key, seconds, attempts] = process.argv.slice(2)
const pauseMs = 1000 / Number(attempts)
const limiter = createLimiter({ limits, store, storeTimeoutMs: 2000 })

const counts = { admitted: 0, refused: 0, errors: 0, p50_us: null, longest_us: 0, last_error: '' }
const micros = []
let told = 0

function tell(final = false) {
  if (!final && performance.now() - told < 250) return
  told = performance.now()
  const recent = micros.slice(-2000).sort((a, b) => a - b)
  counts.p50_us = recent.length ? recent[recent.length >> 1] : null
  console.log(JSON.stringify({ ...counts, final }))
}

await limiter.check('warm-up')
const input = createInterface({ input: process.stdin })
console.log('ready')
const [line] = await new Promise((resolve) => input.once('line', (text) => resolve([text])))
if (line.trim() !== 'go') throw new Error('was not told to go')
input.close()

const end = performance.now() + Number(seconds) * 1000
while (performance.now() < end) {
  const began = performance.now()
  try {
    const decision = await limiter.check(key)
    counts[decision.allowed ? 'admitted' : 'refused'] += 1
  } catch (error) {
    counts.errors += 1
    counts.last_error = `${error.code}: ${error.message}`
  }
  micros.push((performance.now() - began) * 1000)
  counts.longest_us = Math.max(counts.longest_us, micros.at(-1))
  tell()
  await sleep(Math.max(0, pauseMs - (performance.now() - began)))
}
tell(true)
limiter.close()
