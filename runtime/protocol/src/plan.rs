//! Puts the requests of a batch together into as few script calls as their order allows.

use crate::call::{Call, Checks};
use crate::request::Request;

/// The most keys that one call has: as many take a server about a millisecond.
pub const MAX_KEYS: usize = 512;

/// Puts requests together into the calls of one trip, in an order that keeps theirs: an
/// operation that does not join others is sent after all that came before it, and before
/// all that came after.
pub fn plan(requests: impl IntoIterator<Item = Request>) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut open: Vec<Checks> = Vec::new();
    for (place, request) in requests.into_iter().enumerate() {
        if request.plain_check().is_some() {
            let joined = open.iter_mut().find(|checks| checks.take(&request, MAX_KEYS));
            match joined {
                Some(checks) => checks.add(place, request),
                None => {
                    let mut checks = Checks::new(&request);
                    checks.add(place, request);
                    open.push(checks);
                }
            }
            continue;
        }
        calls.extend(open.drain(..).map(Checks::into_call));
        calls.push(Call::of_one(place, request));
    }
    calls.extend(open.into_iter().map(Checks::into_call));
    calls
}
