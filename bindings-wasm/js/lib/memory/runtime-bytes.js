/** The runtime of Node and browsers, for `tidegate-wasm/memory`: the module is compiled at its first use. */

import { bytes } from './module-bytes.js';

export const runtime = { isolatesRequests: false, loadModule: () => new WebAssembly.Module(bytes()) };
