/** Starts the WebAssembly module, and reads its memory and its failures. */

import { has_memory as hasMemory, initSync } from './tidegate_wasm.js';
import { StoreError, errorFrom } from './errors.js';

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

let memory;

/** Starts the engine's module. The entry point calls it once, before anything of the module is used. */
export function start(module) {
  memory = initSync({ module }).memory;
}

/** A view of the module's memory. It becomes empty when that memory grows. */
export function view(type, pointer, length) {
  return new type(memory.buffer, pointer, length);
}

/**
 * Throws a StoreError if the module's memory has no room for another limiter or call. It is asked before one
 * is made, because a module that runs out of memory traps.
 */
export function requireMemory() {
  if (!hasMemory()) throw new StoreError('store error: the memory of the WebAssembly module is used up; close limiters, or give them a smaller maxKeys');
}

/** Throws the failure that a part of the engine has kept, if there is one. */
export function raise(part) {
  const failure = part.take_failure();
  if (failure === undefined) return;
  const error = errorFrom(failure);
  failure.free();
  throw error;
}
