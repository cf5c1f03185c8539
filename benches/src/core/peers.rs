//! The peers of the benchmarks: governor with its defaults, a bare compare-and-swap loop as the
//! floor, and a mutex, which is what one writes first.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use governor::Quota;
use governor::clock::Clock;
use governor::nanos::Nanos;

/// The time that a benchmark gives to every contender alike.
pub(crate) static NOW: AtomicU64 = AtomicU64::new(1 << 60);

/// [`NOW`] in governor's type: a load, which is as cheap as a clock can be.
#[derive(Clone, Debug)]
pub(crate) struct GivenClock;

impl Clock for GivenClock {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        NOW.load(Relaxed).into()
    }
}

/// A quota of one token per `width` nanoseconds.
#[allow(clippy::expect_used, reason = "the benchmarks' own constants")]
pub(crate) fn quota(width: u64, burst: u32) -> Quota {
    let burst = NonZeroU32::new(burst).expect("a positive burst");
    Quota::with_period(Duration::from_nanos(width)).expect("a positive period").allow_burst(burst)
}

/// The bare rule: it has no errors, and no answer but yes or no.
pub(crate) struct Bare {
    pub(crate) width: u64,
    pub(crate) span: u64,
}

impl Bare {
    #[inline]
    fn next(&self, cell: u64, now: u64) -> Option<u64> {
        let next = cell.max(now) + self.width;
        (next - now <= self.span).then_some(next)
    }

    #[inline]
    pub(crate) fn swap(&self, cell: &AtomicU64, now: u64) -> bool {
        let mut seen = cell.load(Relaxed);
        loop {
            let Some(next) = self.next(seen, now) else { return false };
            match cell.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(changed) => seen = changed,
            }
        }
    }

    #[inline]
    pub(crate) fn lock(&self, cell: &Mutex<u64>, now: u64) -> bool {
        self.spend(&mut cell.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    #[inline]
    pub(crate) fn lock_map(
        &self,
        cells: &Mutex<HashMap<String, u64>>,
        key: &str,
        now: u64,
    ) -> bool {
        let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
        match cells.get_mut(key) {
            Some(cell) => self.spend(cell, now),
            None => self.spend(cells.entry(key.to_owned()).or_default(), now),
        }
    }

    fn spend(&self, cell: &mut u64, now: u64) -> bool {
        match self.next(*cell, now) {
            Some(next) => {
                *cell = next;
                true
            }
            None => false,
        }
    }
}
