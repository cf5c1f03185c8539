//! A limiter with buckets in memory, whose arguments and answers are numbers.

use std::collections::VecDeque;

use tidegate_core::{
    AnyLimit, BucketTiers, Cells, Charge, Cost, Decision, Error, Fixed, Limit, MAX_TIERS, OnFull,
    Operation, Outcome, Reservation, Reserved, Source, TieredDecision, admit,
};
use tidegate_protocol::{Host as _, Line, LineOptions, Waiting};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::Border;
use crate::buckets::Buckets;
use crate::cost_room::CostRoom;
use crate::failure::Failure;
use crate::host::JavaScript;
use crate::key_room::{KeyRoom, Keys, ONE_FOR_EACH};
use crate::line::{LineNumber, Lines, Step};
use crate::seed::Seed;
use crate::spare_memory;

const NANOS_PER_MILLI: u64 = 1_000_000;
/// The status of a call that has a failure instead of an answer.
pub(crate) const FAILED: u32 = u32::MAX;

/// The limits and buckets of one limiter.
///
/// JavaScript writes a key to [`key_pointer`](Self::key_pointer), calls an operation and reads the
/// decision at [`answer_pointer`](Self::answer_pointer). Only numbers cross the border, which costs
/// a few nanoseconds; a string or an object would cost a hundred. The addresses are the same for all
/// engines, and never change.
///
/// In every operation `key_length` is the length of the key in bytes, or `0xffff_ffff` if one key
/// per limit has been written. `millis` and `nanos` are a time: milliseconds, and the nanoseconds beyond them.
/// Doubles are whole numbers, exact up to 2^53; above the range of 64 bits they stand for its end.
/// An operation returns a status: twice the binding tier, plus one if allowed; or `u32::MAX` if
/// there is no decision, and then [`take_failure`](Self::take_failure) has the reason.
#[wasm_bindgen]
pub struct Engine {
    /// The limits of the buckets: all but `unlimited` and `none`.
    limits: Box<[Limit]>,
    tiers: BucketTiers,
    /// The number of limits with those that have no bucket.
    count: usize,
    /// The answers if no bucket could change them.
    fixed: Option<Fixed>,
    buckets: Buckets,
    keys: KeyRoom,
    costs: CostRoom,
    border: &'static Border,
    failure: Option<Failure>,
    lines: Lines,
    /// The answers to callers that wait, each with the number of its call.
    answers: VecDeque<(u32, Result<TieredDecision, tidegate_protocol::Error>)>,
    answer_status: u32,
    /// Whether lines wait in real time, because the time of the operations is that of another clock.
    waits_in_real_time: bool,
}

/// The numbers of a decision on buckets in memory, as JavaScript reads them.
///
/// The limit and the source are left out, because they are known for buckets in memory.
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
    /// The index of the charge's source in [`Source::ALL`].
    source: u64,
    /// How many numbers the cost has; 0 if it is one for all limits.
    costs: u64,
    cost: [u64; MAX_TIERS],
    before: Cells,
    after: Cells,
}

impl Answer {
    /// The numbers of the decision.
    pub(crate) fn of(decision: &Decision) -> Self {
        Self {
            remaining: in_count(decision.remaining),
            retry_after_ms: in_whole_millis(decision.retry_after),
            reset_after_ms: in_whole_millis(decision.reset_after),
            retry_after: decision.retry_after,
            reset_after: decision.reset_after,
        }
    }
}

/// What each limit says, in the form in which JavaScript reads it. If only the binding limit is known,
/// the first number is no number.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Tiers([TierNumbers; MAX_TIERS]);

/// What one limit says.
#[repr(C)]
#[derive(Default)]
struct TierNumbers {
    limit: f64,
    remaining: f64,
    retry_after_ms: f64,
    reset_after_ms: f64,
}

