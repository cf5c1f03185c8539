use tidegate_core::{Error, Limit, MAX_TIERS, decide_tiers};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::buckets::{Buckets, Seed};
use crate::failure::Failure;

/// The longest key, in bytes.
const MAX_KEY: usize = 1024;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// What [`Engine::check`] returns when there is no decision.
const FAILED: u32 = u32::MAX;

/// One limiter's limits and buckets.
///
/// JavaScript writes a key to [`key_pointer`](Self::key_pointer), calls
/// [`check`](Self::check) and reads the decision at
/// [`answer_pointer`](Self::answer_pointer): numbers and memory only, which
/// costs a few nanoseconds, where a string or an object would cost a hundred.
/// Both stay where they are for as long as the engine lives.
#[wasm_bindgen]
pub struct Engine {
    limits: Box<[Limit]>,
    buckets: Buckets,
    key: Box<[u8; MAX_KEY]>,
    answer: Box<Answer>,
    failure: Option<Failure>,
}

/// The numbers of the last decision, as JavaScript reads them.
#[repr(C)]
#[derive(Default)]
struct Answer {
    remaining: f64,
    /// Whole milliseconds, rounded up, so that waiting for as long is always enough.
    retry_after_ms: f64,
    reset_after_ms: f64,
    /// The exact values, in nanoseconds.
    retry_after: u64,
    reset_after: u64,
}

#[wasm_bindgen]
impl Engine {
    /// An engine without buckets for limits in canonical text, one per line. Check
    /// for [`take_failure`](Self::take_failure), then [`seed`](Self::seed) it before use.
    ///
    /// Failures are kept, not thrown, here as in [`check`](Self::check): a module that
    /// never handles JavaScript objects needs no table of references to them.
    #[wasm_bindgen(constructor)]
    pub fn new(limits: &str) -> Self {
        let (limits, failure) = match parse_lines(limits) {
            Ok(limits) => (limits, None),
            Err(failure) => (Box::default(), Some(failure)),
        };
        Self {
            buckets: Buckets::new(&limits, Seed(0, 0)),
            limits,
            key: Box::new([0; MAX_KEY]),
            answer: Box::default(),
            failure,
        }
    }

    /// Draws the hash of keys, by two random numbers, and forgets all buckets. Not
    /// part of the constructor because some hosts have no randomness, and no clock,
    /// before the first request.
    pub fn seed(&mut self, seed0: u64, seed1: u64) {
        self.buckets = Buckets::new(&self.limits, Seed(seed0, seed1));
    }

    /// Where a key is to be written: room for 1024 bytes.
    pub fn key_pointer(&self) -> *const u8 {
        self.key.as_ptr()
    }

    /// Where a decision's numbers are: `remaining`, `retry_after_ms` and
    /// `reset_after_ms` as doubles, `retry_after` and `reset_after` as 64-bit
    /// integers of nanoseconds.
    pub fn answer_pointer(&self) -> *const f64 {
        (&raw const *self.answer).cast()
    }

    /// Decides on the key of `key_length` bytes that has been written, at
    /// `millis` milliseconds and `nanos` nanoseconds. `millis` and `cost` are
    /// whole numbers, which a double holds exactly up to 2^53.
    ///
    /// Returns twice the binding tier, plus one if allowed; or `u32::MAX` if there
    /// is no decision, see [`take_failure`](Self::take_failure).
    pub fn check(&mut self, key_length: usize, millis: f64, nanos: u32, cost: f64) -> u32 {
        let key = self.key.get(..key_length).unwrap_or(&[]);
        let now = (millis as u64).saturating_mul(NANOS_PER_MILLI).saturating_add(nanos.into());
        let limits = &self.limits;
        match self.buckets.update(key, now, |cells| decide_tiers(limits, cells, now, cost as u64)) {
            Ok(decision) => {
                *self.answer = Answer {
                    remaining: decision.remaining as f64,
                    retry_after_ms: decision.retry_after.div_ceil(NANOS_PER_MILLI) as f64,
                    reset_after_ms: decision.reset_after.div_ceil(NANOS_PER_MILLI) as f64,
                    retry_after: decision.retry_after,
                    reset_after: decision.reset_after,
                };
                u32::from(decision.tier) * 2 + u32::from(decision.allowed)
            }
            Err(error) => {
                self.failure = Some(error.into());
                FAILED
            }
        }
    }

    /// What is wrong with the limits, or why the last check gave no decision.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// How many buckets are held.
    #[wasm_bindgen(getter)]
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }
}

fn parse_lines(texts: &str) -> Result<Box<[Limit]>, Failure> {
    let count = texts.lines().count();
    if !(1..=MAX_TIERS).contains(&count) {
        return Err(Error::TierCount { count }.into());
    }
    let parse = |text| Limit::parse(text).map_err(|error| Failure::of_limit(text, error));
    texts.lines().map(parse).collect()
}
