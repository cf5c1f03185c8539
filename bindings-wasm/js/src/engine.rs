//! A limiter with buckets in memory, whose arguments and answers are numbers.

use tidegate_core::{
    Cells, Charge, Decision, Error, Limit, MAX_TIERS, Operation, Outcome, Reservation, Reserved,
    Source, admit, apply, decide_tiers,
};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buckets::{Buckets, Seed};
use crate::failure::Failure;
use crate::key_room::KeyRoom;

const NANOS_PER_MILLI: u64 = 1_000_000;
/// The status of a call that has a failure instead of an answer.
pub(crate) const FAILED: u32 = u32::MAX;

/// The limits and buckets of one limiter.
///
/// JavaScript writes a key to [`key_pointer`](Self::key_pointer), calls an operation and reads the
/// decision at [`answer_pointer`](Self::answer_pointer). Only numbers cross the border, which costs
/// a few nanoseconds; a string or an object would cost a hundred. The addresses stay the same for as
/// long as the engine lives.
///
/// In every operation `key_length` is the length of the key in bytes, or 0 if one key per limit has
/// been written. `millis` and `nanos` are a time: milliseconds, and the nanoseconds beyond them.
/// Doubles are whole numbers, exact up to 2^53; above the range of 64 bits they stand for its end.
/// An operation returns a status: twice the binding tier, plus one if allowed; or `u32::MAX` if
/// there is no decision, and then [`take_failure`](Self::take_failure) has the reason.
#[wasm_bindgen]
pub struct Engine {
    limits: Box<[Limit]>,
    buckets: Buckets,
    keys: KeyRoom,
    answer: Box<Answer>,
    slot: Box<Slot>,
    failure: Option<Failure>,
}

/// The numbers of a decision on buckets in memory, as JavaScript reads them.
///
/// They leave out the limit and the source, which are known for buckets in memory.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Answer {
    remaining: f64,
    /// Whole milliseconds, rounded up, so that waiting for as long is always enough.
    retry_after_ms: f64,
    reset_after_ms: f64,
    /// The exact values, in nanoseconds.
    retry_after: u64,
    reset_after: u64,
}

/// A reservation, in the form in which JavaScript keeps it and hands it back to cancel or settle it.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Slot {
    /// The delay in nanoseconds.
    delay: u64,
    cost: u64,
    /// The index of the charge's source in [`Source::ALL`].
    source: u64,
    before: Cells,
    after: Cells,
}

impl Answer {
    /// The numbers of the decision.
    pub(crate) fn of(decision: &Decision) -> Self {
        Self {
            remaining: decision.remaining as f64,
            retry_after_ms: decision.retry_after.div_ceil(NANOS_PER_MILLI) as f64,
            reset_after_ms: decision.reset_after.div_ceil(NANOS_PER_MILLI) as f64,
            retry_after: decision.retry_after,
            reset_after: decision.reset_after,
        }
    }
}

impl From<Reservation> for Slot {
    fn from(Reservation { delay, charge, .. }: Reservation) -> Self {
        let Charge { cost, before, after, source } = charge;
        Self { delay, cost, source: source_index(source).into(), before, after }
    }
}

impl Slot {
    /// The charge of the reservation.
    pub(crate) fn charge(&self) -> Charge {
        let Self { cost, source, before, after, .. } = *self;
        let source = usize::try_from(source).ok().and_then(|place| Source::ALL.get(place));
        Charge { cost, before, after, source: source.copied().unwrap_or_default() }
    }

    /// Reads a reservation from the words that JavaScript has kept; `None` for words of another
    /// form.
    pub(crate) fn read(words: &[u64]) -> Option<Self> {
        let (&[delay, cost, source], cells) = words.split_first_chunk()?;
        let (before, after) = cells.split_at_checked(MAX_TIERS)?;
        let (before, after) = (before.try_into().ok()?, after.try_into().ok()?);
        Some(Self { delay, cost, source, before, after })
    }
}

