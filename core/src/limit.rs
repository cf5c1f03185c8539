//! Limits: how many tokens per period, and how many at once.

use crate::bounds::{
    MAX_RATE_PER_SECOND, MAX_SPAN, MAX_STEPPED_FILL, NANOS_PER_MILLI, NANOS_PER_SECOND,
};
use crate::error::{Error, Field};
use crate::timeline::Timeline;

/// How the tokens of a limit come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One token at a time, evenly: GCRA, which is a token bucket with
    /// continuous refill.
    Smooth,
    /// All of a period's tokens at once, on multiples of the period. With a
    /// burst of one period's tokens this is the fixed window.
    Stepped,
}

impl Shape {
    /// The name that every binding uses: `"smooth"` or `"stepped"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smooth => "smooth",
            Self::Stepped => "stepped",
        }
    }
}

/// How many tokens come per period, and how many may be spent at once.
///
/// Every `Limit` can be kept exactly, because its bounds are checked when it is built. Over any
/// stretch of time `X` a smooth bucket admits at most `burst + rate * X` tokens. So a limit of `10/s`
/// (burst 10) admits up to 20 in its first second; a lower burst admits less. A stepped bucket admits
/// at most `burst` and the tokens of each step within the stretch: `5000/h window` admits up to 10,000
/// within a moment around a full hour.
///
/// ```
/// use tidegate_core::Limit;
/// let limit: Limit = "100/min burst 20".parse()?;
/// assert_eq!((limit.tokens(), limit.burst()), (100, 20));
/// assert_eq!(Limit::smooth(100, 60_000_000_000, 20)?, limit);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    tokens: u64,
    period: u64,
    burst: u64,
    timeline: Timeline,
}

impl Limit {
    /// A token bucket with continuous refill: `tokens` per `period` nanoseconds,
    /// at most `burst` at once.
    ///
    /// # Errors
    /// An error that names the bound: fields of zero, more than [`MAX_RATE_PER_SECOND`], a rate that
    /// whole nanoseconds per token miss by more than 1 %, or a refill longer than [`MAX_SPAN`].
    pub const fn smooth(tokens: u64, period: u64, burst: u64) -> Result<Self, Error> {
        if let Err(error) = Self::check_fields(tokens, period, burst) {
            return Err(error);
        }
        let width = period.div_ceil(tokens);
        let lost = width as u128 * tokens as u128 - period as u128;
        if lost * 100 > period as u128 {
            return Err(Error::RateTooCoarse);
        }
        if burst as u128 * width as u128 > MAX_SPAN as u128 {
            return Err(Error::SpanTooLong);
        }
        Ok(Self { tokens, period, burst, timeline: Timeline::Smooth { width } })
    }

    /// A token bucket refilled in steps: `tokens` at every multiple of `period`
    /// nanoseconds, at most `burst` held.
    ///
    /// # Errors
    /// An error that names the bound: fields of zero, more than [`MAX_RATE_PER_SECOND`], a period
    /// that is not a whole number of milliseconds, a refill of more than a hundred years, or more
    /// than [`MAX_SPAN`] tokens in a step or in the burst.
    pub const fn stepped(tokens: u64, period: u64, burst: u64) -> Result<Self, Error> {
        if let Err(error) = Self::check_fields(tokens, period, burst) {
            return Err(error);
        }
        if !period.is_multiple_of(NANOS_PER_MILLI) {
            return Err(Error::SteppedPeriod);
        }
        let fill = burst.div_ceil(tokens) as u128 * period as u128;
        if tokens > MAX_SPAN || burst > MAX_SPAN || fill > MAX_STEPPED_FILL as u128 {
            return Err(Error::SteppedTooLong);
        }
        Ok(Self { tokens, period, burst, timeline: Timeline::Stepped { tokens, period } })
    }

    /// A fixed window: `tokens` in each window of `period` nanoseconds. Windows are aligned to the
    /// clock's zero.
    ///
    /// # Errors
    /// As [`stepped`](Self::stepped).
    pub const fn window(tokens: u64, period: u64) -> Result<Self, Error> {
        Self::stepped(tokens, period, tokens)
    }

    /// The smooth limit that keeps another service's sliding window: at most `count` calls arrive
    /// there in *any* `window` nanoseconds, if one call takes up to `jitter` nanoseconds longer to
    /// arrive than another.
    ///
    /// A bucket admits at most `burst + floor(X / width)` in a window `X`, so the width is the
    /// smallest with `burst + floor((window + jitter) / width) <= count`.
    ///
    /// # Errors
    /// A `burst` above `count`, and as [`smooth`](Self::smooth).
    pub const fn in_any(count: u64, window: u64, jitter: u64, burst: u64) -> Result<Self, Error> {
        if let Err(error) = Self::check_positive(count, window, burst) {
            return Err(error);
        }
        if burst > count {
            return Err(Error::BurstAboveWindow);
        }
        let Some(reach) = window.checked_add(jitter) else {
            return Err(Error::SpanTooLong);
        };
        let Some(reach) = reach.checked_add(1) else {
            return Err(Error::SpanTooLong);
        };
        // ceil((reach + 1) / n) is the smallest width with floor(reach / width) < n.
        Self::smooth(count - burst + 1, reach, burst)
    }

    /// Tokens per period.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The period, in nanoseconds.
    pub const fn period(&self) -> u64 {
        self.period
    }

    /// The most tokens that can be spent at once.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// How tokens come back.
    pub const fn shape(&self) -> Shape {
        match self.timeline {
            Timeline::Smooth { .. } => Shape::Smooth,
            Timeline::Stepped { .. } => Shape::Stepped,
        }
    }

    /// The timeline that this limit's cells are positions on.
    pub const fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// How far a wholly spent bucket's cell lies ahead of the timeline:
    /// `burst * width`, at most [`MAX_SPAN`].
    pub const fn span(&self) -> u64 {
        self.burst * self.timeline.width()
    }

    const fn check_fields(tokens: u64, period: u64, burst: u64) -> Result<(), Error> {
        if let Err(error) = Self::check_positive(tokens, period, burst) {
            return Err(error);
        }
        if tokens as u128 * NANOS_PER_SECOND as u128 > MAX_RATE_PER_SECOND as u128 * period as u128
        {
            return Err(Error::RateTooHigh);
        }
        Ok(())
    }

    const fn check_positive(tokens: u64, period: u64, burst: u64) -> Result<(), Error> {
        let field = if tokens == 0 {
            Field::Tokens
        } else if period == 0 {
            Field::Period
        } else if burst == 0 {
            Field::Burst
        } else {
            return Ok(());
        };
        Err(Error::NotPositive { field })
    }
}
