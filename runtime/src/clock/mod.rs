//! Clocks for buckets in memory.

#![cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "these are the clocks"))]

mod discipline;
mod fast;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::Clock;

pub use fast::FastClock;
pub(crate) use fast::Timebase;

/// The operating system's monotonic clock, aligned to the Unix epoch once, when
/// the clock is made.
///
/// It shows the wall clock's time when it was made, plus the monotonic time since. So windows are
/// aligned to the epoch, and later steps of the wall clock change nothing. Reading it takes about
/// three times as long as reading a [`FastClock`], which follows the same time.
///
/// The platform decides whether it counts while the machine is suspended: on Linux and macOS it
/// stands still, so buckets refill only while the machine runs. The 64-bit count of nanoseconds
/// ends in the year 2554. It then stays at its end, and nothing is admitted any more. It does not
/// wrap before.
///
/// ```
/// use tidegate::{Clock, MonotonicClock};
/// let clock = MonotonicClock::new();
/// let earlier = clock.now();
/// assert!(clock.now() >= earlier);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
    start_nanos: u64,
}

impl MonotonicClock {
    /// A clock aligned to the wall clock now.
    pub fn new() -> Self {
        Self { start: Instant::now(), start_nanos: WallClock.now() }
    }

    /// The time that this clock shows at an instant that was read before.
    pub(crate) fn at(&self, moment: Instant) -> u64 {
        self.start_nanos.saturating_add(saturating_nanos(moment.duration_since(self.start)))
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> u64 {
        self.at(Instant::now())
    }
}

/// The wall clock: nanoseconds since the Unix epoch, whatever the system says now.
///
/// It is for windows that must follow the calendar for years, such as a quota per day, and for
/// buckets that should refill while the machine is suspended. The price is that it steps. After a
/// step forward, every bucket has refilled for time that did not pass; after a step backward, every
/// bucket waits until the clock has caught up. Neither makes a bucket hold more than its burst.
/// Before 1970 it shows 0.
///
/// ```
/// use std::sync::Arc;
/// use tidegate::{Limiter, WallClock};
/// let limiter = Limiter::builder().limit("1000/d window").clock(Arc::new(WallClock)).build()?;
/// assert!(limiter.check("user:42", 1)?.allowed);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> u64 {
        saturating_nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// The clock of a limiter's buckets in memory. A fast clock is read without an indirect call.
#[derive(Clone)]
pub(crate) enum ProcessClock {
    Fast(FastClock),
    Given(Arc<dyn Clock + Send + Sync>),
}

impl Clock for ProcessClock {
    #[inline]
    fn now(&self) -> u64 {
        match self {
            Self::Fast(clock) => clock.now(),
            Self::Given(clock) => clock.now(),
        }
    }
}

/// A duration in nanoseconds. One of more than 64 bits, which is longer than 584 years, is as good as
/// endless: a bucket owes at most 104 days.
pub(crate) fn saturating_nanos(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn every_clock_counts_from_the_unix_epoch() {
        let clocks: [&dyn Clock; 3] = [&FastClock::new(), &MonotonicClock::new(), &WallClock];
        for clock in clocks {
            // A minute leaves room for the wall clock to be corrected while tests run.
            assert!(clock.now().abs_diff(WallClock.now()) < 60 * SECOND);
        }
    }

    #[test]
    fn nanoseconds_past_the_end_of_64_bits_stay_at_the_end() {
        assert_eq!(saturating_nanos(core::time::Duration::MAX), u64::MAX);
        let clock = MonotonicClock { start: Instant::now(), start_nanos: u64::MAX - 1 };
        while clock.start.elapsed().as_nanos() < 2 {}
        assert_eq!(clock.now(), u64::MAX);
    }
}
