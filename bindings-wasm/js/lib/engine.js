/** Starts the WebAssembly module, and reads its memory and its failures. */

import { initSync } from './tidegate_wasm.js';
import { errorFrom } from './errors.js';

let memory;

/** Starts the engine's module. Once, by the entry point, before anything else of it is used. */
export function start(module) {
  memory = initSync({ module }).memory;
}

/** A view of the module's memory, which is another one after the memory has grown. */
export function view(type, pointer, length) {
  return new type(memory.buffer, pointer, length);
}

/** Throws the failure that a part of the engine has kept, if there is one. */
export function raise(part) {
  const failure = part.take_failure();
  if (failure === undefined) return;
  const error = errorFrom(failure);
  failure.free();
  throw error;
}
