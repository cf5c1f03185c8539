/** The entry point for Node and browsers, which compile the module when it is imported. */

import { start } from './engine.js';
import { bytes } from './module-bytes.js';

start(new WebAssembly.Module(bytes));

export * from './api.js';
