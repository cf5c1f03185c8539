//! What is written down of a run.

use std::collections::VecDeque;

use super::SECOND;

/// The last second that is written down one by one; what is later is in it too.
const MOST_SECONDS: usize = 400_000;

/// What happened in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Messages that arrived.
    pub produced: u32,
    /// Calls that reached the vendor.
    pub calls: u32,
    /// The refused ones of these calls.
    pub refused: u32,
    /// Messages that were done.
    pub done: u32,
    /// Messages that were put aside.
    pub lost: u32,
    /// Messages that waited at its end.
    pub queued: u32,
    /// Messages that were received and not done at its end.
    pub in_flight: u32,
    /// Messages that the ideal had done.
    pub ideal: u32,
}

/// A call that reached the vendor, with the columns of seed 001's own table. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// The message, in the order of arrival.
    pub id: u32,
    /// When the message arrived.
    pub sent_at: u64,
    /// When the batch was started.
    pub started_at: u64,
    /// The batch.
    pub batch_id: u32,
    /// The instance of the function.
    pub cache_id: u32,
    /// When the call reached the vendor.
    pub created_at: u64,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) seconds: Vec<Second>,
    pub(super) log: Option<Vec<LogRow>>,
    pub(super) waits: Vec<u64>,
    /// When the messages that are done were done.
    pub(super) done_at: Vec<u64>,
    pub(super) late: u32,
    pub(super) calls: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) duplicates: u64,
    pub(super) receives: u64,
    pub(super) throttles: u64,
    pub(super) killed: u64,
    pub(super) store_errors: u64,
    pub(super) max_concurrency: u32,
    pub(super) instances: u32,
    pub(super) in_second: Busiest,
    pub(super) in_window: Busiest,
}

impl Recorder {
    /// The second that a time is in. The seconds in between repeat what waited at the end of the last.
    pub(super) fn second(&mut self, now: u64) -> &mut Second {
        let at = ((now / SECOND) as usize).min(MOST_SECONDS);
        while self.seconds.len() <= at {
            let last = self.seconds.last().copied().unwrap_or_default();
            let kept =
                Second { queued: last.queued, in_flight: last.in_flight, ..Second::default() };
            self.seconds.push(kept);
        }
        &mut self.seconds[at]
    }
}

/// The most calls in any window of a length, whenever it began. Its start belongs to a window, its end does not.
#[derive(Debug, Default)]
pub(super) struct Busiest {
    window: u64,
    times: VecDeque<u64>,
    pub(super) most: u64,
}

impl Busiest {
    pub(super) fn new(window: u64) -> Self {
        Self { window, ..Self::default() }
    }

    pub(super) fn add(&mut self, now: u64) {
        while self.times.front().is_some_and(|first| first + self.window <= now) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.most = self.most.max(self.times.len() as u64);
    }
}
