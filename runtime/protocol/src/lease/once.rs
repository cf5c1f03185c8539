//! One lease call for a node that this process speaks for: a proxy that spends its slice elsewhere.

use tidegate_core::Grant;

use super::LeaseCall;
use crate::error::Error;
use crate::fallback::{GuardedStore, LeaseAttempt};
use crate::store::Host;
use crate::work::{Addressed, GrantDone, Work};

/// Sends one lease call, and calls `done` with its answer. If the call is dropped unanswered, `done` is
/// dropped too.
///
/// # Errors
/// [`Error::Store`] if the store is not asked at present, or has no route; then nothing is sent.
pub fn lease_once<H: Host>(
    store: &GuardedStore<H>,
    call: LeaseCall,
    done: impl FnOnce(Result<Grant, Error>) + Send + 'static,
) -> Result<(), Error> {
    let attempt = store.attempt_lease(&call.keys)?;
    let mut attempt = Attempt { store: store.clone(), attempt: Some(attempt) };
    let route = store.store().route()?;
    let slot = route.slot(&call.keys)?;
    let done: GrantDone = Box::new(move |grant| {
        attempt.end(grant.as_ref().err(), true);
        done(grant);
    });
    let work = Addressed { slot, work: Work::Lease { call: Box::new(call), done } };
    route.send(&mut core::iter::once(work));
    Ok(())
}

/// Tells the breaker how the call has ended.
struct Attempt<H: Host> {
    store: GuardedStore<H>,
    attempt: Option<LeaseAttempt>,
}

impl<H: Host> Attempt<H> {
    fn end(&mut self, error: Option<&Error>, answered: bool) {
        let failure =
            error.filter(|error| matches!(error, Error::Store(_) | Error::StoreTimeout { .. }));
        if let Some(attempt) = self.attempt.take() {
            self.store.leased(attempt, failure, answered);
        }
    }
}

impl<H: Host> Drop for Attempt<H> {
    fn drop(&mut self) {
        self.end(None, false);
    }
}
