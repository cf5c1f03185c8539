//! One lease call for a node that this process speaks for: a proxy that spends its slice elsewhere.

use tidegate_core::Grant;

use super::LeaseCall;
use crate::error::Error;
use crate::fallback::{GuardedStore, OpenCall};
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
    let mut open = OpenCall::new(store, store.attempt_lease(&call.keys)?);
    let route = store.store().route()?;
    let slot = route.slot(&call.keys)?;
    let done: GrantDone = Box::new(move |grant| {
        open.end(grant.as_ref().err());
        done(grant);
    });
    let work = Addressed { slot, work: Work::Lease { call: Box::new(call), done } };
    route.send(&mut core::iter::once(work));
    Ok(())
}
