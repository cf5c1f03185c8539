/** Starts the WebAssembly module, and reads its memory and its failures. */

import { has_memory as hasMemory, initSync, seed } from './tidegate_wasm.js';
import { StoreError, errorFrom } from './errors.js';
import { MAX_KEY } from './keys.js';
import { runtime } from './runtime.js';

/** The status of a call or answer of the engine that is a failure. */
export const FAILED = 0xffff_ffff;
/**
 * The 64-bit words of a reservation: its delay, its source, the number of its costs and four places for
 * them, then its cells before and after.
 */
export const SLOT_WORDS = 15;
/** The places for the costs of a call: four, and four for what was used beside what was charged. */
export const COST_PLACES = 8;
export const ACTUAL_PLACE = 4;
/**
 * The operations that change each limit's bucket by itself, by the numbers that `Operation::correction` of the core
 * has for them. What they are given beside the key: the charge and the tokens used, tokens, a wait, nothing.
 */
export const CORRECTIONS = { settle: 0, credit: 1, hold: 2, reset: 3 };
const MAX_TIERS = 4;

let memory;

/**
 * Views of the memory through which all engines get keys and costs and give answers. They become empty when
 * the module's memory grows: `viewBorder` makes new ones.
 */
export const border = {
  key: new Uint8Array(0),
  keyLengths: new Uint32Array(0),
  costs: new Float64Array(0),
  answer: new Float64Array(0),
  tiers: new Float64Array(0),
  slot: new BigUint64Array(0),
};

/** Starts the engine's module, once, before anything of it is used. */
export function start(module) {
  memory = initSync({ module }).memory;
}

/** A view of the module's memory. It becomes empty when that memory grows. */
export function view(type, pointer, length) {
  return new type(memory.buffer, pointer, length);
}

/** Makes new views of the border, whose places the engine knows. */
export function viewBorder(engine) {
  border.key = view(Uint8Array, engine.key_pointer(), MAX_TIERS * MAX_KEY);
  border.keyLengths = view(Uint32Array, engine.key_lengths_pointer(), MAX_TIERS);
  border.costs = view(Float64Array, engine.costs_pointer(), COST_PLACES);
  border.answer = view(Float64Array, engine.answer_pointer(), 3);
  border.tiers = view(Float64Array, engine.tiers_pointer(), 4 * MAX_TIERS);
  border.slot = view(BigUint64Array, engine.slot_pointer(), SLOT_WORDS);
}

let isSeeded = false;

/**
 * Seeds the hash of all engines, once, at the first call of any. It cannot be done earlier, because limiters are
 * made before the first request, and edge runtimes have neither randomness nor a clock until then.
 */
export function seedOnce() {
  if (isSeeded) return;
  isSeeded = true;
  seed(...crypto.getRandomValues(new BigUint64Array(2)));
}

/**
 * Throws a StoreError if the module's memory has no room for another limiter or call. It is asked before one
 * is made, because a module that runs out of memory traps. It starts a module that has not been started.
 */
export function requireMemory() {
  if (memory === undefined) start(runtime.loadModule());
  if (!hasMemory()) throw new StoreError('store error: the memory of the WebAssembly module is used up; close limiters, or give them a smaller maxKeys');
}

/** Throws the failure that a part of the engine has kept, if there is one. */
export function raise(part) {
  const failure = part.take_failure();
  if (failure !== undefined) throw errorOf(failure);
}

/** The error of a failure of the engine, which is freed. */
export function errorOf(failure) {
  const error = errorFrom(failure);
  failure.free();
  return error;
}
