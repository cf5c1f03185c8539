//! The methods of [`Limiter`] and [`Reservation`] that only bindings use, with the feature
//! `__bindings`: operations that answer by a callback, and leases.
//!
//! For memory, and for errors in the arguments, a callback runs before the method returns. Otherwise
//! it runs on the I/O thread, where it should do little.

use core::time::Duration;

use tidegate_core::{Cost, Decision, Operation, Outcome, TieredDecision};
use tidegate_protocol::Ask;

use super::{Buckets, Granted, Limiter, Waiter};
use crate::answer::{Answer, answer_as};
use crate::{Error, Keys, Reservation};

#[doc(hidden)]
impl Limiter {
    /// Runs any operation.
    pub fn run<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        self.start(keys, operation, done);
    }

    /// Runs any operation, and blocks while a remote store answers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong number of keys, those of the operation, and for a
    /// remote store its errors.
    pub fn run_blocking<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        self.run_and_wait(keys, operation)
    }

    /// [`check`](Self::check) with a callback.
    pub fn check_then<'k, A: Answer>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        done: impl FnOnce(Result<A, Error>) + Send + 'static,
    ) {
        self.start_check(keys, cost, done);
    }

    /// [`peek`](Self::peek) with a callback.
    pub fn peek_then<'k, A: Answer>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        done: impl FnOnce(Result<A, Error>) + Send + 'static,
    ) {
        self.start_peek(keys, cost, done);
    }

    /// [`check_then`](Self::check_then) for checks that have come together. They are sent
    /// together, and each is answered by itself, also if its arguments are wrong.
    pub fn check_each_then<'k, A: Answer, K: Into<Keys<'k>>, C: Into<Cost>, D>(
        &self,
        checks: impl IntoIterator<Item = (K, C, D)>,
    ) where
        D: FnOnce(Result<A, Error>) + Send + 'static,
    {
        let Buckets::Redis(redis) = &self.0.buckets else {
            return checks
                .into_iter()
                .for_each(|(keys, cost, done)| self.start_check(keys, cost, done));
        };
        redis.guarded.run_all(checks.into_iter().filter_map(|(keys, cost, done)| {
            let (keys, cost) = (keys.into(), cost.into());
            let operation = Operation::Check { cost };
            if let Some(decision) = self.decide_leased(keys, cost) {
                done(Ok(decision.into()));
                return None;
            }
            let stored = match self.admit(keys, &operation) {
                Ok(keys) => keys.in_redis(&self.0.prefix),
                Err(error) => {
                    done(Err(error));
                    return None;
                }
            };
            let note = self.noting(keys, cost);
            let done = move |outcome| {
                note(&outcome);
                done(answer_as(outcome));
            };
            Some(Ask { keys: stored, operation, done })
        }));
    }

    /// [`check_many`](Self::check_many) with a callback.
    pub fn check_many_then<'k, A: Answer, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
        done: impl FnOnce(Result<Vec<A>, Error>) + Send + 'static,
    ) {
        self.start_check_many(checks, done);
    }

    /// [`ping`](Self::ping) with a callback.
    pub fn ping_then(&self, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        self.start_ping(done);
    }

    /// [`reserve`](Self::reserve) with a callback.
    pub fn reserve_then<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        max_wait: Option<Duration>,
        done: impl FnOnce(Result<Reservation, Error>) + Send + 'static,
    ) {
        self.start_reserve(keys, cost, max_wait, done);
    }

    /// Spends tokens that are there now and that nobody waits for, as
    /// [`acquire`](Self::acquire) does first; `None` if the caller must wait.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn acquire_now<'k, A: Answer>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> Result<Option<A>, Error> {
        self.try_acquire(keys.into(), cost.into())
    }

    /// [`acquire`](Self::acquire) with a callback, which may run before this returns or on any
    /// thread. The waiter can leave.
    pub fn acquire_then<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        timeout: Option<Duration>,
        done: impl FnOnce(Result<Granted, Error>) + Send + 'static,
    ) -> Waiter {
        self.start_acquire(keys, cost, timeout, done)
    }

    /// Whether a lease of this process may decide checks.
    pub fn is_leased(&self) -> bool {
        self.has_leases()
    }

    /// The decision of a check that a lease of this process can take at once; `None` if the store
    /// must be asked.
    pub fn check_leased<'k>(&self, keys: impl Into<Keys<'k>>, cost: Cost) -> Option<Decision> {
        self.decide_leased(keys, cost)
    }
}

#[doc(hidden)]
impl Reservation {
    /// [`cancel`](Self::cancel) with a callback, which also gets the reservation if the store failed, so
    /// that it can be called again.
    pub fn cancel_then(
        self,
        done: impl FnOnce(Result<bool, Error>, Option<Self>) + Send + 'static,
    ) {
        let again = self.again();
        self.start_cancel(|answer| {
            let again = is_of_store(&answer).then_some(again);
            done(answer, again);
        });
    }

    /// [`settle`](Self::settle), which answers also what each limit says.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn settle_tiers(self, actual: impl Into<Cost>) -> Result<TieredDecision, Error> {
        self.settle_as(actual.into())
    }

    /// [`settle`](Self::settle) with a callback, which also gets the reservation if the store failed, so
    /// that it can be called again.
    pub fn settle_then<A: Answer>(
        self,
        actual: impl Into<Cost>,
        done: impl FnOnce(Result<A, Error>, Option<Self>) + Send + 'static,
    ) {
        let again = self.again();
        self.start_settle(actual, |answer| {
            let again = is_of_store(&answer).then_some(again);
            done(answer, again);
        });
    }
}

fn is_of_store<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Store(_) | Error::StoreTimeout { .. }))
}
