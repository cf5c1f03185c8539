//! The tokens of each limit that a node has spent within the last half of a ttl.

use crate::bounds::MAX_TIERS;
use crate::cost::Cost;

/// A ttl has this many bins.
pub(super) const TTL_BINS: u64 = 16;

/// The bins of half a ttl, the one that is being filled included.
const BINS: usize = 8;

/// Counts tokens and calls in bins of a sixteenth of a ttl.
///
/// The total is that of seven to eight bins, so it never counts what is older than half a ttl.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpendingWindow {
    /// Bin number `n` is at `n % BINS`; `newest` is the number of the one that is being filled.
    bins: [Bin; BINS],
    newest: u64,
    /// Nanoseconds in a bin.
    width: u64,
    last: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    tokens: [u64; MAX_TIERS],
    calls: u64,
}

impl SpendingWindow {
    pub(super) fn starting(now: u64, ttl: u64) -> Self {
        let width = (ttl / TTL_BINS).max(1);
        Self { bins: [Bin::default(); BINS], newest: now / width, width, last: now }
    }

    pub(super) fn count(&mut self, now: u64, cost: &Cost) {
        self.advance(now);
        self.last = self.last.max(now);
        if let Some(bin) = self.bins.get_mut((self.newest % BINS as u64) as usize) {
            bin.calls += 1;
            for (tier, tokens) in bin.tokens.iter_mut().enumerate() {
                *tokens = tokens.saturating_add(cost.of_tier(tier));
            }
        }
    }

    /// The tokens of each limit, and the number of calls.
    pub(super) fn totals(&mut self, now: u64) -> ([u64; MAX_TIERS], u64) {
        self.advance(now);
        let (mut tokens, mut calls) = ([0_u64; MAX_TIERS], 0);
        for bin in &self.bins {
            calls += bin.calls;
            for (sum, tokens) in tokens.iter_mut().zip(bin.tokens) {
                *sum = sum.saturating_add(tokens);
            }
        }
        (tokens, calls)
    }

    /// When tokens were counted last; before that, when counting began.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    fn advance(&mut self, now: u64) {
        let passed = (now / self.width).saturating_sub(self.newest);
        for later in 1..=passed.min(BINS as u64) {
            if let Some(bin) = self.bins.get_mut(((self.newest + later) % BINS as u64) as usize) {
                *bin = Bin::default();
            }
        }
        self.newest += passed;
    }
}
