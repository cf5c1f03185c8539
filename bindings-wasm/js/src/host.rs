//! What JavaScript gives: a monotonic clock and chance.

use tidegate_protocol::{Carried, Host};
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_namespace = Math, js_name = random)]
    fn math_random() -> f64;
}

pub(crate) enum JavaScript {}

impl Host for JavaScript {
    fn now() -> u64 {
        const NANOS_PER_MILLI: f64 = 1e6;
        (performance_now() * NANOS_PER_MILLI) as u64 + 1
    }

    fn random() -> u64 {
        let half = || (math_random() * 4_294_967_296.0) as u32;
        u64::from(half()) << 32 | u64::from(half())
    }
}

/// A client's Redis, and what is known of its failures.
pub(crate) type GuardedStore = tidegate_protocol::GuardedStore<Carried<JavaScript>>;

/// One limiter's buckets there.
pub(crate) type Guarded = tidegate_protocol::Guarded<Carried<JavaScript>>;
