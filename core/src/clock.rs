//! The clock that a host gives to the engine.

use core::sync::atomic::{AtomicU64, Ordering};

/// Where `now` comes from: nanoseconds on a timeline of the host's choosing.
///
/// The engine itself never reads a clock; a limiter reads it once per call and passes the value
/// down. Stepped limits align their steps to the clock's zero, so a clock that counts from the Unix
/// epoch gives epoch-aligned windows. A clock that goes backward never mints a token: buckets only
/// seem to owe more until the clock has caught up.
pub trait Clock {
    /// Nanoseconds since the clock's zero.
    fn now(&self) -> u64;
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> u64 {
        (**self).now()
    }
}

/// A clock that stands still until it is told to move, for tests.
///
/// ```
/// use tidegate_core::{Clock, ManualClock};
/// let clock = ManualClock::new(5_000_000_000);
/// clock.advance(250);
/// assert_eq!(clock.now(), 5_000_000_250);
/// clock.advance_to(7);
/// assert_eq!(clock.now(), 5_000_000_250);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now` nanoseconds.
    pub const fn new(now: u64) -> Self {
        Self(AtomicU64::new(now))
    }

    /// Shows `now` nanoseconds from here on; may go backward.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// Moves forward by `nanos` nanoseconds, stopping at the end of the timeline.
    pub fn advance(&self, nanos: u64) {
        // The closure always returns Some, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            Some(now.saturating_add(nanos))
        });
    }

    /// Moves forward to `now` nanoseconds; a time that has passed changes nothing.
    pub fn advance_to(&self, now: u64) {
        self.0.fetch_max(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
