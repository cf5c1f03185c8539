/** Runs tests/vectors through the package, with `conformance.mjs`. */

import * as api from 'tidegate-wasm';

import { testVectors } from './conformance.mjs';

testVectors(api, ['limits', 'store', 'prefix', 'store_timeout', 'clock', 'on_store_error', 'peers', 'deny_cache', 'lease', 'max_waiting', 'max_keys', 'on_full', 'per_key_calls']);