#[wasm_bindgen]
impl Engine {
    /// An engine for these limits, given as canonical texts, one per line. Check for
    /// [`take_failure`](Self::take_failure), then [`seed`](Self::seed) it before use.
    ///
    /// Failures are kept, not thrown, here and in all operations: a module that never handles
    /// JavaScript objects needs no table of references to them.
    #[wasm_bindgen(constructor)]
    pub fn new(limits: &str) -> Self {
        let (limits, failure) = match parse_lines(limits) {
            Ok(limits) => (limits, None),
            Err(failure) => (Box::default(), Some(failure)),
        };
        Self {
            buckets: Buckets::new(&limits, Seed(0, 0)),
            keys: KeyRoom::new(limits.len()),
            limits,
            answer: Box::default(),
            slot: Box::default(),
            failure,
        }
    }

    /// Sets the random key of the hash of bucket keys, and forgets all buckets. This is not part of
    /// the constructor, because some hosts have neither randomness nor a clock before the first
    /// request.
    pub fn seed(&mut self, seed0: u64, seed1: u64) {
        self.buckets = Buckets::new(&self.limits, Seed(seed0, seed1));
    }

    /// The address at which keys are to be written: 1024 bytes for each limit.
    pub fn key_pointer(&self) -> *const u8 {
        self.keys.bytes_pointer()
    }

    /// The address at which the lengths of the keys are to be written, as 32-bit integers, if there
    /// is one key per limit.
    pub fn key_lengths_pointer(&self) -> *const u32 {
        self.keys.lengths_pointer()
    }

    /// The address of the last decision: `remaining`, `retry_after_ms` and `reset_after_ms` as
    /// doubles, then `retry_after` and `reset_after` as 64-bit integers of nanoseconds.
    pub fn answer_pointer(&self) -> *const f64 {
        (&raw const *self.answer).cast()
    }

    /// The address of the last reservation: eleven 64-bit integers, of which the first is its delay
    /// in nanoseconds and the second its cost.
    pub fn slot_pointer(&self) -> *const u64 {
        (&raw const *self.slot).cast()
    }

    /// Spends `cost` tokens if every limit allows.
    pub fn check(&mut self, key_length: usize, millis: f64, nanos: u32, cost: f64) -> u32 {
        let (now, cost) = (in_nanos(millis, nanos), cost as u64);
        if key_length == 0 {
            return self.run(key_length, now, Operation::Check { cost });
        }
        let limits = &self.limits;
        let key = self.keys.one(key_length);
        match self.buckets.update(key, now, |cells| decide_tiers(limits, cells, now, cost)) {
            Ok(decision) => self.say(&decision),
            Err(error) => self.fail(error.into()),
        }
    }

