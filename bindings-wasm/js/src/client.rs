//! The queue of requests and answers that belongs to one client of the host's.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidegate_core::{BucketTiers, Limit, Outcome, Reserved, TieredDecision};
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{
    ClientConnection, ClientStore, Error, Host as _, PendingQueue, PendingRequest, PrefixClaim,
    PrefixHold, ServerHandle, Transport,
};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::batch::Batch;
use crate::engine::{Answer, FAILED, Slot, Tiers, in_count, source_index, status};
use crate::failure::Failure;
use crate::host::{GuardedStore, JavaScript, in_millis};

/// The engine's part of a client of the host's, which all limiters over that client share: the
/// requests that wait to be sent, and the answers that JavaScript has not taken yet.
#[wasm_bindgen]
pub struct Client {
    connection: Arc<ClientConnection>,
    server: ServerHandle,
    waiting: Arc<Mutex<PendingQueue>>,
    answers: Arc<Answers>,
    /// The stores by their timeout in milliseconds.
    stores: HashMap<u32, GuardedStore, foldhash::fast::RandomState>,
    /// The limits that have the default prefix of this Redis.
    default_prefix: Option<PrefixClaim>,
    last: LastAnswer,
}

/// The answers that JavaScript has not taken yet, each under the id of its call.
#[derive(Default)]
pub(crate) struct Answers(Mutex<VecDeque<(u32, Result<Outcome, Error>)>>);

impl Answers {
    /// Adds the answer to the call with this id.
    pub(crate) fn put(&self, id: u32, outcome: Result<Outcome, Error>) {
        self.0.lock().push_back((id, outcome));
    }
}

/// The answers to the calls of one limiter.
#[derive(Clone)]
pub(crate) struct LimiterAnswers {
    answers: Arc<Answers>,
    tiers: BucketTiers,
}

impl LimiterAnswers {
    /// The answers of a limiter whose buckets are those of `tiers`.
    pub(crate) const fn new(answers: Arc<Answers>, tiers: BucketTiers) -> Self {
        Self { answers, tiers }
    }

    /// Adds the answer to the call with this id. Its decision then names the limit by its place
    /// among all limits.
    pub(crate) fn put(&self, id: u32, outcome: Result<Outcome, Error>) {
        let place = |decision: TieredDecision| self.tiers.place_all(&decision);
        self.answers.put(id, outcome.map(|outcome| outcome.map_decision(place)));
    }
}

/// The transport that keeps requests until JavaScript takes them in a batch.
struct Waiting(Arc<Mutex<PendingQueue>>);

impl Transport for Waiting {
    fn send(&self, requests: Vec<PendingRequest>) {
        self.0.lock().put(requests);
    }
}

#[wasm_bindgen]
impl Client {
    /// A client without requests. `place` is where it connects to, such as host and port, if it says so.
    #[wasm_bindgen(constructor)]
    pub fn new(place: Option<String>) -> Self {
        let (waiting, server) = (Arc::default(), ServerHandle::new(JavaScript::process));
        let transport = Waiting(Arc::clone(&waiting));
        let connection = ClientConnection::new(transport, server.clone(), place.as_deref());
        Self {
            connection,
            server,
            waiting,
            answers: Arc::default(),
            stores: HashMap::default(),
            default_prefix: None,
            last: LastAnswer::default(),
        }
    }

    /// Sends a single key in each script call from now on.
    pub fn send_keys_apart(&self) {
        self.server.send_keys_apart();
    }

    /// The number of requests that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Moves the first requests that wait, at most `most`, into a batch that is over. Returns false
    /// if no request waits. If the event loop was blocked, requests whose deadline has passed
    /// meanwhile are `excused`: they are sent nevertheless.
    pub fn next_batch(&self, batch: &mut Batch, most: usize, excused: bool) -> bool {
        let requests = self.waiting.lock().take(most);
        let has_requests = !requests.is_empty();
        if has_requests {
            let now = if excused { 0 } else { JavaScript::now() };
            batch.replace(tidegate_protocol::Batch::new(requests, self.server.state(), now));
        }
        has_requests
    }

    /// Answers the callers whose deadline has passed before their request was sent. Returns the
    /// milliseconds until the next deadline, or nothing when no request waits.
    pub fn expire(&self) -> Option<f64> {
        let (late, next) = self.waiting.lock().expire(JavaScript::now());
        late.into_iter().for_each(PendingRequest::give_up);
        next.map(in_millis)
    }

    /// Takes the next answer, and returns the id of its call; nothing when there is none. The
    /// methods below then read the answer.
    pub fn take_answer(&mut self) -> Option<u32> {
        let (id, outcome) = self.answers.0.lock().pop_front()?;
        self.last.set(outcome);
        Some(id)
    }

    /// The status of the answer. For a decision it is eight times the index of its source in
    /// `Source::ALL`, plus twice the binding tier, plus one if allowed; for a cancel 1 if all of it
    /// came back, 0 if not; `u32::MAX` for a failure.
    pub fn status(&self) -> u32 {
        self.last.status
    }

    /// The address of the decision's numbers: `limit`, `remaining`, `retry_after_ms` and
    /// `reset_after_ms` as doubles. `readDecision` in `lib/decision.js` reads them.
    pub fn record_pointer(&self) -> *const f64 {
        (&raw const *self.last.record).cast()
    }

    /// The address of the reservation, which has the form of
    /// [`Engine::slot_pointer`](crate::Engine::slot_pointer).
    pub fn slot_pointer(&self) -> *const u64 {
        (&raw const *self.last.slot).cast()
    }

    /// The failure, if the answer is one.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.last.failure.take()
    }
}

impl Client {
    /// The queue of answers, for the limiters over this client.
    pub(crate) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// Takes part in the default prefix.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] while limiters with other limits have it.
    pub(crate) fn hold_default_prefix(
        &mut self,
        limits: &Arc<[Limit]>,
    ) -> Result<Arc<PrefixHold>, Error> {
        let joined = self.default_prefix.as_ref().map(|claim| claim.join(limits)).transpose()?;
        Ok(joined.flatten().unwrap_or_else(|| {
            let (claim, hold) = PrefixClaim::new(limits);
            self.default_prefix = Some(claim);
            hold
        }))
    }

    /// The store that all limiters with this timeout share.
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

/// The answer that was taken last, in the form in which JavaScript reads it.
#[derive(Default)]
pub(crate) struct LastAnswer {
    status: u32,
    record: Box<Record>,
    slot: Box<Slot>,
    failure: Option<Failure>,
}

/// The numbers of a decision from any source.
#[repr(C)]
#[derive(Default)]
struct Record {
    limit: f64,
    answer: Answer,
    tiers: Tiers,
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

    fn decide(&mut self, decision: &TieredDecision) -> u32 {
        let (limit, answer) = (in_count(decision.limit), Answer::of(decision));
        *self.record = Record { limit, answer, tiers: Tiers::of(decision) };
        source_index(decision.source) * 8 + status(decision)
    }

    fn fail(&mut self, failure: Failure) -> u32 {
        self.failure = Some(failure);
        FAILED
    }
}
