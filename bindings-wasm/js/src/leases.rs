//! Slices of shared buckets, spent here at a pace. The host says when to look at them, and
//! sends what they ask for.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_core::{Decision, Grant, LeaseAsk, Next, Slice, SpendResult};
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{Contract, Error, Exchange, Host as _, LeaseAttempt, LeaseCall, Reply};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::host::{GuardedStore, JavaScript};
use crate::packed::{Packed, parts};
use crate::trip::store_error;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// The leases of one limiter.
pub(crate) struct Leases {
    store: GuardedStore,
    contract: Contract,
    /// By which the bucket knows this limiter; drawn at the first use, as some hosts have no
    /// randomness before.
    id: Option<u64>,
    slices: HashMap<Box<[u8]>, Slice, foldhash::fast::RandomState>,
    /// What is to be done at once.
    urgent: Vec<Box<[u8]>>,
    last_round: u64,
}

impl Leases {
    pub(crate) fn new(store: GuardedStore, contract: Contract) -> Self {
        let (id, slices, urgent, last_round) = Default::default();
        Self { store, contract, id, slices, urgent, last_round }
    }

    /// The decision, if it is the slice's to take: without a slice, and for a cost that it
    /// never spends at once, the bucket must be asked.
    pub(crate) fn spend(&mut self, key: &[u8], cost: u64) -> Option<Decision> {
        if !self.contract.covers(cost) {
            return None;
        }
        let now = JavaScript::now();
        if !self.slices.contains_key(key) {
            if self.slices.len() >= Contract::MAX_KEYS {
                return None;
            }
            self.slices.insert(key.into(), Slice::new(*self.contract.terms(), now));
        }
        let slice = self.slices.get_mut(key)?;
        let spent = slice.spend(now, cost);
        if !matches!(spent, SpendResult::Allowed { .. })
            && slice.is_urgent(now)
            && self.urgent.len() < Contract::MAX_KEYS
        {
            self.urgent.push(key.into());
        }
        self.contract.decision(spent)
    }

    /// Notes what the bucket has answered to a check that was not the slice's.
    pub(crate) fn answered_directly(&mut self, key: &[u8], cost: u64, allowed: bool) {
        if let Some(slice) = self.slices.get_mut(key) {
            slice.answered_directly(JavaScript::now(), cost, allowed);
        }
    }

    pub(crate) fn renew_in(&self) -> Option<f64> {
        if self.slices.is_empty() {
            return None;
        }
        if !self.urgent.is_empty() {
            return Some(0.0);
        }
        let due = self.last_round.saturating_add(self.tick());
        Some(due.saturating_sub(JavaScript::now()).div_ceil(NANOS_PER_MILLI) as f64)
    }

    /// How often slices are looked at.
    const fn tick(&self) -> u64 {
        self.contract.terms().ttl() / 16
    }

    /// What is to be asked now: all that is due, together.
    fn due(&mut self) -> Vec<Asking> {
        let now = JavaScript::now();
        let mut keys = core::mem::take(&mut self.urgent);
        if now >= self.last_round.saturating_add(self.tick()) {
            self.last_round = now;
            keys = self.slices.keys().cloned().collect();
        }
        keys.into_iter().filter_map(|key| self.next(key, now)).collect()
    }

    fn next(&mut self, key: Box<[u8]>, now: u64) -> Option<Asking> {
        let slice = self.slices.get_mut(&key)?;
        let (ask, whose) = match slice.next(now) {
            Next::Nothing => return None,
            Next::Forget => {
                self.slices.remove(&key);
                return None;
            }
            Next::Ask => (slice.ask(now), true),
            Next::Leave => (leaving(slice, now), false),
        };
        self.asking(key, &ask, whose)
    }

    fn asking(&mut self, key: Box<[u8]>, ask: &LeaseAsk, is_awaited: bool) -> Option<Asking> {
        let id = *self.id.get_or_insert_with(JavaScript::random);
        let call = self.contract.call(id, &key, ask);
        Some((call, is_awaited.then_some(key)))
    }

    fn take(&mut self, key: &[u8], answer: &Result<Grant, Error>) {
        let Some(slice) = self.slices.get_mut(key) else { return };
        match answer {
            Ok(grant) => slice.granted(JavaScript::now(), grant),
            // A check that finds no slice asks the bucket, and is told.
            Err(_) => slice.failed(),
        }
    }

