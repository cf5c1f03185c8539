//! The host's monotonic clock, in the forms that the runtime's parts know.

use core::ops::{Add, Sub};
use core::time::Duration;

use tidegate_core::Clock;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// A moment on the host's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(Duration::from_nanos(nanos_now()))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Self::now() - *self
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds since the host began, later than 0.
#[derive(Clone, Copy)]
pub(crate) struct MonotonicClock;

impl MonotonicClock {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> u64 {
        nanos_now()
    }
}

fn nanos_now() -> u64 {
    const NANOS_PER_MILLI: f64 = 1e6;
    (performance_now() * NANOS_PER_MILLI) as u64 + 1
}
