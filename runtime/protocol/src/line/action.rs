//! What a waiting line is told when it is made, what it asks of its driver, and what can be seen of it.

use tidegate_core::{
    AnyLimit, Charge, Cost, Limit, MAX_TIERS, Operation, Source, TieredDecision, Timeline,
};

use super::slots::Slot;
use super::tokens::Tokens;
use crate::error::Error;

/// What a line knows of its bucket from the start.
#[derive(Clone, Copy, Debug)]
pub struct LineOptions {
    /// How many callers may wait at a time.
    pub max_waiting: usize,
    /// Whether other processes use the bucket, and so can hold it.
    pub is_shared: bool,
    /// Whether a cancelled charge comes back in all buckets or in none: it does where there is one.
    pub cancels_whole: bool,
    /// The number of limits.
    pub limits: usize,
    /// Whether any limit has a bucket. Otherwise the store's answer is the same for every cost.
    pub has_buckets: bool,
    /// The burst of each limit, in tokens; 0 where the limit is `unlimited` and has no bucket.
    pub bursts: [u64; MAX_TIERS],
    /// The time between two tokens of one slot; 0 if all tokens of a slot come together.
    pub width: u64,
    /// Where the buckets live, for refusals.
    pub source: Source,
}

/// What the driver of a line must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Reserve tokens, and pass the outcome to [`Line::reserved`](super::Line::reserved).
    Reserve(Asked),
    /// Cancel a charge, and pass the outcome to [`Line::cancelled`](super::Line::cancelled).
    Cancel(Cancelled),
    /// Look whether the bucket is held, and pass the answer to [`Line::looked`](super::Line::looked).
    Look,
    /// Answer a caller.
    Answer {
        /// The caller.
        id: u64,
        /// An allowed decision, or a refusal for [`Error::RateLimited`], or the store's failure.
        answer: Result<TieredDecision, Error>,
    },
}

/// A reservation to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The waiter that needs it.
    pub id: u64,
    /// The tokens.
    pub cost: Cost,
    /// The longest acceptable delay, in nanoseconds.
    pub max_wait: u64,
    /// The shortest useful delay, in nanoseconds.
    pub min_wait: u64,
}

/// A slot that nobody needs, whose charge is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled(pub(super) Slot);

impl LineOptions {
    /// The line of a bucket under these limits that lives in `source`.
    pub fn new(limits: &[AnyLimit], source: Source, max_waiting: usize) -> Self {
        let width = match limits {
            [AnyLimit::Rate(limit)] => match limit.timeline() {
                Timeline::Smooth { width } => width,
                Timeline::Stepped { .. } => 0,
            },
            // The limits' tokens come at different times.
            _ => 0,
        };
        let buckets = limits.iter().filter(|limit| limit.rate().is_some()).count();
        Self {
            max_waiting,
            is_shared: source != Source::Memory,
            cancels_whole: buckets == 1,
            limits: limits.len().min(MAX_TIERS),
            has_buckets: buckets > 0,
            bursts: core::array::from_fn(|tier| {
                limits.get(tier).and_then(AnyLimit::rate).map_or(0, Limit::burst)
            }),
            width,
            source,
        }
    }

    /// What a cost takes from the limits that have buckets.
    pub(super) fn tokens(&self, cost: &Cost) -> Tokens {
        if !self.has_buckets {
            return Tokens([u64::from(!cost.is_zero()), 0, 0, 0]);
        }
        Tokens(core::array::from_fn(|tier| match self.bursts[tier] {
            0 => 0,
            _ => cost.of_tier(tier),
        }))
    }

    /// The cost of these tokens: one number where it is the same for all limits that have buckets.
    pub(super) fn cost(&self, tokens: Tokens) -> Cost {
        if !self.has_buckets {
            return Cost::same(tokens.0[0]);
        }
        let mut numbers = self.bursts.iter().zip(tokens.0).filter(|(burst, _)| **burst > 0);
        let first = numbers.next().map_or(0, |(_, tokens)| tokens);
        match numbers.all(|(_, tokens)| tokens == first) {
            true => Cost::same(first),
            false => {
                Cost::each(tokens.0.get(..self.limits).unwrap_or(&tokens.0)).unwrap_or_default()
            }
        }
    }

    /// The smallest burst, which a decision names before the bucket has answered.
    pub(super) fn smallest_burst(&self) -> u64 {
        self.bursts.into_iter().filter(|burst| *burst > 0).min().unwrap_or(0)
    }
}

impl Asked {
    /// The reservation.
    pub const fn operation(&self) -> Operation {
        let Self { cost, max_wait, min_wait, .. } = *self;
        Operation::Reserve { cost, max_wait, min_wait }
    }
}

impl Cancelled {
    /// The charge.
    pub const fn charge(&self) -> Charge {
        self.0.charge
    }
}

/// The callers in a line, as others can see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// The number of callers.
    pub callers: usize,
    /// The tokens that they wait for. Where the limits have costs of their own, those of the limit of
    /// which most are wanted.
    pub tokens: u64,
    /// How long it will take until the last of them is served, in nanoseconds; 0 when nobody waits.
    pub until: u64,
}
