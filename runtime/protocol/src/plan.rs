//! Puts the requests of a batch together into as few script calls as their order allows.

use crate::call::{Call, Checks};
use crate::request::Request;

/// The most keys that one call has: a server takes about a millisecond for them.
pub const MAX_KEYS: usize = 512;

/// Puts requests together into the calls of one batch. Checks of one limiter share a call. An
/// operation that does not join others is sent after all that came before it, and before all that
/// came after.
pub fn plan(requests: impl IntoIterator<Item = Request>) -> Vec<Call> {
    let mut planner = Planner::default();
    for (place, request) in requests.into_iter().enumerate() {
        planner.add(place, request);
    }
    planner.into_calls()
}

/// The calls of a batch that is being put together.
#[derive(Default)]
pub(crate) struct Planner {
    calls: Vec<Call>,
    /// Calls that more checks may join.
    open: Vec<Checks>,
}

impl Planner {
    /// Adds the request that has this place in the batch.
    pub(crate) fn add(&mut self, place: usize, request: Request) {
        if request.plain_charge().is_none() {
            self.close();
            self.calls.push(Call::of_one(place, request));
            return;
        }
        match self.open.iter_mut().find(|checks| checks.takes(&request, MAX_KEYS)) {
            Some(checks) => checks.add(place, request),
            None => {
                let mut checks = Checks::new(&request);
                checks.add(place, request);
                self.open.push(checks);
            }
        }
    }

    pub(crate) fn into_calls(mut self) -> Vec<Call> {
        self.close();
        self.calls
    }

    fn close(&mut self) {
        self.calls.extend(self.open.drain(..).map(Checks::into_call));
    }
}
