use tidegate_core::{Decision, Operation};
use tokio::sync::oneshot;

use super::{Buckets, Limiter};
use crate::answer::{decision, lost};
use crate::error::Error;
use crate::keys::Keys;

impl Limiter {
    /// Spends `cost` tokens of `keys` if every limit allows; never waits for
    /// tokens, only for a remote store. A cost of 0 looks without spending.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of a wrong number or a key that is not 1 to 1024
    /// bytes long, [`Error::CostTooLarge`], and for a remote store its errors.
    pub fn check<'k>(&self, keys: impl Into<Keys<'k>>, cost: u64) -> Result<Decision, Error> {
        match &self.0.buckets {
            Buckets::Memory { .. } => self.check_memory(keys.into(), cost),
            Buckets::Redis(_) => decision(self.run_blocking(keys, Operation::Check { cost })),
        }
    }

    /// [`check`](Self::check) as a future.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: u64,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.check_then(keys, cost, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`check`](Self::check) with a callback, which runs when and where that of
    /// [`run`](Self::run) does.
    pub fn check_then<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: u64,
        done: impl FnOnce(Result<Decision, Error>) + Send + 'static,
    ) {
        match &self.0.buckets {
            Buckets::Memory { .. } => done(self.check_memory(keys.into(), cost)),
            Buckets::Redis(_) => {
                self.run(keys, Operation::Check { cost }, |outcome| done(decision(outcome)));
            }
        }
    }

    /// The check of a bucket in this process: nothing is allocated on the way.
    #[inline]
    pub(super) fn check_memory(&self, keys: Keys<'_>, cost: u64) -> Result<Decision, Error> {
        let Buckets::Memory { store, clock } = &self.0.buckets else {
            return Err(Error::Store("the buckets are not in memory".into()));
        };
        match self.admit_keys(keys)? {
            // The engine refuses a cost above the burst itself.
            Keys::One(key) => store.check(key, &&**clock, cost),
            keys => decision(store.run(keys, &&**clock, Operation::Check { cost })),
        }
    }
}
