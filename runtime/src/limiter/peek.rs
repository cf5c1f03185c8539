//! `peek`: what a check would answer, without spending.

use tidegate_core::{Cost, Decision, Operation, TieredDecision};
use tokio::sync::oneshot;

use super::Limiter;
use crate::answer::{Answer, answer_as, lost, tiered};
use crate::{Error, Keys};

impl Limiter {
    /// The decision that [`check`](Self::check) would answer now, with nothing spent. So
    /// `remaining` and `reset_after` of an allowed peek are those after the charge that a check
    /// would make. A cost of 0 is always allowed, and tells what the buckets hold.
    ///
    /// Another caller may spend the tokens before a check that follows: to spend, call
    /// [`check`](Self::check) alone.
    ///
    /// ```
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("2/d").build()?;
    /// assert_eq!(limiter.peek("job", 2)?.remaining, 0); // as after the charge
    /// assert_eq!(limiter.peek("job", 0)?.remaining, 2); // but nothing was spent
    /// limiter.check("job", 2)?;
    /// let decision = limiter.peek("job", 1)?;
    /// assert!(!decision.allowed && decision.retry_after > 0);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn peek<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> Result<Decision, Error> {
        self.peek_tiers(keys, cost).map(Decision::from)
    }

    /// [`peek`](Self::peek), which answers also what each limit says.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn peek_tiers<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> Result<TieredDecision, Error> {
        let (keys, cost) = (keys.into(), cost.into());
        match self.peek_leased(keys, cost) {
            Some(decision) => Ok(decision.into()),
            None => tiered(self.run_and_wait(keys, Operation::Peek { cost })),
        }
    }

    /// [`peek`](Self::peek) as a future.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn peek_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_peek(keys, cost, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`peek_tiers`](Self::peek_tiers) as a future.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn peek_tiers_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> impl Future<Output = Result<TieredDecision, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_peek(keys, cost, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`peek`](Self::peek) with a callback, which runs when and where the one of
    /// [`start`](Self::start) does.
    pub(crate) fn start_peek<'k, A: Answer>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        done: impl FnOnce(Result<A, Error>) + Send + 'static,
    ) {
        let (keys, cost) = (keys.into(), cost.into());
        match self.peek_leased(keys, cost) {
            Some(decision) => done(Ok(decision.into())),
            None => self.start(keys, Operation::Peek { cost }, |outcome| done(answer_as(outcome))),
        }
    }
}
