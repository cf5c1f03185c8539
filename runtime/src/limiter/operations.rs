//! The limiter's operations other than the check.

use core::time::Duration;

use tidegate_core::{Cost, Decision, Operation};
use tokio::sync::oneshot;

use super::Limiter;
use crate::answer::{decision, lost};
use crate::clock::saturating_nanos;
use crate::reservation::{CancelOnDrop, Reservation};
use crate::{Error, Keys};

impl Limiter {
    /// Takes the next slot for `cost` tokens if it is at most `max_wait` away, or however far away
    /// it is if that is `None`. It never waits for tokens: the buckets are charged now, and the
    /// tokens are to be spent after [`Reservation::delay`]. If the slot is too far away, the
    /// reservation is refused and nothing has been charged.
    ///
    /// Slots are handed out in the order in which callers come, whatever their cost.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("1/min").build()?;
    /// assert_eq!(limiter.reserve("job", 1, None)?.delay(), Duration::ZERO);
    /// let next = limiter.reserve("job", 1, None)?;
    /// assert!(next.delay() > Duration::from_secs(59));
    /// assert!(!limiter.reserve("job", 1, Some(Duration::from_secs(90)))?.allowed());
    /// assert!(next.cancel()?);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn reserve<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        max_wait: Option<Duration>,
    ) -> Result<Reservation, Error> {
        let (keys, cost) = (keys.into(), cost.into());
        let outcome = self.run_and_wait(keys, reserve(cost, max_wait));
        Reservation::new(self.clone(), keys.to_owned(), cost, outcome)
    }

    /// [`reserve`](Self::reserve) as a future. If it is dropped before it has answered, the slot
    /// is cancelled.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        max_wait: Option<Duration>,
    ) -> impl Future<Output = Result<Reservation, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let done = move |answer: Result<_, _>| _ = sender.send(answer.map(CancelOnDrop::from));
        self.start_reserve(keys, cost, max_wait, done);
        async move { receiver.await.unwrap_or_else(|_| Err(lost()))?.claim() }
    }

    /// [`reserve`](Self::reserve) with a callback, which runs when and where the one of
    /// [`start`](Self::start) does.
    pub(crate) fn start_reserve<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        max_wait: Option<Duration>,
        done: impl FnOnce(Result<Reservation, Error>) + Send + 'static,
    ) {
        let (keys, cost) = (keys.into(), cost.into());
        let (limiter, owned) = (self.clone(), keys.to_owned());
        self.start(keys, reserve(cost, max_wait), move |outcome| {
            done(Reservation::new(limiter, owned, cost, outcome));
        });
    }

    /// Corrects a charge once its true size is known: `charged` tokens were taken, and `actual`
    /// were used. The difference is given back, or taken even if that is more than the bucket
    /// holds. The answer says what the buckets then hold, as a check of cost 0 would.
    ///
    /// ```
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("100_000/d").build()?;
    /// assert_eq!(limiter.check("model", 4_000)?.remaining, 96_000);
    /// assert_eq!(limiter.settle("model", 4_000, 1_500)?.remaining, 98_500);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check), but for [`Error::CostTooLarge`].
    pub fn settle<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        charged: impl Into<Cost>,
        actual: impl Into<Cost>,
    ) -> Result<Decision, Error> {
        decision(self.run_and_wait(
            keys,
            Operation::Settle { charged: charged.into(), actual: actual.into() },
        ))
    }

    /// [`settle`](Self::settle) as a future.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn settle_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        charged: impl Into<Cost>,
        actual: impl Into<Cost>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let settling = self
            .run_async(keys, Operation::Settle { charged: charged.into(), actual: actual.into() });
        async move { decision(settling.await) }
    }

    /// Gives tokens back; a bucket never holds more than its burst. Answers as
    /// [`settle`](Self::settle) does.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn credit<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        tokens: impl Into<Cost>,
    ) -> Result<Decision, Error> {
        decision(self.run_and_wait(keys, Operation::Credit { tokens: tokens.into() }))
    }

    /// [`credit`](Self::credit) as a future.
    ///
    /// # Errors
    /// As [`credit`](Self::credit).
    pub fn credit_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        tokens: impl Into<Cost>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let crediting = self.run_async(keys, Operation::Credit { tokens: tokens.into() });
        async move { decision(crediting.await) }
    }

    /// Pauses for `wait`, because the far side said so (`Retry-After`). A smooth limit has exactly
    /// one token at the end of the pause, and further tokens arrive at the normal pace. Of two
    /// holds, the one that ends later counts; none is longer than 104 days. Slots that are
    /// already reserved keep their time. Answers as [`settle`](Self::settle) does.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("50/s").build()?;
    /// limiter.hold("vendor", Duration::from_secs(30))?;
    /// assert!(limiter.check("vendor", 1)?.retry_after > 29_000_000_000);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn hold<'k>(&self, keys: impl Into<Keys<'k>>, wait: Duration) -> Result<Decision, Error> {
        decision(self.run_and_wait(keys, Operation::Hold { wait: saturating_nanos(wait) }))
    }

    /// [`hold`](Self::hold) as a future.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub fn hold_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        wait: Duration,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let holding = self.run_async(keys, Operation::Hold { wait: saturating_nanos(wait) });
        async move { decision(holding.await) }
    }

    /// Fills the buckets: everything that they owe is forgotten, holds included. Answers as
    /// [`settle`](Self::settle) does.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn reset<'k>(&self, keys: impl Into<Keys<'k>>) -> Result<Decision, Error> {
        decision(self.run_and_wait(keys, Operation::Reset))
    }

    /// [`reset`](Self::reset) as a future.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub fn reset_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let resetting = self.run_async(keys, Operation::Reset);
        async move { decision(resetting.await) }
    }
}

fn reserve(cost: Cost, max_wait: Option<Duration>) -> Operation {
    let max_wait = max_wait.map_or(u64::MAX, saturating_nanos);
    Operation::Reserve { cost, max_wait, min_wait: 0 }
}
