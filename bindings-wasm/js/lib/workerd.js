/** The entry point for edge runtimes, which import modules and compile none at run time. */

import { start } from './engine.js';
import module from './tidegate_wasm_bg.wasm';

start(module);

export * from './api.js';
