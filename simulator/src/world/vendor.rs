//! The service that is called: it counts calls in its own way, and refuses.

use std::collections::VecDeque;

use tidegate_core::{Limit, decide};

use super::events::Reply;
use super::random::Stream;
use super::{EPOCH, SECOND};
use crate::scenario::{self, Latency, Refusal, Window};

/// The service, and what it has counted.
#[derive(Debug)]
pub(super) struct Vendor {
    terms: scenario::Vendor,
    latencies: Stream,
    networks: Stream,
    failures: Stream,
    /// The times of a sliding window.
    times: VecDeque<u64>,
    /// The number of the fixed window, and the calls in it.
    fixed: (u64, u64),
    cell: u64,
}

impl Vendor {
    pub(super) fn new(terms: &scenario::Vendor, seed: u64) -> Self {
        Self {
            terms: terms.clone(),
            latencies: Stream::new(seed, "vendor latency"),
            networks: Stream::new(seed, "network"),
            failures: Stream::new(seed, "vendor failures"),
            times: VecDeque::new(),
            fixed: (0, 0),
            cell: 0,
        }
    }

    /// How long a call is on its way.
    pub(super) fn network(&mut self) -> u64 {
        self.terms.network.draw(&mut self.networks)
    }

    /// Counts a call that has arrived. Answers the reply, and how long it takes.
    pub(super) fn call(&mut self, now: u64) -> (Reply, u64) {
        if let Some(wait) = self.limit_wait(now)
            && self.terms.refusal != Refusal::Never
        {
            let retry_after = match self.terms.refusal {
                Refusal::RetryAfter => wait.div_ceil(SECOND).max(1) as u32,
                Refusal::Status | Refusal::Never => 0,
            };
            let took = self.terms.refusal_latency.draw(&mut self.latencies);
            return (Reply::Refusal { retry_after }, took);
        }
        let took = self.terms.latency.draw(&mut self.latencies);
        let fails =
            self.terms.failures.0 > 0 && self.failures.below(1_000_000) < self.terms.failures.0;
        (if fails { Reply::Failure } else { Reply::Success }, took)
    }

    pub(super) fn change_limit(&mut self, limit: &Limit, now: u64) {
        if self.terms.window == Window::Bucket {
            // Its own bucket begins anew.
            self.cell = 0;
        }
        self.terms.limit = Some(*limit);
        self.fixed = ((EPOCH + now) / limit.period(), 0);
    }

    pub(super) fn change_latency(&mut self, latency: &Latency) {
        self.terms.latency = latency.clone();
    }

    /// Counts a call; if it is above the limit, the time until one would not be.
    fn limit_wait(&mut self, now: u64) -> Option<u64> {
        let limit = self.terms.limit?;
        let (count, window) = (limit.tokens(), limit.period());
        let counts_refused = self.terms.counts_refused || self.terms.refusal == Refusal::Never;
        match self.terms.window {
            Window::Sliding => {
                while self.times.front().is_some_and(|first| first + window <= now) {
                    self.times.pop_front();
                }
                let above = self.times.len() as u64 >= count;
                if !above || counts_refused {
                    self.times.push_back(now);
                }
                above.then(|| {
                    let at = self.times.len().saturating_sub(count as usize);
                    self.times.get(at).map_or(window, |first| (first + window).saturating_sub(now))
                })
            }
            Window::Fixed => {
                let number = (EPOCH + now) / window;
                if self.fixed.0 != number {
                    self.fixed = (number, 0);
                }
                let above = self.fixed.1 >= count;
                self.fixed.1 += u64::from(!above || counts_refused);
                above.then(|| (number + 1) * window - (EPOCH + now))
            }
            Window::Bucket => {
                let (decision, cell) = decide(&limit, self.cell, EPOCH + now, 1).ok()?;
                self.cell = cell;
                (!decision.allowed).then_some(decision.retry_after)
            }
        }
    }
}
