//! The ideal twin of a run: one fluid bucket at the vendor's rate that knows of every message at once.

use tidegate_core::Limit;

use super::SECOND;
use crate::scenario::Scenario;

/// The calls of the ideal, one after the other.
#[derive(Debug)]
pub(super) struct Ideal {
    /// The vendor's calls in a window, from a time on; nothing if it takes everything.
    limits: Vec<(u64, u64, u64)>,
    latency: u64,
    arrivals: Vec<u64>,
    pub(super) starts: Vec<u64>,
    pub(super) waits: Vec<u64>,
}

impl Ideal {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let limit = scenario.vendor.limit.map(|limit| (0, limit.tokens(), limit.period()));
        let latency = scenario.vendor.latency.median() + scenario.function.overhead.median();
        let limits = limit.into_iter().collect();
        Self { limits, latency, arrivals: Vec::new(), starts: Vec::new(), waits: Vec::new() }
    }

    /// A message arrives.
    pub(super) fn add(&mut self, now: u64) {
        self.arrivals.push(now);
    }

    pub(super) fn change_limit(&mut self, limit: &Limit, now: u64) {
        self.limits.push((now, limit.tokens(), limit.period()));
    }

    /// Gives every message its time.
    pub(super) fn finish(&mut self) {
        // The first call at the present rate, and how many there have been since.
        let (mut first, mut count, mut of_limit) = (0u64, 0u64, 0);
        for arrival in core::mem::take(&mut self.arrivals) {
            let start = match self.limits.get(of_limit).copied() {
                None => arrival,
                Some((_, mut calls, mut window)) => {
                    // Whole nanoseconds from the first, rounded up, so that no error adds up.
                    let passed =
                        (u128::from(count) * u128::from(window)).div_ceil(u128::from(calls));
                    let mut next = first.saturating_add(passed as u64);
                    // A change stretches what is left of the time to the next call.
                    while let Some((from, new_calls, new_window)) =
                        self.limits.get(of_limit + 1).copied()
                        && from <= next.max(arrival)
                    {
                        let left = u128::from(next.saturating_sub(from));
                        let stretched = left * u128::from(calls) * u128::from(new_window)
                            / (u128::from(window) * u128::from(new_calls)).max(1);
                        next = if next > from { from + stretched as u64 } else { next };
                        (calls, window) = (new_calls, new_window);
                        (first, count, of_limit) = (next, 0, of_limit + 1);
                    }
                    if count == 0 || next <= arrival {
                        (first, count) = (next.max(arrival), 1);
                        first
                    } else {
                        count += 1;
                        next
                    }
                }
            };
            self.starts.push(start);
            self.waits.push(start - arrival);
        }
    }

    /// The end of the last call.
    pub(super) fn end(&self) -> u64 {
        self.starts.last().map_or(0, |start| start + self.latency)
    }

    /// The ends of the calls.
    pub(super) fn ends(&self) -> impl Iterator<Item = u64> {
        self.starts.iter().map(|start| start + self.latency)
    }

    /// The most calls that start in any stretch of this length, its end not included.
    pub(super) fn most_in(&self, window: u64) -> u64 {
        let (mut first, mut most) = (0, 0);
        for (at, start) in self.starts.iter().enumerate() {
            while self.starts[first] + window <= *start {
                first += 1;
            }
            most = most.max(at + 1 - first);
        }
        most as u64
    }

    /// Calls in a second in the long run, in thousandths; `None` if the vendor takes everything, or changes its limit.
    pub(super) fn rate(&self) -> Option<u128> {
        match *self.limits {
            [(_, calls, window)] => {
                Some(u128::from(calls) * u128::from(SECOND) * 1000 / u128::from(window))
            }
            _ => None,
        }
    }
}
