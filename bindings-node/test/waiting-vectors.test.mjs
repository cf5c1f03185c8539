/** Runs waiting.json through the package, with `../../bindings-wasm/js/test/waiting-vectors.mjs`. */

import * as api from 'tidegate';

import { testWaitingVectors } from '../../bindings-wasm/js/test/waiting-vectors.mjs';

testWaitingVectors(api);
