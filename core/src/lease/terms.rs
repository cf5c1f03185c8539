use core::fmt;

use crate::limit::Limit;
use crate::timeline::Timeline;

/// The most nodes that hold a slice of one bucket at a time; others do without.
pub const MAX_MEMBERS: usize = 128;

const MILLI: u64 = 1_000_000;
const MIN_TTL: u64 = 100 * MILLI;
const MAX_TTL: u64 = 60_000 * MILLI;
const MIN_TOKENS: u64 = 10;
/// Tokens per second. Times the longest ttl, in the units of the script, below 2^53.
const MAX_RATE: u64 = 100_000_000;

/// What the nodes that share a bucket by leases agree on: how long a slice lives, and which
/// rate is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    ttl: u64,
    tier: u8,
    rate: u64,
    most: u64,
}

/// Why limits cannot be leased on such terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseError {
    /// The ttl is not 100 ms to 60 s, in whole milliseconds.
    Ttl,
    /// The largest share is not one thousandth to all of the rate.
    MaxShare,
    /// The limits give fewer than ten tokens in a ttl: there is nothing to slice.
    TooFewTokens,
    /// The limits give more than 1e8 tokens per second.
    RateTooHigh,
}

impl LeaseTerms {
    /// Leases of `ttl` nanoseconds, 100 ms to 60 s in whole milliseconds, of which one node
    /// takes at most `max_share` thousandths of the rate.
    ///
    /// The rate is that of the limit that refills fastest: it sets the pace, and the others
    /// how many tokens there are.
    ///
    /// # Errors
    /// Names the bound.
    pub fn new(limits: &[Limit], ttl: u64, max_share: u64) -> Result<Self, LeaseError> {
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) || !ttl.is_multiple_of(MILLI) {
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
        if super::milli_tokens(rate, ttl) < MIN_TOKENS * 1_000 {
            return Err(LeaseError::TooFewTokens);
        }
        Ok(Self { ttl, tier, rate, most: (rate * max_share / 1_000).max(1) })
    }

    /// How long a slice lives, in nanoseconds.
    pub const fn ttl(&self) -> u64 {
        self.ttl
    }

    /// The limit whose rate is shared out, counted from 0.
    pub const fn tier(&self) -> u8 {
        self.tier
    }

    /// The rate that is shared out, in thousandths of a token per second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// The most of it that one node gets.
    pub const fn most(&self) -> u64 {
        self.most
    }
}

/// As the timeline gives it, which may be a little less than the limit's words.
fn rate_of(limit: &Limit) -> u64 {
    let (tokens, nanos) = match limit.timeline() {
        Timeline::Smooth { width } => (1, width),
        Timeline::Stepped { tokens, period } => (tokens, period),
    };
    let rate = u128::from(tokens) * super::RATE_NANOS / u128::from(nanos);
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
