//! The methods of [`Concurrency`] and [`Permit`] that only bindings use, with the feature
//! `__bindings`: operations that answer by a callback. It runs at once or on any thread, and should
//! do little.

use core::time::Duration;

use super::{Concurrency, Permit, PermitWaiter};
use crate::Error;

#[doc(hidden)]
impl Concurrency {
    /// The error of a caller that got none.
    pub fn no_permit(&self, timeout: Option<Duration>) -> Error {
        self.refusal(timeout)
    }

    /// [`acquire`](Self::acquire) with a callback.
    pub fn acquire_then(
        &self,
        key: &[u8],
        timeout: Option<Duration>,
        done: impl FnOnce(Result<Option<Permit>, Error>) + Send + 'static,
    ) -> PermitWaiter {
        self.enter(key, timeout, done)
    }

    /// [`in_flight`](Self::in_flight) with a callback.
    pub fn in_flight_then(
        &self,
        key: &[u8],
        done: impl FnOnce(Result<u64, Error>) + Send + 'static,
    ) {
        self.look(key, |reply| done(reply.map(|reply| reply.live)));
    }
}

#[doc(hidden)]
impl Permit {
    /// Gives the permit back once, and calls `done` when the store has heard of it.
    pub fn release_then(&self, done: impl FnOnce() + Send + 'static) {
        self.leave_then(done);
    }
}
