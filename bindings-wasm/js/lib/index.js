import { start } from './engine.js';
import { bytes } from './module-bytes.js';

start(new WebAssembly.Module(bytes));

export * from './api.js';
