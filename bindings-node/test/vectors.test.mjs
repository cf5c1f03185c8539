/** Runs tests/vectors through the package, with `../../bindings-wasm/js/test/conformance.mjs`. */

import * as api from 'tidegate';

import { testVectors } from '../../bindings-wasm/js/test/conformance.mjs';

testVectors(api, ['limits', 'store', 'prefix', 'store_timeout', 'clock', 'on_store_error', 'peers', 'deny_cache', 'lease', 'max_waiting', 'max_keys', 'on_full', 'per_key_calls']);
