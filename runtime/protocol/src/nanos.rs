//! Durations in nanoseconds.

use core::time::Duration;

/// A duration in nanoseconds; one of more than 64 bits is as good as endless.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
