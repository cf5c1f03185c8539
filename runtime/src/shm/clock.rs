//! The clock that all processes of a shared file read alike.

use once_cell::race::OnceBox;
use rustix::time::{ClockId, clock_gettime};
use tidegate_core::Clock;

use crate::clock::{Timebase, WallClock};

/// The host's monotonic clock plus the offset to the Unix epoch that the file holds. Every process
/// that maps the file reads the same time, to within microseconds.
///
/// It is read like a [`FastClock`](crate::FastClock), and has its properties.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShmClock {
    timebase: &'static Timebase<HostMonotonic>,
    offset: u64,
}

/// The host's monotonic clock, which has the same zero in every process.
#[derive(Clone, Copy, Debug)]
struct HostMonotonic;

static TIMEBASE: OnceBox<Timebase<HostMonotonic>> = OnceBox::new();

impl ShmClock {
    /// A clock that is `offset` nanoseconds ahead of the host's monotonic clock.
    pub(crate) fn new(offset: u64) -> Self {
        let timebase = TIMEBASE.get_or_init(|| Box::new(Timebase::new(HostMonotonic)));
        Self { timebase, offset }
    }

    /// The offset that aligns the host's monotonic clock to the Unix epoch now.
    pub(crate) fn offset_now() -> u64 {
        WallClock.now().saturating_sub(HostMonotonic.now())
    }
}

impl Clock for ShmClock {
    #[inline]
    fn now(&self) -> u64 {
        self.timebase.now().saturating_add(self.offset)
    }
}

impl Clock for HostMonotonic {
    fn now(&self) -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }
}
