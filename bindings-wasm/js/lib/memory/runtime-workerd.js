/** An edge runtime, which imports modules and compiles none, for `tidegate-wasm/memory`. */

import module from './tidegate_wasm_bg.wasm';

export const runtime = { isolatesRequests: true, loadModule: () => module };