    /// The decision that [`check`](Self::check) would take; nothing is spent.
    pub fn peek(&mut self, key_length: usize, millis: f64, nanos: u32, cost: f64) -> u32 {
        let operation = Operation::Peek { cost: cost as u64 };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Checks that `cost` is within every burst, and spends nothing. Returns 0, or `u32::MAX` if it
    /// is not; then [`take_failure`](Self::take_failure) has the reason.
    pub fn check_cost(&mut self, cost: f64) -> u32 {
        match admit(&self.limits, &Operation::Check { cost: cost as u64 }) {
            Ok(()) => 0,
            Err(error) => self.fail(error.into()),
        }
    }

    /// Takes the next slot for `cost` tokens if it is at most the given wait away. If allowed, the
    /// reservation is at [`slot_pointer`](Self::slot_pointer).
    pub fn reserve(
        &mut self,
        key_length: usize,
        millis: f64,
        nanos: u32,
        cost: f64,
        max_wait_millis: f64,
        max_wait_nanos: u32,
    ) -> u32 {
        let max_wait = in_nanos(max_wait_millis, max_wait_nanos);
        let operation = Operation::Reserve { cost: cost as u64, max_wait };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Gives back the reservation that JavaScript has written to
    /// [`slot_pointer`](Self::slot_pointer). Returns 1 if all of it came back, 0 if not.
    pub fn cancel(&mut self, key_length: usize, millis: f64, nanos: u32) -> u32 {
        let charge = self.slot.charge();
        self.run(key_length, in_nanos(millis, nanos), Operation::Cancel(charge))
    }

    /// Corrects a charge of `charged` tokens to `actual` tokens.
    pub fn settle(
        &mut self,
        key_length: usize,
        millis: f64,
        nanos: u32,
        charged: f64,
        actual: f64,
    ) -> u32 {
        let operation = Operation::Settle { charged: charged as u64, actual: actual as u64 };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Gives `tokens` back.
    pub fn credit(&mut self, key_length: usize, millis: f64, nanos: u32, tokens: f64) -> u32 {
        let operation = Operation::Credit { tokens: tokens as u64 };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Pauses the key for the given wait.
    pub fn hold(
        &mut self,
        key_length: usize,
        millis: f64,
        nanos: u32,
        wait_millis: f64,
        wait_nanos: u32,
    ) -> u32 {
        let operation = Operation::Hold { wait: in_nanos(wait_millis, wait_nanos) };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Fills the buckets: their debts and holds are forgotten.
    pub fn reset(&mut self, key_length: usize, millis: f64, nanos: u32) -> u32 {
        self.run(key_length, in_nanos(millis, nanos), Operation::Reset)
    }

    /// The failure of the constructor, or of the last operation.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// The number of keys that have buckets.
    #[wasm_bindgen(getter)]
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }
}

impl Engine {
    // Not inlined and not used by `check` with one key, to keep that hot path small.
    #[inline(never)]
    fn run(&mut self, key_length: usize, now: u64, operation: Operation) -> u32 {
        let keys = self.keys.keys(key_length);
        let before = self.buckets.load(&keys);
        let mut after = before;
        let outcome = apply(&self.limits, &mut after, now, operation);
        self.buckets.store(&keys, now, &before, &after);
        match outcome {
            Ok(Outcome::Decision(decision) | Outcome::Reserved(Reserved::TooFar(decision))) => {
                self.say(&decision)
            }
            Ok(Outcome::Reserved(Reserved::Slot(slot))) => {
                *self.slot = Slot::from(slot);
                self.say(&slot.decision)
            }
            Ok(Outcome::Cancelled(all)) => all.into(),
            Err(error) => self.fail(error.into()),
        }
    }

    fn say(&mut self, decision: &Decision) -> u32 {
        *self.answer = Answer::of(decision);
        status(decision)
    }

    fn fail(&mut self, failure: Failure) -> u32 {
        self.failure = Some(failure);
        FAILED
    }
}

/// Twice the binding tier, plus one if allowed.
pub(crate) fn status(decision: &Decision) -> u32 {
    u32::from(decision.tier) * 2 + u32::from(decision.allowed)
}

/// The index of the source in [`Source::ALL`].
pub(crate) const fn source_index(source: Source) -> u32 {
    source as u32
}

// The discriminants are the indices, which this proves at compile time.
const _: () = {
    let mut index = 0;
    while index < Source::ALL.len() {
        assert!(source_index(Source::ALL[index]) as usize == index);
        index += 1;
    }
};

/// The nanoseconds in whole milliseconds and the nanoseconds beyond them; `u64::MAX` if they are more.
pub(crate) fn in_nanos(millis: f64, nanos: u32) -> u64 {
    (millis as u64).saturating_mul(NANOS_PER_MILLI).saturating_add(nanos.into())
}

/// Parses one to four limits, one per line.
pub(crate) fn parse_lines(texts: &str) -> Result<Box<[Limit]>, Failure> {
    let count = texts.lines().count();
    if !(1..=MAX_TIERS).contains(&count) {
        return Err(Error::TierCount { count }.into());
    }
    let parse = |text| Limit::parse(text).map_err(|error| Failure::of_limit(text, error));
    texts.lines().map(parse).collect()
}
