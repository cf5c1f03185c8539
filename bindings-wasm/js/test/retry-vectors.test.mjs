/** `retries.json` on the machine of the module. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import '../dist/index.js';

import { responseParts } from '../dist/signal.js';
import { OutboundCall, RetryBudget } from '../dist/tidegate_wasm.js';
import { nonEmpty, readVectors } from './conformance.mjs';

const AMOUNTS = { permit: 'max_wait', acquire: 'max_wait', send: 'timeout', hold: 'duration', sleep: 'duration' };
const WORDS = { hold: 'scope', give_up: 'reason' };

for (const trace of nonEmpty(readVectors('retries.json').traces)) {
  test(`retries.json: ${trace.name}`, () => {
    const budget = new RetryBudget(trace.percent, trace.reserve);
    const calls = new Map();
    for (const step of trace.steps) {
      if (step.event === 'start') calls.set(step.call, callOf(step.terms));
      const call = calls.get(step.call);
      advance(call, step, budget);
      assert.deepEqual(stepOf(call), step.step);
      assert.equal(Number(budget.retries()), step.saved);
    }
  });
}

function callOf(terms) {
  const { attempts, base, longest, deadline, attempt_timeout: timeout, permit, repeatable, idempotent } = terms;
  return new OutboundCall(attempts, BigInt(base), BigInt(longest), BigInt(deadline), BigInt(timeout), permit, repeatable, idempotent);
}

function advance(call, step, budget) {
  const at = BigInt(step.at);
  if (step.event === 'start') {
    call.start(at);
  } else if (step.event === 'response') {
    const hold = BigInt(step.hold);
    const header = `${hold / 1_000_000n}.${String(hold % 1_000_000n).padStart(6, '0')}`;
    const parts = responseParts(step.status, { 'retry-after-ms': header }, { now: 0 });
    call.responded(...parts, at, BigInt(step.random), budget).free();
  } else if (step.event === 'failed') {
    call.failed(step.kind, at, BigInt(step.random), budget);
  } else {
    call[step.event](at, budget);
  }
}

function stepOf(call) {
  const { step, amount, word } = call;
  const written = { do: step };
  if (step in WORDS) written[WORDS[step]] = word;
  if (step in AMOUNTS) written[AMOUNTS[step]] = String(amount);
  return written;
}
