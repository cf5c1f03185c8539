//! Why a limit, or a call on one, is refused as invalid.

use core::fmt;

use crate::bounds::{MAX_RATE_PER_SECOND, MAX_SPAN, MAX_STEPPED_FILL, MAX_TIERS, NANOS_PER_SECOND};
use crate::spelling::{Instead, Mistake};

/// Why a limit, or a call on one, is invalid. A call that is only refused is not an error but a
/// [`Decision`](crate::Decision).
///
/// [`code`](Error::code) is stable and the same in every language;
/// [`reason`](Error::reason) narrows an invalid limit down to the bound it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The text of a limit does not follow the grammar.
    Syntax {
        /// Byte offset of the first character that does not fit.
        at: usize,
        /// The text that was expected there.
        expected: &'static str,
    },
    /// A part of the text does not follow the grammar, but it can be understood.
    Spelling {
        /// Byte offset of the part.
        at: usize,
        /// What is wrong with it.
        mistake: Mistake,
        /// What to write in its place; for a rate, in place of the count and the period.
        instead: Instead,
    },
    /// The text holds another limit after the first.
    SeveralLimits {
        /// Byte offset of what separates the two, or of the second limit.
        at: usize,
    },
    /// The unit of time is not one of the grammar's.
    UnknownUnit {
        /// Byte offset of the unit.
        at: usize,
    },
    /// A number does not fit in 64 bits.
    NumberTooLarge {
        /// Byte offset of the number.
        at: usize,
    },
    /// A duration does not fit in 64 bits of nanoseconds.
    DurationTooLong {
        /// Byte offset of the duration.
        at: usize,
    },
    /// A count or duration is zero or negative.
    NotPositive {
        /// The field.
        field: Field,
    },
    /// More than 1e9 tokens per second.
    RateTooHigh,
    /// Rounding the time of one token up to whole nanoseconds would cost more
    /// than 1 % of the rate.
    RateTooCoarse,
    /// A smooth limit would take more than 2^53 ns to refill.
    SpanTooLong,
    /// A stepped limit would take more than a hundred years to refill, or adds or
    /// holds more than 2^53 tokens.
    SteppedTooLong,
    /// A stepped limit's period is not a whole number of milliseconds.
    SteppedPeriod,
    /// The burst of an `in any` limit is larger than the number that the window admits.
    BurstAboveWindow,
    /// The number of limits is not one to four.
    TierCount {
        /// The number that was given.
        count: usize,
    },
    /// There is one cost for each limit, but there are not as many as limits.
    CostCount {
        /// The number of costs.
        costs: usize,
        /// The number of limits.
        limits: usize,
    },
    /// The cost is above the burst: the call can never be allowed.
    CostTooLarge {
        /// The cost that was asked for, in tokens.
        cost: u64,
        /// The smallest burst among the limiter's limits, in tokens; with a cost for each limit, the
        /// burst of the limit whose cost is too large.
        burst: u64,
    },
}

/// A field of a limit, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// Tokens per period.
    Tokens,
    /// The period.
    Period,
    /// The burst.
    Burst,
}

impl Field {
    /// The field's name in every binding.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Period => "period",
            Self::Burst => "burst",
        }
    }
}

impl Error {
    /// The stable code of the error's class, listed in `tests/vectors/errors.json`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CostTooLarge { .. } => "cost_too_large",
            Self::CostCount { .. } => "invalid_argument",
            _ => "invalid_limit",
        }
    }

    /// A stable name for the bound that was broken.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Spelling {
                mistake: Mistake::Month | Mistake::Year | Mistake::MinuteOrMonth,
                ..
            }
            | Self::UnknownUnit { .. } => "unknown_unit",
            Self::Syntax { .. } | Self::Spelling { .. } | Self::SeveralLimits { .. } => "syntax",
            Self::NumberTooLarge { .. } | Self::DurationTooLong { .. } => "number_too_large",
            Self::NotPositive { field: Field::Tokens } => "tokens_not_positive",
            Self::NotPositive { field: Field::Period } => "period_not_positive",
            Self::NotPositive { field: Field::Burst } => "burst_not_positive",
            Self::RateTooHigh => "rate_too_high",
            Self::RateTooCoarse => "rate_too_coarse",
            Self::SpanTooLong => "span_too_long",
            Self::SteppedTooLong => "stepped_too_long",
            Self::SteppedPeriod => "stepped_period",
            Self::BurstAboveWindow => "burst_above_window",
            Self::TierCount { .. } => "tier_count",
            Self::CostCount { .. } => "cost_count",
            Self::CostTooLarge { .. } => "cost_too_large",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { at, expected } => write!(f, "at byte {at}: expected {expected}"),
            Self::Spelling { at, mistake, instead } => {
                write!(f, "at byte {at}: {mistake}; write {instead}")
            }
            Self::SeveralLimits { at } => write!(
                f,
                "at byte {at}: a text is one limit; give each by itself, as in \"10/s\", \"100/h\""
            ),
            Self::UnknownUnit { at } => {
                write!(f, "at byte {at}: unknown unit of time; use ns, us, ms, s, min, h, d or w")
            }
            Self::NumberTooLarge { at } => {
                write!(f, "at byte {at}: the number is above {}", u64::MAX)
            }
            Self::DurationTooLong { at } => write!(
                f,
                "at byte {at}: the duration is too long; a smooth limit refills within 104 days, \
                 a stepped one within 100 years"
            ),
            Self::NotPositive { field } => write!(f, "{} must be at least 1", field.as_str()),
            Self::RateTooHigh => {
                write!(f, "the rate must be at most {MAX_RATE_PER_SECOND} tokens per second")
            }
            Self::RateTooCoarse => f.write_str(
                "the rate cannot be kept within 1 % in whole nanoseconds per token; \
                 count in larger units (kB instead of bytes, say)",
            ),
            Self::SpanTooLong => write!(
                f,
                "refilling the burst must take at most {MAX_SPAN} ns (104 days); \
                 lower the burst or make the limit stepped"
            ),
            Self::SteppedTooLong => write!(
                f,
                "a stepped limit must add and hold at most {MAX_SPAN} tokens \
                 and refill within {} s (100 years)",
                MAX_STEPPED_FILL / NANOS_PER_SECOND
            ),
            Self::SteppedPeriod => {
                f.write_str("the period of a stepped limit must be a whole number of milliseconds")
            }
            Self::BurstAboveWindow => {
                f.write_str("the burst must be at most the number admitted in any window")
            }
            Self::TierCount { count } => {
                write!(f, "a limiter holds 1 to {MAX_TIERS} limits, but {count} were given")
            }
            Self::CostCount { costs, limits } => {
                write!(f, "one cost or {limits} are needed, but {costs} were given")
            }
            Self::CostTooLarge { cost, burst } => {
                write!(f, "a cost of {cost} is above the burst of {burst} and can never be allowed")
            }
        }
    }
}

impl core::error::Error for Error {}
