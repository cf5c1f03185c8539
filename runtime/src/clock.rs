use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::Clock;

/// The default clock of process-local stores: monotonic, and aligned to the
/// Unix epoch once, when it is made.
///
/// It shows the wall clock's time as of its making plus the monotonic time
/// since, so windows are epoch-aligned, while later steps of the wall clock
/// change nothing.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
    start_nanos: u64,
}

impl MonotonicClock {
    /// A clock aligned to the wall clock now.
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_nanos: saturating_nanos(wall) }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> u64 {
        self.start_nanos.saturating_add(saturating_nanos(self.start.elapsed()))
    }
}

fn saturating_nanos(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
