/** Runs waiting.json through the package, with `waiting-vectors.mjs`. */

import * as api from 'tidegate-wasm';

import { testWaitingVectors } from './waiting-vectors.mjs';

testWaitingVectors(api);
