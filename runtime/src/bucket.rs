//! One bucket without a key.

use core::sync::atomic::{AtomicU64, Ordering};

use tidegate_core::{Clock, Decision, Limit, decide};

use crate::Error;
use crate::clock::FastClock;

/// One bucket without a key, of exactly one limit: a rate for the whole process, or for the
/// object that owns it.
///
/// [`Limiter`](crate::Limiter) is for many keys, several limits or a shared store. All threads can
/// spend from one bucket through a shared reference. A check takes no lock, allocates nothing and
/// does not wait.
///
/// ```
/// use tidegate::Bucket;
/// let bucket = Bucket::new("60/h burst 2")?;
/// assert!(bucket.check(1)?.allowed);
/// assert_eq!(bucket.check(1)?.remaining, 0);
/// let refused = bucket.check(1)?;
/// assert!(!refused.allowed && refused.retry_after <= 60_000_000_000);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Debug)]
pub struct Bucket<C = FastClock> {
    limit: Limit,
    clock: C,
    cell: Alone<AtomicU64>,
}

/// A cell in cache lines of its own, so that a check does not slow down readers of the limit or of
/// other buckets. Processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Alone<T>(T);

impl Bucket {
    /// A full bucket of `limit`, such as `"100/s"` or `"5000/h burst 50"`, on the process's
    /// [`FastClock`].
    ///
    /// # Errors
    /// [`Error::InvalidLimit`], with the text and the bound it breaks.
    pub fn new(limit: &str) -> Result<Self, Error> {
        let parsed = Limit::parse(limit)
            .map_err(|source| Error::InvalidLimit { text: Some(limit.to_owned()), source })?;
        Ok(Self::with_clock(parsed, FastClock::new()))
    }
}

impl<C: Clock> Bucket<C> {
    /// A full bucket of `limit` on a clock of your choice, such as a
    /// [`ManualClock`](crate::ManualClock) in tests.
    pub fn with_clock(limit: Limit, clock: C) -> Self {
        Self { limit, clock, cell: Alone(AtomicU64::new(0)) }
    }

    /// Spends `cost` tokens if the bucket holds them now; never waits. A cost of 0 looks without
    /// spending.
    ///
    /// # Errors
    /// [`Error::CostTooLarge`] when `cost` is above the burst.
    #[inline]
    pub fn check(&self, cost: u64) -> Result<Decision, Error> {
        self.check_at(self.clock.now(), cost)
    }

    /// [`check`](Self::check) at a time that was read before, on the bucket's own clock, so that one
    /// reading can serve several buckets. A `now` earlier than that of a previous call finds less,
    /// never more.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    #[inline(always)]
    pub fn check_at(&self, now: u64, cost: u64) -> Result<Decision, Error> {
        // Relaxed is enough: threads only agree on the cell, and its changes have one order.
        let mut cell = self.cell.0.load(Ordering::Relaxed);
        loop {
            let (decision, next) =
                decide(&self.limit, cell, now, cost).map_err(Error::from_engine)?;
            if next == cell {
                return Ok(decision);
            }
            let swapped =
                self.cell.0.compare_exchange_weak(cell, next, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return Ok(decision),
                Err(changed) => cell = changed,
            }
        }
    }

    /// The limit.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tidegate_core::ManualClock;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(limit: &str) -> Result<Bucket<ManualClock>, Error> {
        let limit = Limit::parse(limit).map_err(Error::from_engine)?;
        Ok(Bucket::with_clock(limit, ManualClock::new(5 * SECOND)))
    }

    #[test]
    fn threads_together_admit_exactly_the_burst() -> Result<(), Error> {
        const BURST: usize = 100_000;
        let bucket = bucket("100000/s")?;
        let spend = || (0..BURST).filter(|_| bucket.check(1).is_ok_and(|d| d.allowed)).count();
        for _ in 0..3 {
            let admitted = thread::scope(|scope| {
                let workers = [scope.spawn(spend), scope.spawn(spend)];
                workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum::<usize>()
            });
            assert_eq!(admitted, BURST);
            bucket.clock.advance(SECOND);
        }
        Ok(())
    }

    #[test]
    fn retry_after_is_exact() -> Result<(), Error> {
        let bucket = bucket("3/s burst 2")?;
        assert!(bucket.check(2)?.allowed);
        let wait = bucket.check(1)?.retry_after;
        bucket.clock.advance(wait - 1);
        assert!(!bucket.check(1)?.allowed);
        bucket.clock.advance(1);
        assert!(bucket.check(1)?.allowed);
        Ok(())
    }

    #[test]
    fn a_window_refills_on_its_multiple() -> Result<(), Error> {
        let bucket = bucket("4/10s window")?;
        assert_eq!(bucket.check(4)?.reset_after, 5 * SECOND);
        assert_eq!(bucket.check(4)?.retry_after, 5 * SECOND);
        bucket.clock.advance(5 * SECOND);
        assert!(bucket.check(4)?.allowed);
        Ok(())
    }

    #[test]
    fn looking_and_refusing_spend_nothing() -> Result<(), Error> {
        let bucket = bucket("10/s")?;
        assert_eq!(bucket.check(0)?.remaining, 10);
        bucket.check(9)?;
        assert!(!bucket.check(2)?.allowed);
        assert_eq!(bucket.check(0)?.remaining, 1);
        Ok(())
    }

    #[test]
    fn a_clock_that_goes_backward_mints_nothing() -> Result<(), Error> {
        let bucket = bucket("10/s")?;
        bucket.check(10)?;
        bucket.clock.set(0);
        assert!(!bucket.check(1)?.allowed);
        assert_eq!(bucket.check(0)?.remaining, 0);
        bucket.clock.set(5 * SECOND);
        assert!(!bucket.check(1)?.allowed);
        Ok(())
    }

    #[test]
    fn mistakes_are_named() -> Result<(), Error> {
        let bucket = bucket("10/s")?;
        assert_eq!(bucket.check(11), Err(Error::CostTooLarge { cost: 11, burst: 10 }));
        let error = Bucket::new("10/fortnight").map(|_| ()).map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("10/fortnight")));
        Ok(())
    }
}
