//! Slices of shared buckets, spent here at a pace. The host says when to look at them, and
//! sends what they ask for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::{Decision, Grant, LeaseAsk, Next, Slice, Spent};
use tidegate_protocol::{Contract, Error, Host as _, LeaseAttempt, LeaseCall, Part};
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
        if !matches!(spent, Spent::Allowed { .. })
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
        Some(Asking { call, key: is_awaited.then_some(key), by_text: false, answer: None })
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
struct Asking {
    call: LeaseCall,
    key: Option<Box<[u8]>>,
    by_text: bool,
    answer: Option<Result<Grant, Error>>,
}

/// What slices are asked for together. To be sent as a [`Trip`](crate::Trip).
#[wasm_bindgen]
pub struct LeaseTrip {
    leases: Arc<Mutex<Leases>>,
    attempt: Option<LeaseAttempt>,
    askings: Vec<Asking>,
    /// Those of the commands that were asked for last.
    sent: Vec<usize>,
    packed: Packed,
}

#[wasm_bindgen]
impl LeaseTrip {
    /// As [`Trip::commands`](crate::Trip::commands).
    pub fn commands(&mut self) -> usize {
        let is_open = |&at: &usize| self.askings[at].answer.is_none();
        self.sent = (0..self.askings.len()).filter(is_open).collect();
        let commands = self.sent.iter().map(|&at| self.askings[at].command());
        let count = self.packed.pack(commands);
        if count == 0 {
            self.conclude();
        }
        count
    }

    /// As [`Trip::words`](crate::Trip::words).
    pub fn words(&self) -> Vec<u8> {
        self.packed.words()
    }

    /// As [`Trip::word_lengths`](crate::Trip::word_lengths).
    pub fn word_lengths(&self) -> Vec<u32> {
        self.packed.lengths()
    }

    /// As [`Trip::take`](crate::Trip::take).
    pub fn take(&mut self, command: usize, bytes: &[u8], lengths: &[i32]) {
        let grant = match parts(bytes, lengths).pop() {
            Some(Part::Bytes(grant)) => LeaseCall::grant(&grant),
            _ => LeaseCall::grant(b""),
        };
        self.answer(command, grant);
    }

    /// As [`Trip::refuse`](crate::Trip::refuse).
    pub fn refuse(&mut self, command: usize, text: String) {
        let asking = self.sent.get(command).and_then(|&at| self.askings.get_mut(at));
        match asking {
            Some(asking) if text.starts_with("NOSCRIPT") && !asking.by_text => {
                asking.by_text = true;
            }
            _ => self.answer(command, Err(Error::Store(text))),
        }
    }

    /// As [`Trip::fail`](crate::Trip::fail).
    pub fn fail(&mut self, command: usize, message: String, timed_out: bool) {
        self.answer(command, Err(store_error(message, timed_out)));
    }

    /// Ends the trip: what has no answer gets none.
    pub fn end(&mut self, message: String) {
        let open = self.askings.iter_mut().filter(|asking| asking.answer.is_none());
        open.for_each(|asking| asking.answer = Some(Err(Error::Store(message.clone()))));
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
        if askings.is_empty() {
            return None;
        }
        let mut this = Self {
            leases: Arc::clone(leases),
            attempt: None,
            askings,
            sent: Vec::new(),
            packed: Packed::default(),
        };
        let keys = this.askings.first().map_or(&[][..], |asking| &asking.call.keys);
        let attempt = leases.lock().store.attempt_lease(keys);
        match attempt {
            Ok(attempt) => this.attempt = Some(attempt),
            Err(error) => {
                this.end(error.to_string());
                return None;
            }
        }
        Some(this)
    }

    fn answer(&mut self, command: usize, answer: Result<Grant, Error>) {
        let asking = self.sent.get(command).and_then(|&at| self.askings.get_mut(at));
        if let Some(asking) = asking.filter(|asking| asking.answer.is_none()) {
            asking.answer = Some(answer);
        }
    }

    /// Tells the slices, and the breaker what came of it.
    fn conclude(&mut self) {
        let mut leases = self.leases.lock();
        let mut answers = Vec::with_capacity(self.askings.len());
        for Asking { key, answer, .. } in self.askings.drain(..) {
            let Some(answer) = answer else { continue };
            if let Some(key) = key {
                leases.take(&key, &answer);
            }
            answers.push(answer);
        }
        if let Some(attempt) = self.attempt.take() {
            leases.store.leased(attempt, &answers);
        }
    }
}

impl Asking {
    fn command(&self) -> Vec<Cow<'_, [u8]>> {
        let script = LeaseCall::script();
        let head = match self.by_text {
            true => ["EVAL", script.text()],
            false => ["EVALSHA", script.hash()],
        };
        let texts = head.into_iter().map(|text| Cow::Borrowed(text.as_bytes()));
        let count = core::iter::once(Cow::Owned(self.call.keys.len().to_string().into_bytes()));
        let keys = self.call.keys.iter().map(|key| Cow::Borrowed(key.as_slice()));
        let arguments = self.call.arguments.iter().map(|text| Cow::Borrowed(text.as_bytes()));
        texts.chain(count).chain(keys).chain(arguments).collect()
    }
}
