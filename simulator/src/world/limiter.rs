//! The limit of ours: the engine's own functions on one shared bucket, by the store's clock.

use tidegate_core::{
    Cells, DEFAULT_MAX_HOLD, Limit, Profile, Reserved, Signal, change_limits, hold, reserve,
};

use super::EPOCH;
use super::random::Stream;
use crate::scenario::{self, OnStoreError};

/// How far ahead a slot may be: as far as a bucket reaches.
const ANY_WAIT: u64 = u64::MAX;

/// The bucket and its store.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: [Limit; 1],
    cells: Cells,
    round_trip: scenario::Latency,
    round_trips: Stream,
    on_store_error: OnStoreError,
    down_until: u64,
    /// How far the store's clock is ahead.
    clock: i64,
    /// The end of the last hold. Slots that were reserved before it keep their time, so who has one looks here.
    pub(super) held_until: u64,
}

/// The answer to a question for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The slot comes at this time.
    Slot(u64),
    /// The store did not answer.
    StoreDown,
    /// The slot is further away than a bucket reaches.
    TooFar,
}

impl Limiter {
    pub(super) fn new(terms: &scenario::Limiter, seed: u64) -> Self {
        Self {
            limits: [terms.limit],
            cells: Cells::default(),
            round_trip: terms.round_trip.clone(),
            round_trips: Stream::new(seed, "store"),
            on_store_error: terms.on_store_error,
            down_until: 0,
            clock: 0,
            held_until: 0,
        }
    }

    /// Reserves the next slot.
    pub(super) fn ask(&mut self, now: u64) -> Answer {
        if now < self.down_until {
            return match self.on_store_error {
                OnStoreError::Wait => Answer::StoreDown,
                OnStoreError::Allow => Answer::Slot(now),
            };
        }
        let took = self.round_trip.draw(&mut self.round_trips);
        let (decided, answered) = (now + took / 2, now + took);
        let store_time = self.store_time(decided);
        match reserve(&self.limits, &mut self.cells, store_time, 1, ANY_WAIT) {
            Ok(Reserved::Slot(slot)) => Answer::Slot((decided + slot.delay).max(answered)),
            Ok(Reserved::TooFar(_)) | Err(_) => Answer::TooFar,
        }
    }

    pub(super) fn is_down(&self, now: u64) -> bool {
        now < self.down_until
    }

    /// Reads a refusal as the engine does, and pauses the bucket. Answers the hold.
    pub(super) fn refused(&mut self, now: u64, retry_after: u32) -> u64 {
        let value = retry_after.to_string();
        let headers = (retry_after > 0).then_some(("Retry-After", value.as_str()));
        let signal = Signal::parse(429, headers, &Profile::GENERIC, EPOCH + now);
        let wait = signal.hold.min(DEFAULT_MAX_HOLD);
        if wait > 0 && now >= self.down_until {
            self.held_until = self.held_until.max(now + wait);
            let store_time = self.store_time(now);
            let _ = hold(&self.limits, &mut self.cells, store_time, wait);
        }
        wait
    }

    pub(super) fn change_limit(&mut self, limit: &Limit, now: u64) {
        let to = [*limit];
        let now = self.store_time(now);
        if change_limits(&self.limits, &to, &mut self.cells, now).is_ok() {
            self.limits = to;
        }
    }

    pub(super) fn change_clock(&mut self, ahead: i64) {
        self.clock = ahead;
    }

    pub(super) fn go_down(&mut self, until: u64) {
        self.down_until = self.down_until.max(until);
    }

    fn store_time(&self, now: u64) -> u64 {
        (EPOCH + now).saturating_add_signed(self.clock)
    }
}
