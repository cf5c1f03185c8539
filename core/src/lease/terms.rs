//! The terms on which the nodes of a fleet lease slices of a bucket.

use core::fmt;

use super::rate::{RATE_NANOS, milli_tokens};
use super::slice::slack;
use crate::bounds::NANOS_PER_MILLI;
use crate::limit::Limit;
use crate::timeline::Timeline;

/// The most nodes that hold a slice of one bucket at a time; others ask the bucket for each check.
pub const MAX_NODES: usize = 128;

const MIN_TTL: u64 = 100 * NANOS_PER_MILLI;
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
    /// The largest share, in thousandths.
    max_share: u16,
    rate: u64,
    max_rate: u64,
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
        let (mut tier, mut rate) = (0, 0);
        for (number, limit) in (0u8..).zip(limits) {
            if rate_of(limit) > rate {
                (tier, rate) = (number, rate_of(limit));
            }
        }
        if rate > MAX_RATE * 1_000 {
            return Err(LeaseError::RateTooHigh);
        }
        if milli_tokens(rate, ttl) < MIN_TOKENS * 1_000 {
            return Err(LeaseError::TooFewTokens);
        }
        Ok(Self::sharing(ttl, tier, max_share as u16, rate))
    }

    const fn sharing(ttl: u64, tier: u8, max_share: u16, rate: u64) -> Self {
        let max_rate = rate * max_share as u64 / 1_000;
        let max_rate = if max_rate == 0 { 1 } else { max_rate };
        Self { ttl, tier, max_share, rate, max_rate }
    }

    /// The same terms for calls that cost a number of tokens of each limit; `None` for a single
    /// limit. The rate that is shared is that of the limit that refills most slowly among those
    /// which give ten tokens in a ttl: that is a limit of requests rather than one of their tokens,
    /// and a call that takes a good part of a second's tokens cannot be paced.
    pub fn for_budgets(&self, limits: &[Limit]) -> Option<Self> {
        let rates = (0u8..).zip(limits).map(|(tier, limit)| (rate_of(limit), tier));
        let enough = |&(rate, _): &(u64, u8)| milli_tokens(rate, self.ttl) >= MIN_TOKENS * 1_000;
        let (rate, tier) = rates.filter(enough).min()?;
        (limits.len() > 1).then(|| Self::sharing(self.ttl, tier, self.max_share, rate))
    }

    /// The most tokens of the shared limit that a slice ever spends at once, whatever its share.
    pub fn most_at_once(&self) -> u64 {
        let gap = RATE_NANOS.div_ceil(u128::from(self.max_rate)) as u64;
        slack(gap) / gap + 1
    }

    /// The largest [`ratio`](super::BudgetAsk::ratio), with which the script still computes exactly.
    pub const fn max_ratio(&self) -> u64 {
        const EXACT: u64 = 1 << 53;
        EXACT / (self.max_rate * (self.ttl / NANOS_PER_MILLI)).div_ceil(1_000_000)
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
}

/// The rate of a limit's timeline. It can be a little below the rate in the limit's text, because
/// the width of a token is rounded up.
fn rate_of(limit: &Limit) -> u64 {
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
            Self::RateTooHigh => {
                write!(f, "the limits must give at most {MAX_RATE} tokens per second to be leased")
            }
        }
    }
}

impl core::error::Error for LeaseError {}
