import * as api from 'tidegate-wasm';

import { testVectors } from './conformance.mjs';

testVectors(api, { options: ['limits', 'clock'], limiterMethods: ['checkSync', 'peekSync'] });
