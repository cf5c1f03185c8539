//! The terms on which the nodes of a fleet lease slices of a bucket.

use core::fmt;

use super::rate::{RATE_NANOS, milli_tokens};
use crate::bounds::{NANOS_PER_MILLI, NANOS_PER_SECOND};
use crate::limit::Limit;
use crate::timeline::Timeline;

/// The most nodes that hold a slice of one bucket at a time; others ask the bucket for each check.
pub const MAX_NODES: usize = 128;

const MIN_TTL: u64 = 100 * NANOS_PER_MILLI;
const MIN_QUOTA_TTL: u64 = 2 * NANOS_PER_SECOND;
const MAX_TTL: u64 = 60_000 * NANOS_PER_MILLI;

/// Below this many tokens in a ttl the nodes' slices would be single tokens.
const MIN_TOKENS: u64 = 10;

/// The highest rate, in tokens per second. Thousandths of it times the milliseconds of the
/// longest ttl stay below 2^53, so that the script computes with exact integers.
const MAX_RATE: u64 = 100_000_000;

/// What the nodes that lease slices of a bucket agree on: how long a slice lives, and which rate
/// is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    ttl: u64,
    tier: u8,
    rate: u64,
    max_rate: u64,
    max_share: u64,
}

/// Why limits cannot be leased on such terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseError {
    /// The ttl is not a whole number of milliseconds from 100 ms to 60 s.
    Ttl,
    /// The largest share is not one thousandth to all of the rate.
    MaxShare,
    /// The limits give fewer than ten tokens in a ttl, which is too few to slice.
    TooFewTokens,
    /// The limits give more than 1e8 tokens per second.
    RateTooHigh,
    /// The ttl of quotas is not a whole number of seconds from 2 s to 60 s.
    QuotaTtl,
    /// The limits give less than a token in 60 s, which is too slow for quotas.
    TooSlow,
}

impl LeaseTerms {
    /// Slices that live for `ttl` nanoseconds, 100 ms to 60 s in whole milliseconds. One node
    /// takes at most `max_share` thousandths of the rate.
    ///
    /// The rate that is shared is that of the limit that refills fastest. It sets the pace; the
    /// other limits only bound how many tokens there are.
    ///
    /// # Errors
    /// [`LeaseError`] names the bound that was broken.
    pub fn new(limits: &[Limit], ttl: u64, max_share: u64) -> Result<Self, LeaseError> {
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) || !ttl.is_multiple_of(NANOS_PER_MILLI) {
            return Err(LeaseError::Ttl);
        }
        if !(1..=1_000).contains(&max_share) {
            return Err(LeaseError::MaxShare);
        }
        let (tier, rate) = fastest(limits);
        if rate > MAX_RATE * 1_000 {
            return Err(LeaseError::RateTooHigh);
        }
        if milli_tokens(rate, ttl) < MIN_TOKENS * 1_000 {
            return Err(LeaseError::TooFewTokens);
        }
        Ok(Self { ttl, tier, rate, max_rate: (rate * max_share / 1_000).max(1), max_share })
    }

    /// The terms of quotas that are spent elsewhere, see [`QuotaMember`](super::QuotaMember): slices live
    /// for `ttl` nanoseconds, 2 s to 60 s in whole seconds, or longer, in whole seconds up to 60 s, if the
    /// limits give fewer than ten tokens in it. One token in 60 s is enough.
    ///
    /// # Errors
    /// [`LeaseError`] names the bound that was broken.
    pub fn for_quotas(limits: &[Limit], ttl: u64) -> Result<Self, LeaseError> {
        if !(MIN_QUOTA_TTL..=MAX_TTL).contains(&ttl) || !ttl.is_multiple_of(NANOS_PER_SECOND) {
            return Err(LeaseError::QuotaTtl);
        }
        let (tier, rate) = fastest(limits);
        if rate > MAX_RATE * 1_000 {
            return Err(LeaseError::RateTooHigh);
        }
        if milli_tokens(rate, MAX_TTL) < 1_000 {
            return Err(LeaseError::TooSlow);
        }
        let seconds = (MIN_TOKENS * 1_000).div_ceil(rate);
        let ttl = ttl.max(seconds.saturating_mul(NANOS_PER_SECOND)).min(MAX_TTL);
        Ok(Self { ttl, tier, rate, max_rate: rate, max_share: 1_000 })
    }

    /// How long a slice lives, in nanoseconds.
    pub const fn ttl(&self) -> u64 {
        self.ttl
    }

    /// How often a host asks each slice for the [`next`](super::Slice::next) thing to do, in
    /// nanoseconds: every sixteenth of the ttl, less up to an eighth of that by the number of the
    /// `node`, so that the nodes of a fleet do not renew in step.
    pub const fn tick(&self, node: u64) -> u64 {
        let tick = self.ttl / 16;
        tick - node % (tick / 8)
    }

    /// The limit whose rate is shared, counted from 0.
    pub const fn tier(&self) -> u8 {
        self.tier
    }

    /// The rate that is shared, in thousandths of a token per second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// The largest part of the rate that one node gets, in thousandths of a token per second.
    pub const fn max_rate(&self) -> u64 {
        self.max_rate
    }

    /// The largest part of the rate that one node gets, in thousandths of the rate.
    pub(super) const fn max_share(&self) -> u64 {
        self.max_share
    }
}

/// The limit that refills fastest, counted from 0, and its rate.
fn fastest(limits: &[Limit]) -> (u8, u64) {
    let (mut tier, mut rate) = (0, 0);
    for (number, limit) in (0u8..).zip(limits) {
        if rate_of(limit) > rate {
            (tier, rate) = (number, rate_of(limit));
        }
    }
    (tier, rate)
}

/// The rate of a limit's timeline. It can be a little below the rate in the limit's text, because
/// the width of a token is rounded up.
pub(super) fn rate_of(limit: &Limit) -> u64 {
    let (tokens, nanos) = match limit.timeline() {
        Timeline::Smooth { width } => (1, width),
        Timeline::Stepped { tokens, period } => (tokens, period),
    };
    let rate = u128::from(tokens) * RATE_NANOS / u128::from(nanos);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ttl => f.write_str("the ttl must be 100 ms to 60 s, in whole milliseconds"),
            Self::MaxShare => f.write_str("the largest share must be 0.001 to 1 of the rate"),
            Self::TooFewTokens => write!(
                f,
                "the limits must give at least {MIN_TOKENS} tokens in a ttl, or there is nothing \
                 to slice; raise the ttl, or do without leases"
            ),
            Self::QuotaTtl => f.write_str("the ttl must be 2 s to 60 s, in whole seconds"),
            Self::TooSlow => f.write_str("the limits must give at least one token in 60 s"),
            Self::RateTooHigh => {
                write!(f, "the limits must give at most {MAX_RATE} tokens per second to be leased")
            }
        }
    }
}

impl core::error::Error for LeaseError {}
