/** The entry point for edge runtimes of the condition `edge-light`, whose bundlers compile what `?module` marks. */

import { start } from './engine.js';
import { runtime } from './runtime.js';
import module from './tidegate_wasm_bg.wasm?module';

// Next runs edge functions in a realm of their own and compiles the module in another, so the glue would not
// take it for a module.
if (!(module instanceof WebAssembly.Module)) Object.setPrototypeOf(module, WebAssembly.Module.prototype);

runtime.isolatesRequests = true;
start(module);

export * from './api.js';