impl Tiers {
    /// The numbers of an answer of several limits.
    pub(crate) fn of(tiered: &TieredDecision) -> Self {
        let mut numbers = Self::default();
        let said = tiered.tiers();
        if said.len() == 1 {
            numbers.0[0].limit = f64::NAN;
            return numbers;
        }
        for (numbers, said) in numbers.0.iter_mut().zip(said) {
            *numbers = TierNumbers {
                limit: in_count(said.limit),
                remaining: in_count(said.remaining),
                retry_after_ms: in_whole_millis(said.retry_after),
                reset_after_ms: in_whole_millis(said.reset_after),
            };
        }
        numbers
    }
}

impl From<Reservation> for Slot {
    fn from(Reservation { delay, charge, .. }: Reservation) -> Self {
        let Charge { cost, before, after, source } = charge;
        let costs = if cost.uniform().is_some() { 0 } else { cost.numbers().len() as u64 };
        let cost = core::array::from_fn(|tier| cost.of_tier(tier));
        Self { delay, source: source_index(source).into(), costs, cost, before, after }
    }
}

impl Slot {
    /// The delay in nanoseconds.
    #[cfg(feature = "shared")]
    pub(crate) fn delay(&self) -> u64 {
        self.delay
    }

    /// The charge of the reservation.
    pub(crate) fn charge(&self) -> Charge {
        let Self { source, costs, cost, before, after, .. } = *self;
        let count = usize::try_from(costs).unwrap_or(MAX_TIERS).min(MAX_TIERS);
        let cost = match count {
            0 => Cost::same(cost[0]),
            _ => Cost::each(&cost[..count]).unwrap_or_default(),
        };
        let source = usize::try_from(source).ok().and_then(|place| Source::ALL.get(place));
        Charge { cost, before, after, source: source.copied().unwrap_or_default() }
    }

    /// Reads a reservation from the words that JavaScript has kept; `None` for words of another
    /// form.
    #[cfg(feature = "shared")]
    pub(crate) fn read(words: &[u64]) -> Option<Self> {
        let (&[delay, source, costs], rest) = words.split_first_chunk()?;
        let (&cost, cells) = rest.split_first_chunk()?;
        let (before, after) = cells.split_at_checked(MAX_TIERS)?;
        let (before, after) = (before.try_into().ok()?, after.try_into().ok()?);
        Some(Self { delay, source, costs, cost, before, after })
    }
}

#[wasm_bindgen]
impl Engine {
    /// An engine for these limits, given as canonical texts, one per line. Check for
    /// [`take_failure`](Self::take_failure) before use.
    ///
    /// Failures are kept, not thrown, here and in all operations: a module that never handles
    /// JavaScript objects needs no table of references to them.
    ///
    /// At most `max_waiting` callers of a key wait at a time. They wait in real time if the times of
    /// the operations are those of another clock. Each limit has room for `max_keys` keys that owe
    /// something; a new key that finds none is refused if `denies_when_full`, and otherwise takes
    /// the slot of the bucket that would be full soonest.
    #[wasm_bindgen(constructor)]
    pub fn new(
        limits: &str,
        max_waiting: u32,
        waits_in_real_time: bool,
        max_keys: u32,
        denies_when_full: bool,
    ) -> Self {
        let (all, failure) = match parse_lines(limits) {
            Ok(limits) => (limits, None),
            Err(failure) => (Box::default(), Some(failure)),
        };
        let tiers = BucketTiers::new(&all).unwrap_or_default();
        let limits: Box<[Limit]> = tiers.rates(&all).collect();
        let on_full = if denies_when_full { OnFull::Deny } else { OnFull::EvictIdlest };
        let buckets = Buckets::new(&limits, max_keys as usize, on_full);
        Self::with_buckets(&all, buckets, max_waiting, waits_in_real_time, failure)
    }

    /// An engine for the same buckets under other limits, those of a call.
    pub fn under(&self, limits: &str, max_waiting: u32) -> Self {
        let (all, failure) = match parse_lines(limits) {
            Ok(limits) => (limits, None),
            Err(failure) => (Box::default(), Some(failure)),
        };
        let tiers = BucketTiers::new(&all).unwrap_or_default();
        let limits: Box<[Limit]> = tiers.rates(&all).collect();
        let buckets = self.buckets.under(&limits);
        Self::with_buckets(&all, buckets, max_waiting, self.waits_in_real_time, failure)
    }

