//! Waiting for a slot.

use core::time::Duration;
use std::thread;

use tidegate_core::Decision;

use super::Limiter;
use crate::reservation::CancelOnDrop;
use crate::timer;
use crate::{Error, Keys};

impl Limiter {
    /// Blocks the thread until `cost` tokens may be spent, and spends them. It reserves its slot
    /// once and sleeps once, so callers are served in the order in which they come. If the slot
    /// is later than `timeout`, that is an error at once, and nothing is charged.
    ///
    /// The sleep is in real time, whatever the limiter's clock. With a
    /// [`ManualClock`](crate::ManualClock), use [`reserve`](Self::reserve) and move the clock.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tidegate::{Error, Limiter};
    /// let limiter = Limiter::builder().limit("100/s burst 1").build()?;
    /// for _ in 0..3 {
    ///     assert!(limiter.acquire("vendor", 1, None)?.allowed);
    /// }
    /// limiter.hold("vendor", Duration::from_secs(60))?; // the vendor said: Retry-After
    /// let error = limiter.acquire("vendor", 1, Some(Duration::from_secs(1)));
    /// assert!(matches!(error, Err(Error::RateLimited { .. })));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RateLimited`] when the slot is later than `timeout`, and those of
    /// [`reserve`](Self::reserve).
    #[expect(clippy::disallowed_methods, reason = "the caller waits for a time: that of its slot")]
    pub fn acquire<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: u64,
        timeout: Option<Duration>,
    ) -> Result<Decision, Error> {
        let reservation = self.reserve(keys, cost, timeout)?.or_rate_limited()?;
        thread::sleep(reservation.delay_left());
        Ok(*reservation.decision())
    }

    /// [`acquire`](Self::acquire) as a future, for any executor: Tidegate's I/O thread runs its
    /// timer. If the future is dropped while it waits, the reservation is cancelled.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: u64,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let reserving = self.reserve_async(keys, cost, timeout);
        async move {
            let reservation = reserving.await?.or_rate_limited()?;
            let (delay, decision) = (reservation.delay_left(), *reservation.decision());
            let waiting = CancelOnDrop::from(reservation);
            timer::sleep(delay).await?;
            waiting.claim().map(|_| decision)
        }
    }
}
