use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidegate_core::{Decision, Outcome, Reserved, Source};
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{Carriage, Carried, Courier, Errand, Error, Host as _, Outbox};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::{Answer, FAILED, Slot, status};
use crate::failure::Failure;
use crate::host::{GuardedStore, JavaScript};
use crate::trip::Trip;

/// A client of the host's, for all limiters that have it: what waits to be sent, and the
/// answers that are to be told.
#[wasm_bindgen]
pub struct Client {
    carriage: Arc<Carriage>,
    outbox: Arc<Mutex<Outbox>>,
    answers: Arc<Answers>,
    /// By their timeout in milliseconds.
    stores: HashMap<u32, GuardedStore, foldhash::fast::RandomState>,
    told: Told,
}

/// The answers that are there, each under its call's number.
#[derive(Default)]
pub(crate) struct Answers(Mutex<VecDeque<(u32, Result<Outcome, Error>)>>);

impl Answers {
    pub(crate) fn put(&self, id: u32, outcome: Result<Outcome, Error>) {
        self.0.lock().push_back((id, outcome));
    }
}

struct Gate(Arc<Mutex<Outbox>>);

impl Courier for Gate {
    fn take(&self, errands: Vec<Errand>) {
        self.0.lock().put(errands);
    }
}

#[wasm_bindgen]
impl Client {
    /// That nobody has asked yet.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript knows no defaults")]
    pub fn new() -> Self {
        let outbox = Arc::default();
        let carriage = Carriage::new(Gate(Arc::clone(&outbox)));
        Self {
            carriage,
            outbox,
            answers: Arc::default(),
            stores: HashMap::default(),
            told: Told::default(),
        }
    }

    /// How many requests wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outbox.lock().len()
    }

    /// The first of them, up to a number, to be sent now by a trip that is over; false if nobody
    /// waits.
    pub fn depart(&self, trip: &mut Trip, most: usize) -> bool {
        let errands = self.outbox.lock().leave(most);
        let departs = !errands.is_empty();
        if departs {
            trip.begin(errands);
        }
        departs
    }

    /// Answers those who have waited long enough to be sent; milliseconds until the next one
    /// will have, or nothing when nobody waits.
    pub fn expire(&self) -> Option<f64> {
        let (late, next) = self.outbox.lock().expire(JavaScript::now());
        late.into_iter().for_each(Errand::give_up);
        next.map(in_millis)
    }

    /// The number of a call that has its answer, which is then at [`outcome`](Self::outcome);
    /// nothing when there is none.
    pub fn take_answer(&mut self) -> Option<u32> {
        let (id, outcome) = self.answers.0.lock().pop_front()?;
        self.told.tell(outcome);
        Some(id)
    }

    /// The answer that was taken last. A status as that of [`Engine`](crate::Engine); of a
    /// cancel 1 if all came back, 0 if not.
    pub fn outcome(&self) -> u32 {
        self.told.status
    }

    /// Where its numbers are: as [`Engine::answer_pointer`](crate::Engine::answer_pointer)
    /// says, then the limit's burst and the source, as doubles.
    pub fn answer_pointer(&self) -> *const f64 {
        (&raw const *self.told.numbers).cast()
    }

    /// As [`Engine::slot_pointer`](crate::Engine::slot_pointer).
    pub fn slot_pointer(&self) -> *const u64 {
        (&raw const *self.told.slot).cast()
    }

    /// Why the outcome is none.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.told.failure.take()
    }
}

impl Client {
    pub(crate) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// The store of all limiters that would wait so long.
    pub(crate) fn store(&mut self, timeout_ms: u32) -> GuardedStore {
        let timeout = Duration::from_millis(timeout_ms.into());
        let open = || GuardedStore::new(Carried::new(Arc::clone(&self.carriage), timeout), timeout);
        self.stores.entry(timeout_ms).or_insert_with(open).clone()
    }
}

/// An answer in the form that JavaScript reads.
#[derive(Default)]
pub(crate) struct Told {
    status: u32,
    numbers: Box<Numbers>,
    slot: Box<Slot>,
    failure: Option<Failure>,
}

#[repr(C)]
#[derive(Default)]
struct Numbers {
    answer: Answer,
    limit: f64,
    source: f64,
}

impl Told {
    fn tell(&mut self, outcome: Result<Outcome, Error>) {
        self.status = match outcome {
            Ok(Outcome::Decision(decision) | Outcome::Reserved(Reserved::TooFar(decision))) => {
                self.decide(&decision)
            }
            Ok(Outcome::Reserved(Reserved::Slot(slot))) => {
                *self.slot = Slot::from(slot);
                self.decide(&slot.decision)
            }
            Ok(Outcome::Cancelled(all)) => all.into(),
            Err(error) => self.fail(error.into()),
        };
    }

    pub(crate) fn decide(&mut self, decision: &Decision) -> u32 {
        let source = match decision.source {
            Source::Lease => 1.0,
            Source::Fallback => 2.0,
            _ => 0.0,
        };
        *self.numbers =
            Numbers { answer: Answer::of(decision), limit: decision.limit as f64, source };
        status(decision)
    }

    fn fail(&mut self, failure: Failure) -> u32 {
        self.failure = Some(failure);
        FAILED
    }
}

/// Rounded up, so that a timer set for as long is never early.
pub(crate) fn in_millis(wait: Duration) -> f64 {
    (wait.as_secs_f64() * 1e3).ceil()
}
