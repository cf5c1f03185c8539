//! The JavaScript host: its monotonic clock, its random numbers, and the protocol's types over them.

use tidegate_protocol::{Host, StoreChange};
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(raw_module = "./clock.js")]
extern "C" {
    /// The time in milliseconds, which never steps back.
    #[wasm_bindgen(js_name = monotonicMillis)]
    fn monotonic_millis() -> f64;
}

#[wasm_bindgen(raw_module = "./store-warning.js")]
extern "C" {
    /// Tells the program of a change. It must not call this module before it returns.
    #[wasm_bindgen(js_name = storeChanged)]
    fn store_changed(message: &str);
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = Math, js_name = random)]
    fn math_random() -> f64;
}

/// The host of this module.
pub(crate) enum JavaScript {}

impl Host for JavaScript {
    fn now() -> u64 {
        const NANOS_PER_MILLI: f64 = 1e6;
        (monotonic_millis() * NANOS_PER_MILLI) as u64 + 1
    }

    fn random() -> u64 {
        let half = || (math_random() * 4_294_967_296.0) as u32;
        u64::from(half()) << 32 | u64::from(half())
    }

    fn store_changed(change: StoreChange) {
        store_changed(&change.to_string());
    }
}

/// The store behind a client, with the circuit breaker that guards it.
#[cfg(feature = "shared")]
pub(crate) type GuardedStore = tidegate_protocol::GuardedStore<JavaScript>;

/// The buckets of one limiter in such a store.
#[cfg(feature = "shared")]
pub(crate) type Guarded = tidegate_protocol::Guarded<JavaScript>;

/// The leases of one limiter.
#[cfg(feature = "shared")]
pub(crate) type LeaseKeeper = tidegate_protocol::LeaseKeeper<JavaScript>;

/// The wait in milliseconds, rounded up, so that a timer that is set for it is never early.
#[cfg(feature = "shared")]
pub(crate) fn in_millis(wait: core::time::Duration) -> f64 {
    (wait.as_secs_f64() * 1e3).ceil()
}
