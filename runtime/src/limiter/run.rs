//! The one path of every operation to its buckets, in three forms: with a callback, blocking, and
//! as a future.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::time::Instant;

use tidegate_core::{Operation, Outcome, admit};

use super::{Buckets, Limiter, RedisBuckets};
use crate::answer::lost;
use crate::oneshot::{OneshotReceiver, oneshot};
use crate::{Error, Keys};

impl Limiter {
    /// Runs any operation on the buckets of `keys`. The other methods are made of this one.
    ///
    /// In memory, and after an error in the arguments, `done` runs before this returns. Otherwise
    /// it runs on Tidegate's I/O thread, where it should do little.
    pub(crate) fn start<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        let keys = match self.admit(keys.into(), &operation) {
            Ok(keys) => keys,
            Err(error) => return done(Err(error)),
        };
        match &self.0.buckets {
            Buckets::Memory(tables) => done(tables.run(keys, operation)),
            Buckets::Shm(shared) => done(shared.tables().run(keys, operation)),
            Buckets::Redis(RedisBuckets { guarded, .. }) => {
                let stored = keys.in_redis(&self.0.prefix);
                match operation {
                    Operation::Check { cost } if self.has_leases() => {
                        let note = self.noting(keys, cost);
                        guarded.run(stored, operation, |outcome| {
                            note(&outcome);
                            done(outcome);
                        });
                    }
                    _ => guarded.run(stored, operation, done),
                }
            }
        }
    }

    /// [`start`](Self::start), which blocks while a remote store answers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong number of keys or a key of a wrong length, the errors
    /// of the operation, and for a remote store its errors.
    pub(crate) fn run_and_wait<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        match &self.0.buckets {
            Buckets::Memory(tables) => tables.run(self.admit(keys.into(), &operation)?, operation),
            Buckets::Shm(shared) => {
                shared.tables().run(self.admit(keys.into(), &operation)?, operation)
            }
            Buckets::Redis(redis) => {
                let (sender, receiver) = oneshot();
                self.start(keys, operation, move |outcome| sender.send(outcome));
                wait(redis, receiver)
            }
        }
    }

    /// [`start`](Self::start) as a future, for any executor.
    ///
    /// # Errors
    /// As [`run_and_wait`](Self::run_and_wait).
    pub(crate) fn run_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + 'static {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // An error says that the future has been dropped.
        self.start(keys, operation, move |outcome| _ = sender.send(outcome));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// The errors that a check would answer without asking the store. Nothing is spent.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of a wrong number or a key that is not 1 to 1024
    /// bytes long, [`Error::CostTooLarge`], and [`Error::Store`] when the limiter is closed.
    pub fn validate<'k>(&self, keys: impl Into<Keys<'k>>, cost: u64) -> Result<(), Error> {
        self.admit(keys.into(), &Operation::Check { cost }).map(|_| ())
    }

    /// Refuses what no store should be asked.
    pub(super) fn admit<'k>(
        &self,
        keys: Keys<'k>,
        operation: &Operation,
    ) -> Result<Keys<'k>, Error> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Store("the limiter is closed".into()));
        }
        admit(&self.0.limits, operation).map_err(Error::from_engine)?;
        keys.checked(self.0.limits.len())
    }
}

/// Waits for an answer of the store. The wait is bounded if the waiting thread may be the one that
/// is to do the I/O.
#[expect(clippy::disallowed_methods, reason = "a deadline in real time")]
pub(super) fn wait<T>(redis: &RedisBuckets, receiver: OneshotReceiver<T>) -> Result<T, Error> {
    /// What is added to the timeout, because a busy I/O thread answers late.
    const SPARE: Duration = Duration::from_secs(1);
    let Some(longest) = redis.store.longest_wait() else { return receiver.wait() };
    let deadline = Instant::now() + longest + SPARE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.wait_for(left) {
            Some(answer) => return answer,
            None if left.is_zero() => return Err(Error::timeout(longest)),
            None => {}
        }
    }
}
