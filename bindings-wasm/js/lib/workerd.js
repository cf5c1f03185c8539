/** The entry point for edge runtimes, which import modules and compile none at run time. */

import { start } from './engine.js';
import { runtime } from './runtime.js';
import module from './tidegate_wasm_bg.wasm';

runtime.isolatesRequests = true;
start(module);

export * from './api.js';
