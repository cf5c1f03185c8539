//! Puts the requests of a batch together into as few script calls as their order allows.

use crate::call::{Call, Checks};
use crate::request::Request;
use crate::slot::slot;

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
    /// Calls that more checks may join, and the hash slot of their keys if it matters.
    open: Vec<(Option<u16>, Checks)>,
    /// Whether all keys of a call must be in one hash slot.
    by_slot: bool,
}

impl Planner {
    /// A planner of calls to a server that may only take keys of one hash slot in one call.
    pub(crate) fn new(by_slot: bool) -> Self {
        Self { by_slot, ..Self::default() }
    }

    /// Adds the request that has this place in the batch.
    pub(crate) fn add(&mut self, place: usize, request: Request) {
        if request.plain_charge().is_none() {
            self.close();
            self.calls.push(Call::of_one(place, request));
            return;
        }
        let place_of_keys = request.keys().first().filter(|_| self.by_slot).map(|key| slot(key));
        let joins = |(other, checks): &&mut (Option<u16>, Checks)| {
            *other == place_of_keys && checks.takes(&request, MAX_KEYS)
        };
        match self.open.iter_mut().find(joins) {
            Some((_, checks)) => checks.add(place, request),
            None => {
                let mut checks = Checks::new(&request);
                checks.add(place, request);
                self.open.push((place_of_keys, checks));
            }
        }
    }

    pub(crate) fn into_calls(mut self) -> Vec<Call> {
        self.close();
        self.calls
    }

    fn close(&mut self) {
        self.calls.extend(self.open.drain(..).map(|(_, checks)| checks.into_call()));
    }
}
