//! A client of the host's, as JavaScript drives it: batches out, replies in.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidegate_core::{Decision, Outcome, Reserved, Source};
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{
    ClientConnection, ClientStore, Error, Host as _, PendingQueue, PendingRequest, ServerHandle,
    Transport,
};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::batch::Batch;
use crate::engine::{Answer, FAILED, Slot, status};
use crate::failure::Failure;
use crate::host::{GuardedStore, JavaScript, in_millis};

/// A client of the host's, for all limiters that use it, with the requests that wait to be sent and
/// the last answer.
#[wasm_bindgen]
pub struct Client {
    connection: Arc<ClientConnection>,
    server: ServerHandle,
    waiting: Arc<Mutex<PendingQueue>>,
    answers: Arc<Answers>,
    /// By their timeout in milliseconds.
    stores: HashMap<u32, GuardedStore, foldhash::fast::RandomState>,
    last: LastAnswer,
}

/// The answers that are there, each under its call's number.
#[derive(Default)]
pub(crate) struct Answers(Mutex<VecDeque<(u32, Result<Outcome, Error>)>>);

impl Answers {
    pub(crate) fn put(&self, id: u32, outcome: Result<Outcome, Error>) {
        self.0.lock().push_back((id, outcome));
    }
}

/// Keeps requests until JavaScript takes them out in a batch.
struct Waiting(Arc<Mutex<PendingQueue>>);

impl Transport for Waiting {
    fn send(&self, requests: Vec<PendingRequest>) {
        self.0.lock().put(requests);
    }
}

#[wasm_bindgen]
impl Client {
    /// A client without requests.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript knows no defaults")]
    pub fn new() -> Self {
        let (waiting, server) = (Arc::default(), ServerHandle::new(JavaScript::process));
        let transport = Waiting(Arc::clone(&waiting));
        let connection = ClientConnection::new(transport, server.clone());
        Self {
            connection,
            server,
            waiting,
            answers: Arc::default(),
            stores: HashMap::default(),
            last: LastAnswer::default(),
        }
    }

    /// The number of requests that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Puts the first of them, at most `most`, into a batch that is over; false if none waits.
    pub fn next_batch(&self, batch: &mut Batch, most: usize) -> bool {
        let requests = self.waiting.lock().take(most);
        let has_requests = !requests.is_empty();
        if has_requests {
            let now = JavaScript::now();
            batch.replace(tidegate_protocol::Batch::new(requests, self.server.state(), now));
        }
        has_requests
    }

    /// Tells the callers whose deadline has passed before their request was sent. Answers the
    /// milliseconds until the next deadline, or nothing when no request waits.
    pub fn expire(&self) -> Option<f64> {
        let (late, next) = self.waiting.lock().expire(JavaScript::now());
        late.into_iter().for_each(PendingRequest::give_up);
        next.map(in_millis)
    }

    /// The number of a call that has its answer, which is then at [`outcome`](Self::outcome);
    /// nothing when there is none.
    pub fn take_answer(&mut self) -> Option<u32> {
        let (id, outcome) = self.answers.0.lock().pop_front()?;
        self.last.set(outcome);
        Some(id)
    }

    /// The answer that was taken last. A status as that of [`Engine`](crate::Engine); of a
    /// cancel 1 if all came back, 0 if not.
    pub fn outcome(&self) -> u32 {
        self.last.status
    }

    /// Where its numbers are: as [`Engine::answer_pointer`](crate::Engine::answer_pointer)
    /// says, then the limit's burst and the source, as doubles.
    pub fn answer_pointer(&self) -> *const f64 {
        (&raw const *self.last.numbers).cast()
    }

    /// As [`Engine::slot_pointer`](crate::Engine::slot_pointer).
    pub fn slot_pointer(&self) -> *const u64 {
        (&raw const *self.last.slot).cast()
    }

    /// Why the outcome is none.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.last.failure.take()
    }
}

impl Client {
    pub(crate) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// The store of all limiters with this timeout.
    pub(crate) fn store(&mut self, timeout_ms: u32) -> GuardedStore {
        let timeout = Duration::from_millis(timeout_ms.into());
        let open = || {
            let connection = Arc::clone(&self.connection);
            let store = ClientStore::new(connection, timeout, JavaScript::now);
            GuardedStore::new(Arc::new(store), timeout)
        };
        self.stores.entry(timeout_ms).or_insert_with(open).clone()
    }
}

/// An answer in the form that JavaScript reads.
#[derive(Default)]
pub(crate) struct LastAnswer {
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

impl LastAnswer {
    fn set(&mut self, outcome: Result<Outcome, Error>) {
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
