// For runtimes that do not compile WebAssembly at run time but import modules.
import { start } from './engine.js';
import module from './tidegate_wasm_bg.wasm';

start(module);

export * from './api.js';
