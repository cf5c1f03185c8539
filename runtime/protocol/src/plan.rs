//! Puts the requests of a batch together into as few script calls as their order allows.

use std::collections::HashMap;

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

/// Which keys one call may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Together {
    #[default]
    All,
    /// Keys of one hash slot.
    Slot,
    /// A single key.
    Key,
}

/// The calls of a batch that is being put together.
#[derive(Default)]
pub(crate) struct Planner {
    calls: Vec<Call>,
    /// Calls that more checks may join, and the hash slot of their keys if it matters.
    open: Vec<(Option<u16>, Checks)>,
    /// The last open call of each key, where each call has one.
    open_of_key: HashMap<Vec<u8>, usize>,
    together: Together,
}

impl Planner {
    /// A planner of calls to a server that may take only such keys in one call.
    pub(crate) fn new(together: Together) -> Self {
        Self { together, ..Self::default() }
    }

    /// Adds the request that has this place in the batch.
    pub(crate) fn add(&mut self, place: usize, request: Request) {
        if request.plain_charge().is_none() {
            self.close();
            self.calls.push(Call::of_one(place, request));
            return;
        }
        if self.together == Together::Key {
            self.add_to_its_key(place, request);
            return;
        }
        let by_slot = self.together == Together::Slot;
        let place_of_keys = request.keys().first().filter(|_| by_slot).map(|key| slot(key));
        let joins = |(other, checks): &&mut (Option<u16>, Checks)| {
            *other == place_of_keys && checks.takes(&request, MAX_KEYS)
        };
        match self.open.iter_mut().find(joins) {
            Some((_, checks)) => checks.add(place, request),
            None => self.open(place_of_keys, place, request),
        }
    }

    fn add_to_its_key(&mut self, place: usize, request: Request) {
        let Some(key) = request.keys().first().cloned() else {
            self.open(None, place, request);
            return;
        };
        let last = self.open_of_key.get(&key).and_then(|last| self.open.get_mut(*last));
        match last {
            Some((_, checks)) if checks.takes(&request, 1) => checks.add(place, request),
            _ => {
                self.open_of_key.insert(key, self.open.len());
                self.open(None, place, request);
            }
        }
    }

    fn open(&mut self, slot: Option<u16>, place: usize, request: Request) {
        let mut checks = Checks::new(&request);
        checks.add(place, request);
        self.open.push((slot, checks));
    }

    pub(crate) fn into_calls(mut self) -> Vec<Call> {
        self.close();
        self.calls
    }

    fn close(&mut self) {
        self.open_of_key.clear();
        self.calls.extend(self.open.drain(..).map(|(_, checks)| checks.into_call()));
    }
}
