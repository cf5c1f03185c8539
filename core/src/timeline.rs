//! A limit's timeline, on which the cells of its buckets are positions.

use crate::bounds::MAX_SPAN;

/// How a limit's timeline moves with the clock, which gives the integer in a cell its meaning.
///
/// A shared cell is stored together with its timeline, so that a limit can change while buckets are
/// in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timeline {
    /// The timeline is the clock, and a token is `width` nanoseconds wide.
    Smooth {
        /// Nanoseconds per token.
        width: u64,
    },
    /// The timeline counts tokens and moves by `tokens` at each multiple of `period`.
    Stepped {
        /// Tokens added per step.
        tokens: u64,
        /// Nanoseconds between steps.
        period: u64,
    },
}

impl Timeline {
    /// Where the clock's `now` lies on this timeline.
    #[inline(always)]
    pub const fn position(&self, now: u64) -> u64 {
        match *self {
            Self::Smooth { .. } => now,
            Self::Stepped { tokens, period } => quotient(now, period).saturating_mul(tokens),
        }
    }

    /// How much of the timeline one token takes.
    #[inline(always)]
    pub const fn width(&self) -> u64 {
        match *self {
            Self::Smooth { width } => width,
            Self::Stepped { .. } => 1,
        }
    }

    /// Nanoseconds from `now` until the timeline has moved by `distance`; on a stepped timeline
    /// they end on a step. [`u64::MAX`] for times that do not fit in 64 bits.
    #[inline(always)]
    pub const fn until(&self, now: u64, distance: u64) -> u64 {
        match *self {
            Self::Smooth { .. } => distance,
            Self::Stepped { .. } if distance == 0 => 0,
            Self::Stepped { tokens, period } => {
                let to_next = period - remainder(now, period);
                (ceiling(distance, tokens) - 1).saturating_mul(period).saturating_add(to_next)
            }
        }
    }

    /// The time at which the timeline has moved by `distance` since `now`; `None` when that is past
    /// the clock's end.
    pub(crate) const fn time_after(&self, now: u64, distance: u64) -> Option<u64> {
        match *self {
            Self::Smooth { .. } => now.checked_add(distance),
            Self::Stepped { .. } if distance == 0 => Some(now),
            Self::Stepped { tokens, period } => {
                let Some(step) = quotient(now, period).checked_add(ceiling(distance, tokens))
                else {
                    return None;
                };
                step.checked_mul(period)
            }
        }
    }

    /// The number of whole tokens that fit in a distance.
    #[inline(always)]
    pub(crate) const fn tokens_in(&self, distance: u64) -> u64 {
        quotient(distance, self.width())
    }

    /// The bucket's debt: how far `cell` lies ahead of the clock.
    #[inline(always)]
    pub(crate) const fn debt(&self, cell: u64, now: u64) -> u64 {
        cell.saturating_sub(self.position(now))
    }

    /// The cell of a bucket that owes `debt` at `now`.
    pub(crate) const fn cell_owing(&self, debt: u64, now: u64) -> u64 {
        self.position(now).saturating_add(debt)
    }

    /// Converts a debt to the timeline of another limit: in whole tokens, rounded up, so that a
    /// change of limit mints nothing. The result is at most [`MAX_SPAN`], which no limit's burst
    /// exceeds.
    pub const fn carry(&self, debt: u64, to: &Self) -> u64 {
        if self.width() == to.width() {
            return min(debt, MAX_SPAN);
        }
        min(ceiling(debt, self.width()).saturating_mul(to.width()), MAX_SPAN)
    }
}

const fn min(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

// The divisors are never 0, because a limit's fields are positive. These functions state that in a
// way in which the compiler needs no panic, so that it can leave out divisions whose results are
// not used.

const fn quotient(dividend: u64, divisor: u64) -> u64 {
    match dividend.checked_div(divisor) {
        Some(quotient) => quotient,
        None => u64::MAX,
    }
}

const fn remainder(dividend: u64, divisor: u64) -> u64 {
    match dividend.checked_rem(divisor) {
        Some(remainder) => remainder,
        None => 0,
    }
}

const fn ceiling(dividend: u64, divisor: u64) -> u64 {
    quotient(dividend, divisor).saturating_add((remainder(dividend, divisor) != 0) as u64)
}