    /// Tells those who wait that a call under other limits has made this correction of the key.
    pub fn tell(
        &mut self,
        key_length: usize,
        millis: f64,
        nanos: u32,
        correction: u32,
        wait_millis: f64,
        wait_nanos: u32,
    ) {
        let (none, wait) = (Cost::default(), in_nanos(wait_millis, wait_nanos));
        if let Some(operation) = Operation::correction(correction, none, none, wait)
            && let Some(number) = self.line_of(key_length)
        {
            self.tell_line(number, in_nanos(millis, nanos), operation);
        }
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

    /// The address at which the costs of a call are to be written that has one for each limit: four
    /// doubles, and four for the tokens that were used beside those that were charged. The cost that
    /// is passed is then their count, negated.
    pub fn costs_pointer(&self) -> *const f64 {
        self.costs.pointer()
    }

    /// The address of the last decision: `remaining`, `retry_after_ms` and `reset_after_ms` as
    /// doubles, then `retry_after` and `reset_after` as 64-bit integers of nanoseconds.
    pub fn answer_pointer(&self) -> *const f64 {
        (&raw const *self.border.answer.borrow()).cast()
    }

    /// The address of what each limit said in the last answer, if there are several limits: `limit`,
    /// `remaining`, `retry_after_ms` and `reset_after_ms` of each as doubles. The first is no number
    /// if only the binding limit is known.
    pub fn tiers_pointer(&self) -> *const f64 {
        (&raw const *self.border.tiers.borrow()).cast()
    }

    /// The address of the last reservation: fifteen 64-bit integers, of which the first is its delay
    /// in nanoseconds.
    pub fn slot_pointer(&self) -> *const u64 {
        (&raw const *self.border.slot.borrow()).cast()
    }

    /// Spends `cost` tokens if every limit allows.
    pub fn check(&mut self, key_length: usize, millis: f64, nanos: u32, cost: f64) -> u32 {
        let (now, cost) = (in_nanos(millis, nanos), self.costs.cost(cost));
        if key_length == ONE_FOR_EACH || self.fixed.is_some() {
            return self.run(key_length, now, Operation::Check { cost });
        }
        let decision = self.keys.with_one(key_length, |key| self.buckets.check(key, now, cost));
        match decision {
            Some(Ok(decision)) => self.say_alone(&decision),
            Some(Err(error)) => self.fail(error.into()),
            None => self.run(key_length, now, Operation::Check { cost }),
        }
    }

    /// The decision that [`check`](Self::check) would take; nothing is spent.
    pub fn peek(&mut self, key_length: usize, millis: f64, nanos: u32, cost: f64) -> u32 {
        let operation = Operation::Peek { cost: self.costs.cost(cost) };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Checks that `cost` is within every burst, and spends nothing. Returns 0, or `u32::MAX` if it
    /// is not; then [`take_failure`](Self::take_failure) has the reason.
    pub fn check_cost(&mut self, cost: f64) -> u32 {
        if self.fixed.is_some() {
            return 0;
        }
        match admit(&self.limits, &Operation::Check { cost: self.costs.cost(cost) }) {
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
        let operation = Operation::Reserve { cost: self.costs.cost(cost), max_wait, min_wait: 0 };
        self.run(key_length, in_nanos(millis, nanos), operation)
    }

    /// Gives back the reservation that JavaScript has written to
    /// [`slot_pointer`](Self::slot_pointer), with the delay that is left, to those who wait or to
    /// the bucket. Returns 1 if all of it came back, 0 if not.
    pub fn cancel(&mut self, key_length: usize, millis: f64, nanos: u32) -> u32 {
        let now = in_nanos(millis, nanos);
        let (delay, charge) = {
            let slot = self.border.slot.borrow();
            (slot.delay, slot.charge())
        };
        if let Some(number) = self.line_of(key_length)
            && self.feed(number, now, |line, at| line.adopt(at, delay, charge.cost, charge))
        {
            return 1;
        }
        self.run(key_length, now, Operation::Cancel(charge))
    }

    /// Makes a correction: its number, and what it is given, as [`Operation::correction`] has them.
    #[allow(clippy::too_many_arguments, reason = "numbers only cross the border")]
    pub fn correct(
        &mut self,
        key_length: usize,
        millis: f64,
        nanos: u32,
        correction: u32,
        first: f64,
        second: f64,
        wait_millis: f64,
        wait_nanos: u32,
    ) -> u32 {
        let (first, second) = (self.costs.cost(first), self.costs.actual(second));
        let wait = in_nanos(wait_millis, wait_nanos);
        match Operation::correction(correction, first, second, wait) {
            Some(operation) => self.run(key_length, in_nanos(millis, nanos), operation),
            None => self.fail(no_such_correction().into()),
        }
    }

    /// A caller wants `cost` tokens, at least 1, within the given wait. Returns the number of its
    /// line, or `u32::MAX` if its cost is too large. Its answer will be among those that
    /// [`take_answer`](Self::take_answer) takes, under the number `call`.
    ///
    /// After this and every other operation the answers are to be taken, and [`tick`](Self::tick) is
    /// to be called when [`due_in`](Self::due_in) says so.
    #[allow(clippy::too_many_arguments, reason = "numbers only cross the border")]
    pub fn arrive(
        &mut self,
        key_length: usize,
        millis: f64,
        nanos: u32,
        cost: f64,
        max_wait_millis: f64,
        max_wait_nanos: u32,
        call: u32,
    ) -> u32 {
        let (now, cost) = (in_nanos(millis, nanos), self.costs.cost(cost));
        if let Some(fixed) = self.fixed {
            // No line is needed: there is nothing that could come.
            self.answers.push_back((call, Ok(fixed.check_tiers(&cost))));
            return 0;
        }
        if let Err(error) = admit(&self.limits, &Operation::Check { cost }) {
            return self.fail(error.into());
        }
        let max_wait = in_nanos(max_wait_millis, max_wait_nanos);
        let (keys, at) = (self.keys.owned(key_length), self.line_time(now));
        let number = self.lines.arrive(keys, at, cost, max_wait, call);
        self.take_steps(number, now);
        number
    }

    /// The caller of this call, in this line, does not wait any more.
    pub fn leave(&mut self, number: u32, millis: f64, nanos: u32, call: u32) {
        let now = in_nanos(millis, nanos);
        self.lines.leave(number, self.line_time(now), call);
        self.take_steps(number, now);
    }

    /// Hands out all tokens whose time has come.
    pub fn tick(&mut self, millis: f64, nanos: u32) {
        let now = in_nanos(millis, nanos);
        while let Some(number) = self.lines.take_due(self.line_time(now)) {
            self.feed(number, now, |line, at| line.tick(at));
        }
    }

    /// The milliseconds until [`tick`](Self::tick) is to be called; nothing while there is nothing
    /// to wait for.
    pub fn due_in(&mut self, millis: f64, nanos: u32) -> Option<f64> {
        let due = self.lines.due()?;
        let now = self.line_time(in_nanos(millis, nanos));
        Some(due.saturating_sub(now) as f64 / NANOS_PER_MILLI as f64)
    }

    /// Takes the next answer to a caller that waited, and returns the number of its call; nothing
    /// when there is none. The answer is then like that of an operation with the status
    /// [`answer_status`](Self::answer_status).
    pub fn take_answer(&mut self) -> Option<u32> {
        let (call, answer) = self.answers.pop_front()?;
        self.answer_status = match answer {
            Ok(decision) => self.say(&decision),
            Err(error) => self.fail(error.into()),
        };
        Some(call)
    }

    /// The status of the answer that was taken last.
    pub fn answer_status(&self) -> u32 {
        self.answer_status
    }

    /// The callers that wait for the key: their number, the tokens that they wait for, and the
    /// milliseconds until the last of them is served.
    pub fn waiting(&self, key_length: usize, millis: f64, nanos: u32) -> Vec<f64> {
        let keys = self.keys.owned(key_length);
        numbers_of(self.lines.waiting(&keys, self.line_time(in_nanos(millis, nanos))))
    }

    /// The failure of the constructor, or of the last operation.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// The number of buckets that were dropped for new keys although they owed something.
    pub fn evicted(&self) -> f64 {
        self.buckets.evicted() as f64
    }

    /// The number of calls that were refused because there was no room for their new key.
    pub fn denied(&self) -> f64 {
        self.buckets.denied() as f64
    }
}

/// Sets the random key of the hash of bucket keys, before the first of them. The module does not do it
/// when it starts, because some hosts have neither randomness nor a clock before the first request.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "an export of the module")]
pub fn seed(shared: u64, own: u64) {
    Border::of_the_module().seed.replace(Seed::new(shared, own));
}

/// Whether there is memory for another limiter, or another call that waits. JavaScript asks before it
/// makes one, because a module that runs out of memory there would trap.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "an export of the module")]
pub fn has_memory() -> bool {
    spare_memory::has_memory()
}

impl Engine {
    fn with_buckets(
        all: &[AnyLimit],
        buckets: Buckets,
        max_waiting: u32,
        waits_in_real_time: bool,
        failure: Option<Failure>,
    ) -> Self {
        let tiers = BucketTiers::new(all).unwrap_or_default();
        let limits: Box<[Limit]> = tiers.rates(all).collect();
        Self {
            buckets,
            keys: KeyRoom::new(all.len(), tiers),
            costs: CostRoom::new(all.len(), tiers),
            lines: Lines::new(LineOptions::new(
                &rates_of(&limits),
                Source::Memory,
                max_waiting as usize,
            )),
            count: all.len(),
            answers: VecDeque::new(),
            answer_status: 0,
            waits_in_real_time,
            limits,
            tiers,
            fixed: Fixed::new(all),
            border: Border::of_the_module(),
            failure,
        }
    }

    // This is not inlined, and `check` with one key does not use it, to keep that hot path small.
    #[inline(never)]
    fn run(&mut self, key_length: usize, now: u64, operation: Operation) -> u32 {
        let outcome = match self.fixed {
            Some(fixed) => Ok(fixed.answer(&operation)),
            None => self.run_on_buckets(key_length, now, operation),
        };
        match outcome {
            Ok(Outcome::Decision(decision) | Outcome::Reserved(Reserved::TooFar(decision))) => {
                self.say(&decision)
            }
            Ok(Outcome::Reserved(Reserved::Slot(slot))) => {
                self.border.slot.replace(Slot::from(slot));
                self.say(&slot.decision)
            }
            Ok(Outcome::Cancelled(all)) => all.into(),
            Err(error) => self.fail(error.into()),
        }
    }

    fn run_on_buckets(
        &mut self,
        key_length: usize,
        now: u64,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        let number = self.line_of(key_length);
        let operation = match number {
            Some(number) => self.share_returned(number, now, operation),
            None => operation,
        };
        let outcome = self.keys.with(key_length, |keys| self.buckets.apply(keys, now, operation));
        if let (Some(number), Ok(_)) = (number, &outcome) {
            self.tell_line(number, now, operation);
        }
        outcome
    }

    /// The line of a call's keys, if somebody waits for them.
    fn line_of(&self, key_length: usize) -> Option<LineNumber> {
        if self.lines.is_empty() {
            return None;
        }
        self.lines.find(&self.keys.owned(key_length))
    }

    /// The time of the lines at a time of the operations. It is the same if it can be, so that a
    /// slot that comes at the end of a hold is not before it by the time between two readings.
    fn line_time(&self, now: u64) -> u64 {
        if self.waits_in_real_time { JavaScript::now() } else { now }
    }

    /// Lets those who wait have tokens that come back. Returns the operation that is left.
    fn share_returned(&mut self, number: LineNumber, now: u64, operation: Operation) -> Operation {
        let tokens = operation.returned();
        if tokens.is_zero() {
            return operation;
        }
        let taken = self.feed(number, now, |line, at| line.returned(at, tokens));
        operation.returning_less(&taken)
    }

    /// Tells those who wait that the bucket was held or reset.
    fn tell_line(&mut self, number: LineNumber, now: u64, operation: Operation) {
        if operation.changes_hold() {
            self.feed(number, now, |line, at| line.told(at, at, &operation));
        }
    }

    /// Tells a line what has happened at the time `now`, and does what follows from it.
    fn feed<R: Default>(
        &mut self,
        number: LineNumber,
        now: u64,
        input: impl FnOnce(&mut Line, u64) -> R,
    ) -> R {
        let at = self.line_time(now);
        let answer = self.lines.tell(number, |line| input(line, at));
        self.take_steps(number, now);
        answer
    }

    #[inline(never)]
    fn take_steps(&mut self, number: LineNumber, now: u64) {
        while let Some(step) = self.lines.next_step(number) {
            match step {
                Step::Answer(call, answer) => self.answers.push_back((call, answer)),
                Step::Run(keys, operation, action) => {
                    let outcome = self.buckets.apply(&Keys::of(&keys), now, operation);
                    let outcome = outcome.map_err(tidegate_protocol::Error::from_engine);
                    let at = self.line_time(now);
                    self.lines.answered(number, at, at, action, outcome);
                }
            }
        }
    }

    /// Says a decision with what each limit says, if there are several.
    fn say(&self, tiered: &TieredDecision) -> u32 {
        let tiered = self.tiers.place_all(tiered);
        self.border.answer.replace(Answer::of(&tiered));
        if self.count > 1 {
            self.border.tiers.replace(Tiers::of(&tiered));
        }
        status(&tiered)
    }

    /// Says a decision of the only limit that has buckets.
    fn say_alone(&self, decision: &Decision) -> u32 {
        if self.count > 1 {
            return self.say(&(*decision).into());
        }
        self.border.answer.replace(Answer::of(decision));
        status(decision)
    }

    fn fail(&mut self, failure: Failure) -> u32 {
        self.failure = Some(failure);
        FAILED
    }
}

/// The error for a number that is no correction's, which this package never passes.
pub(crate) fn no_such_correction() -> tidegate_protocol::Error {
    tidegate_protocol::Error::Store("there is no such correction".into())
}

/// The limits as a line takes them.
pub(crate) fn rates_of(limits: &[Limit]) -> Vec<AnyLimit> {
    limits.iter().copied().map(AnyLimit::Rate).collect()
}

/// A state of a line, as JavaScript reads it: callers, tokens, and milliseconds, rounded up.
pub(crate) fn numbers_of(Waiting { callers, tokens, until }: Waiting) -> Vec<f64> {
    vec![callers as f64, tokens as f64, until.div_ceil(NANOS_PER_MILLI) as f64]
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

/// A count of tokens as a double; infinite for the largest value, which is that of `unlimited`.
pub(crate) fn in_count(count: u64) -> f64 {
    if count == u64::MAX { f64::INFINITY } else { count as f64 }
}

/// Whole milliseconds, rounded up; infinite for the largest value, which is never.
fn in_whole_millis(nanos: u64) -> f64 {
    if nanos == u64::MAX { f64::INFINITY } else { nanos.div_ceil(NANOS_PER_MILLI) as f64 }
}

/// Parses one to four limits, one per line.
pub(crate) fn parse_lines(texts: &str) -> Result<Box<[AnyLimit]>, Failure> {
    let count = texts.lines().count();
    if !(1..=MAX_TIERS).contains(&count) {
        return Err(Error::TierCount { count }.into());
    }
    let parse = |text| AnyLimit::parse(text).map_err(|error| Failure::of_limit(text, error));
    texts.lines().map(parse).collect()
}
