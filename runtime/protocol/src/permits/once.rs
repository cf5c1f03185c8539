//! One call about the permits of a key, sent to a store.

use super::PermitCall;
use crate::fallback::{GuardedStore, OpenCall};
use crate::store::Host;
use crate::work::{Addressed, PermitsDone, Work};

/// Sends one call, and calls `done` with its answer, or at once if the store is not asked at present. If
/// the call is dropped unanswered, `done` is dropped too.
pub fn call_permits<H: Host>(store: &GuardedStore<H>, call: PermitCall, done: PermitsDone) {
    let mut open = match store.attempt_call(&call.keys) {
        Ok(attempt) => OpenCall::new(store, attempt),
        Err(error) => return done(Err(error)),
    };
    let route = store.store().route().and_then(|route| Ok((route.slot(&call.keys)?, route)));
    let (slot, route) = match route {
        Ok(found) => found,
        Err(error) => return done(Err(error)),
    };
    let done: PermitsDone = Box::new(move |reply| {
        open.end(reply.as_ref().err());
        done(reply);
    });
    let work = Addressed { slot, work: Work::Permits { call: Box::new(call), done } };
    route.send(&mut core::iter::once(work));
}
