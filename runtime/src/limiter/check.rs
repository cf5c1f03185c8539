//! `check`: spending tokens now, or not at all.

use core::sync::atomic::Ordering;

use tidegate_core::{Cost, Decision, Operation, TieredDecision};
use tokio::sync::oneshot;

use super::{Buckets, Limiter};
use crate::answer::{Answer, answer_as, lost};
use crate::{Error, Keys};

impl Limiter {
    /// Spends `cost` tokens of `keys` if every limit allows. It never waits for tokens, only for
    /// a remote store. The cost is one number for every limit, or one for each: `[1, 1500]` is one
    /// request and 1500 tokens, and either both limits are charged or none. A cost of 0 looks without spending; [`peek`](Self::peek) answers for any cost
    /// without spending.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong number of keys, [`Error::CostTooLarge`], and for a
    /// remote store its errors.
    // Inlined, so that a caller who reads only part of the decision pays only for that part.
    #[inline(always)]
    pub fn check<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> Result<Decision, Error> {
        self.check_as(keys.into(), cost.into())
    }

    /// [`check`](Self::check), which answers also what each limit says, for a program that tells its
    /// callers about all of them.
    ///
    /// ```
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("10/s").limit("500/h").build()?;
    /// let checked = limiter.check_tiers("user:42", 3)?;
    /// assert!(checked.allowed);
    /// for (tier, named) in checked.tiers().iter().zip(limiter.limits()) {
    ///     println!("{}: {} of {} left", named.name, tier.remaining, tier.limit);
    /// }
    /// # assert_eq!(checked.tiers().iter().map(|tier| tier.remaining).collect::<Vec<_>>(), [7, 497]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check).
    #[inline]
    pub fn check_tiers<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> Result<TieredDecision, Error> {
        self.check_as(keys.into(), cost.into())
    }

    #[inline(always)]
    pub(super) fn check_as<A: Answer>(&self, keys: Keys<'_>, cost: Cost) -> Result<A, Error> {
        match (keys, cost.uniform()) {
            (Keys::One(key), Some(tokens)) => match self.check_affordable(key, tokens) {
                Some(decision) => Ok(decision),
                None => self.check_one(key, tokens),
            },
            (keys, _) => self.check_as_any(keys, cost),
        }
    }

    /// The usual case: one key in memory, and a cost within the burst. `None` in any other case;
    /// then nothing has been done.
    #[inline(always)]
    fn check_affordable<A: Answer>(&self, key: &[u8], cost: u64) -> Option<A> {
        if self.0.closed.load(Ordering::Acquire) {
            return None;
        }
        match &self.0.buckets {
            Buckets::Memory(memory) => memory.check_affordable(key, cost),
            Buckets::Shm(shared) => shared.tables().check_affordable(key, cost),
            // The slow paths are not in this match, because every answer would go through memory then.
            Buckets::Plan(_)
            | Buckets::Redis(_)
            | Buckets::Fixed(_)
            | Buckets::WithoutUnlimited(_) => None,
        }
    }

    // Takes the bare key: building a `Keys` would spill it to the stack, and the compare-and-swap
    // would then wait for that store.
    #[inline(never)]
    fn check_one<A: Answer>(&self, key: &[u8], cost: u64) -> Result<A, Error> {
        self.check_as_any(Keys::One(key), cost.into())
    }

    #[inline(never)]
    fn check_as_any<A: Answer>(&self, keys: Keys<'_>, cost: Cost) -> Result<A, Error> {
        match &self.0.buckets {
            Buckets::Memory(memory) => {
                memory.check(self.admit(keys, &Operation::Check { cost })?, cost)
            }
            Buckets::Shm(shared) => {
                shared.tables().check(self.admit(keys, &Operation::Check { cost })?, cost)
            }
            Buckets::Redis(_) => {
                if let Some(decision) = self.decide_leased(keys, cost) {
                    return Ok(decision.into());
                }
                answer_as(self.run_and_wait(keys, Operation::Check { cost }))
            }
            Buckets::Plan(_) | Buckets::Fixed(_) | Buckets::WithoutUnlimited(_) => {
                answer_as(self.run_and_wait(keys, Operation::Check { cost }))
            }
        }
    }

    /// [`check`](Self::check) as a future.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_check(keys, cost, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`check_tiers`](Self::check_tiers) as a future.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_tiers_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> impl Future<Output = Result<TieredDecision, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_check(keys, cost, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`check`](Self::check) with a callback, which runs when and where the one of
    /// [`start`](Self::start) does.
    pub(crate) fn start_check<'k, A: Answer>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        done: impl FnOnce(Result<A, Error>) + Send + 'static,
    ) {
        let (keys, cost) = (keys.into(), cost.into());
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) => {
                done(self.check_as(keys, cost))
            }
            Buckets::Fixed(_) | Buckets::WithoutUnlimited(_) => {
                self.start(keys, Operation::Check { cost }, |outcome| done(answer_as(outcome)));
            }
            Buckets::Redis(_) => {
                if let Some(decision) = self.decide_leased(keys, cost) {
                    return done(Ok(decision.into()));
                }
                self.start(keys, Operation::Check { cost }, |outcome| done(answer_as(outcome)));
            }
        }
    }
}
