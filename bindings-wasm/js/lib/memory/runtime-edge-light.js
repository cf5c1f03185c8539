/** An edge runtime of the condition `edge-light`, for `tidegate-wasm/memory`. */

import module from './tidegate_wasm_bg.wasm?module';

export const runtime = { isolatesRequests: true, loadModule };

// Next runs edge functions in a realm of their own and compiles the module in another, so the glue would not
// take it for a module.
function loadModule() {
  if (!(module instanceof WebAssembly.Module)) Object.setPrototypeOf(module, WebAssembly.Module.prototype);
  return module;
}
