import * as api from 'tidegate-wasm';

import { testVectors } from './conformance.mjs';

testVectors(api, ['limits', 'clock']);
