import * as api from 'tidegate';

import { testVectors } from '../../bindings-wasm/js/test/conformance.mjs';

testVectors(api, {
  options: ['limits', 'store', 'prefix', 'store_timeout', 'clock'],
  limiterMethods: ['checkSync', 'peekSync'],
});
