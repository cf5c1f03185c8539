use std::borrow::Cow;
use std::sync::Arc;

use tidegate_core::{Cells, Limit, Operation, Outcome, Reserved, decide_tiers};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::{Answer, FAILED, Slot, in_nanos, parse_lines, status};
use crate::error::Error;
use crate::failure::Failure;
use crate::protocol::{Exchange, Part, Reply, Request, plan};
use crate::shared_keys::Keys;

/// What the buckets of one limiter in Redis have in common.
#[wasm_bindgen]
pub struct SharedLimits {
    limits: Arc<[Limit]>,
    prefix: String,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl SharedLimits {
    /// For limits in canonical text, one per line. Check for
    /// [`take_failure`](Self::take_failure) before use.
    #[wasm_bindgen(constructor)]
    pub fn new(limits: &str, prefix: String) -> Self {
        let (limits, failure) = match parse_lines(limits) {
            Ok(limits) => (limits, None),
            Err(failure) => (Box::default(), Some(failure)),
        };
        Self { limits: limits.into(), prefix, failure }
    }

    /// As [`Engine::check_cost`](crate::Engine::check_cost).
    pub fn check_cost(&mut self, cost: f64) -> u32 {
        match decide_tiers(&self.limits, &mut Cells::default(), 0, cost as u64) {
            Ok(_) => 0,
            Err(error) => {
                self.failure = Some(error.into());
                FAILED
            }
        }
    }

    /// What is wrong with the limits, or with a cost.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }
}

/// Requests that travel together over a client of the host's, and their answers.
///
/// The host adds requests, then sends [`commands`](Self::commands) in one go and hands over
/// each reply, until there are no more. Then each request's answer is at
/// [`outcome`](Self::outcome).
///
/// A request's keys come one after the other, with their lengths: one key for all limits or
/// one for each. Adding returns the request's place.
#[wasm_bindgen]
pub struct Trip {
    /// Those that have been added and not sent, with their places.
    requests: Vec<(usize, Request)>,
    exchange: Exchange,
    /// The places of the requests under way.
    places: Vec<usize>,
    outcomes: Vec<Result<Outcome, Error>>,
    words: Vec<u8>,
    lengths: Vec<u32>,
    answer: Box<Answer>,
    slot: Box<Slot>,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl Trip {
    /// Without requests.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript knows no defaults")]
    pub fn new() -> Self {
        Self {
            requests: Vec::new(),
            exchange: Exchange::new(Vec::new()),
            places: Vec::new(),
            outcomes: Vec::new(),
            words: Vec::new(),
            lengths: Vec::new(),
            answer: Box::default(),
            slot: Box::default(),
            failure: None,
        }
    }

    /// Adds a check.
    pub fn check(&mut self, of: &SharedLimits, keys: &[u8], lengths: &[u32], cost: f64) -> u32 {
        self.add(of, keys, lengths, Operation::Check { cost: cost as u64 })
    }

    /// Adds a reserve.
    pub fn reserve(
        &mut self,
        of: &SharedLimits,
        keys: &[u8],
        lengths: &[u32],
        cost: f64,
        max_wait_millis: f64,
        max_wait_nanos: u32,
    ) -> u32 {
        let max_wait = in_nanos(max_wait_millis, max_wait_nanos);
        self.add(of, keys, lengths, Operation::Reserve { cost: cost as u64, max_wait })
    }

    /// Adds the cancelling of a reservation, whose words were at
    /// [`slot_pointer`](Self::slot_pointer).
    pub fn cancel(
        &mut self,
        of: &SharedLimits,
        keys: &[u8],
        lengths: &[u32],
        words: &[u64],
    ) -> u32 {
        let slot = Slot::read(words).unwrap_or_default();
        self.add(of, keys, lengths, Operation::Cancel(slot.reservation()))
    }

    /// Adds the correction of a charge.
    pub fn settle(
        &mut self,
        of: &SharedLimits,
        keys: &[u8],
        lengths: &[u32],
        charged: f64,
        actual: f64,
    ) -> u32 {
        let operation = Operation::Settle { charged: charged as u64, actual: actual as u64 };
        self.add(of, keys, lengths, operation)
    }

    /// Adds a credit.
    pub fn credit(&mut self, of: &SharedLimits, keys: &[u8], lengths: &[u32], tokens: f64) -> u32 {
        self.add(of, keys, lengths, Operation::Credit { tokens: tokens as u64 })
    }

    /// Adds a pause.
    pub fn hold(
        &mut self,
        of: &SharedLimits,
        keys: &[u8],
        lengths: &[u32],
        wait_millis: f64,
        wait_nanos: u32,
    ) -> u32 {
        let wait = in_nanos(wait_millis, wait_nanos);
        self.add(of, keys, lengths, Operation::Hold { wait })
    }

    /// Adds a reset.
    pub fn reset(&mut self, of: &SharedLimits, keys: &[u8], lengths: &[u32]) -> u32 {
        self.add(of, keys, lengths, Operation::Reset)
    }

    /// How many commands are to be sent now; 0 when every request has its answer. Their words
    /// are at [`words`](Self::words).
    pub fn commands(&mut self) -> usize {
        if !self.requests.is_empty() {
            self.depart();
        }
        self.words.clear();
        self.lengths.clear();
        let commands = self.exchange.commands();
        for command in &commands {
            self.lengths.push(command.len() as u32);
            self.lengths.extend(command.iter().map(|word| word.len() as u32));
            command.iter().for_each(|word: &Cow<'_, [u8]>| self.words.extend_from_slice(word));
        }
        commands.len()
    }

    /// The words of all commands, one after the other.
    pub fn words(&self) -> Vec<u8> {
        self.words.clone()
    }

    /// For each command the number of its words, then the length of each.
    pub fn word_lengths(&self) -> Vec<u32> {
        self.lengths.clone()
    }

    /// Takes a script's answer: its parts, one after the other, and the length of each; -1
    /// where there is no value.
    pub fn take(&mut self, command: usize, bytes: &[u8], lengths: &[i32]) {
        let mut rest = bytes;
        let mut part = |&length: &i32| {
            let Ok(length) = usize::try_from(length) else { return Part::Nil };
            let (bytes, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = others;
            Part::Bytes(bytes.to_vec())
        };
        let parts = lengths.iter().map(&mut part).collect();
        self.reply(command, Reply::Parts(parts));
    }

    /// Takes the server's error, its code first.
    pub fn refuse(&mut self, command: usize, text: String) {
        self.reply(command, Reply::Refusal(text));
    }

    /// Takes what went wrong on the way.
    pub fn fail(&mut self, command: usize, message: String) {
        self.reply(command, Reply::Failure(Error::Store(message)));
    }

    /// The answer to the request of that place. A status as that of [`Engine`](crate::Engine);
    /// of a cancel 1 if all came back, 0 if not.
    pub fn outcome(&mut self, place: usize) -> u32 {
        let missing = || Err(Error::Store("the answer was lost".into()));
        let outcome = match self.outcomes.get_mut(place) {
            Some(outcome) => core::mem::replace(outcome, missing()),
            None => missing(),
        };
        let decision = match outcome {
            Ok(Outcome::Decision(decision) | Outcome::Reserved(Reserved::TooFar(decision))) => {
                decision
            }
            Ok(Outcome::Reserved(Reserved::Slot(slot))) => {
                *self.slot = Slot::of(&slot);
                slot.decision
            }
            Ok(Outcome::Cancelled(all)) => return all.into(),
            Ok(_) => return self.failed(Failure::unexpected()),
            Err(error) => return self.failed(error.into()),
        };
        *self.answer = Answer::of(&decision);
        status(&decision)
    }

    /// As [`Engine::answer_pointer`](crate::Engine::answer_pointer).
    pub fn answer_pointer(&self) -> *const f64 {
        (&raw const *self.answer).cast()
    }

    /// As [`Engine::slot_pointer`](crate::Engine::slot_pointer).
    pub fn slot_pointer(&self) -> *const u64 {
        (&raw const *self.slot).cast()
    }

    /// Why the last outcome was none.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }
}

impl Trip {
    fn add(
        &mut self,
        of: &SharedLimits,
        keys: &[u8],
        lengths: &[u32],
        operation: Operation,
    ) -> u32 {
        let place = self.outcomes.len();
        let lost = Error::Store("the answer was lost".into());
        let keys = in_redis(keys, lengths, of);
        let request = keys.and_then(|keys| Request::new(keys, Arc::clone(&of.limits), operation));
        self.outcomes.push(Err(match request {
            Ok(request) => {
                self.requests.push((place, request));
                lost
            }
            Err(error) => error,
        }));
        place as u32
    }

    fn depart(&mut self) {
        let (places, requests): (Vec<_>, Vec<_>) = self.requests.drain(..).unzip();
        let outcomes = &mut self.outcomes;
        let calls = plan(requests, |request, refusal| outcomes[places[request]] = refusal);
        self.exchange = Exchange::new(calls);
        self.places = places;
    }

    fn reply(&mut self, command: usize, reply: Reply) {
        let Self { exchange, places, outcomes, .. } = self;
        exchange.take(
            command,
            reply,
            |request, outcome| outcomes[places[request]] = outcome,
            |_| {},
        );
    }

    fn failed(&mut self, failure: Failure) -> u32 {
        self.failure = Some(failure);
        FAILED
    }
}

fn in_redis(bytes: &[u8], lengths: &[u32], of: &SharedLimits) -> Result<Vec<Vec<u8>>, Error> {
    let mut rest = bytes;
    let mut keys = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (key, others) = rest.split_at_checked(length as usize).unwrap_or((rest, &[]));
        keys.push(key);
        rest = others;
    }
    let keys = match keys[..] {
        [key] => Keys::One(key),
        _ => Keys::Each(&keys),
    };
    Ok(keys.checked(of.limits.len())?.in_redis(&of.prefix))
}