    fn give_back(&mut self) -> Vec<Asking> {
        let now = JavaScript::now();
        let slices = core::mem::take(&mut self.slices);
        let asked = slices.into_iter().filter(|(_, slice)| slice.has_asked());
        asked
            .filter_map(|(key, mut slice)| {
                let ask = leaving(&mut slice, now);
                self.asking(key, &ask, false)
            })
            .collect()
    }
}

fn leaving(slice: &mut Slice, now: u64) -> LeaseAsk {
    LeaseAsk { returned: slice.leave(now), ..LeaseAsk::default() }
}

/// A question, and whose answer it is; nobody's, if the slice was given up.
type Asking = (LeaseCall, Option<Box<[u8]>>);

/// What slices are asked for together. To be sent as a [`Trip`](crate::Trip).
#[wasm_bindgen]
pub struct LeaseTrip {
    leases: Arc<Mutex<Leases>>,
    attempt: Option<LeaseAttempt>,
    exchange: Exchange<LeaseCall>,
    /// By the place of the question.
    whose: Vec<Option<Box<[u8]>>>,
    answers: Vec<Result<Grant, Error>>,
    packed: Packed,
}

#[wasm_bindgen]
impl LeaseTrip {
    /// As [`Trip::commands`](crate::Trip::commands).
    pub fn commands(&mut self) -> usize {
        let count = self.packed.pack(self.exchange.commands());
        if count == 0 {
            self.conclude();
        }
        count
    }

    /// As [`Trip::words_pointer`](crate::Trip::words_pointer).
    pub fn words_pointer(&self) -> *const u8 {
        self.packed.words().as_ptr()
    }

    /// As [`Trip::words_length`](crate::Trip::words_length).
    pub fn words_length(&self) -> usize {
        self.packed.words().len()
    }

    /// As [`Trip::lengths_pointer`](crate::Trip::lengths_pointer).
    pub fn lengths_pointer(&self) -> *const u32 {
        self.packed.lengths().as_ptr()
    }

    /// As [`Trip::lengths_length`](crate::Trip::lengths_length).
    pub fn lengths_length(&self) -> usize {
        self.packed.lengths().len()
    }

    /// As [`Trip::take`](crate::Trip::take).
    pub fn take(&mut self, command: usize, bytes: &[u8], lengths: &[i32]) {
        self.receive(command, Reply::Parts(parts(bytes, lengths)));
    }

    /// As [`Trip::refuse`](crate::Trip::refuse).
    pub fn refuse(&mut self, command: usize, text: String) {
        self.receive(command, Reply::Refusal(text));
    }

    /// As [`Trip::fail`](crate::Trip::fail).
    pub fn fail(&mut self, command: usize, message: String, timed_out: bool) {
        self.receive(command, Reply::Failure(store_error(message, timed_out)));
    }

    /// Ends the trip: what has no answer gets none.
    pub fn end(&mut self, message: String) {
        let open: Vec<usize> = self.exchange.give_up().map(|(place, _)| place).collect();
        for place in open {
            self.answer(place, Err(Error::Store(message.clone())));
        }
        self.conclude();
    }
}

impl LeaseTrip {
    pub(crate) fn renewing(leases: &Arc<Mutex<Leases>>) -> Option<Self> {
        let askings = leases.lock().due();
        Self::new(leases, askings)
    }

    pub(crate) fn giving_back(leases: &Arc<Mutex<Leases>>) -> Option<Self> {
        let askings = leases.lock().give_back();
        Self::new(leases, askings)
    }

    fn new(leases: &Arc<Mutex<Leases>>, askings: Vec<Asking>) -> Option<Self> {
        let (bucket, _) = askings.first()?;
        let attempt = leases.lock().store.attempt_lease(&bucket.keys);
        let (calls, whose) = askings.into_iter().unzip();
        let mut this = Self {
            leases: Arc::clone(leases),
            attempt: None,
            exchange: Exchange::new(calls),
            whose,
            answers: Vec::new(),
            packed: Packed::default(),
        };
        match attempt {
            Ok(attempt) => this.attempt = Some(attempt),
            Err(error) => {
                this.end(error.to_string());
                return None;
            }
        }
        Some(this)
    }

    fn receive(&mut self, command: usize, reply: Reply) {
        if let Some((place, _, reply)) = self.exchange.take(command, reply) {
            self.answer(place, reply.grant());
        }
    }

    fn answer(&mut self, place: usize, answer: Result<Grant, Error>) {
        if let Some(key) = self.whose.get_mut(place).and_then(Option::take) {
            self.leases.lock().take(&key, &answer);
        }
        self.answers.push(answer);
    }

    /// Tells the breaker what came of it.
    fn conclude(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.leases.lock().store.leased(attempt, &self.answers);
        }
    }
}
