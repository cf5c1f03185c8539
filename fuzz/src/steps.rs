//! The input of the target `steps`: a sequence of checks.

use arbitrary::{Arbitrary, Result, Unstructured};
use tidegate_core::{Decision, Limit};

use crate::bytes::{limits, number, write_limits, write_number};

const CALLS: usize = 200;

/// A sequence of checks on one bucket per limit.
#[derive(Clone, Debug)]
pub struct Steps {
    /// One to four limits.
    pub limits: Vec<Limit>,
    /// The checks, in order.
    pub calls: Vec<Call>,
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The movement of the clock before the check.
    pub clock: Move,
    /// The cost.
    pub cost: Cost,
}

/// A movement of the clock.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// The clock stands still.
    Stay,
    /// To a time, forward or backward.
    To(u64),
    /// Forward by this many nanoseconds.
    Forward(u64),
    /// Back by this many nanoseconds.
    Back(u64),
    /// Forward to the time at which the last refused call would be allowed, by its answer.
    Retry,
    /// Forward to one nanosecond before that.
    TickBeforeRetry,
    /// Forward to the time at which the bucket would be full, by the last answer.
    Reset,
}

/// The cost of a check.
#[derive(Clone, Copy, Debug)]
pub enum Cost {
    /// This many tokens.
    Exactly(u64),
    /// The remaining tokens of the last answer, and this many more.
    Remaining(u8),
    /// The smallest burst, and this many more.
    Burst(u8),
}

impl Move {
    /// The clock after the movement, which stops at both ends.
    pub fn from(self, now: u64, last: Option<&Decision>) -> u64 {
        let forward = |by: Option<u64>| now.saturating_add(by.unwrap_or(0));
        match self {
            Self::Stay => now,
            Self::To(time) => time,
            Self::Forward(by) => forward(Some(by)),
            Self::Back(by) => now.saturating_sub(by),
            Self::Retry => forward(last.map(|last| last.retry_after)),
            Self::TickBeforeRetry => forward(last.map(|last| last.retry_after.saturating_sub(1))),
            Self::Reset => forward(last.map(|last| last.reset_after)),
        }
    }
}

impl Cost {
    /// The cost as a number.
    pub fn tokens(self, limits: &[Limit], last: Option<&Decision>) -> u64 {
        match self {
            Self::Exactly(cost) => cost,
            Self::Remaining(more) => last.map_or(0, |last| last.remaining) + u64::from(more),
            Self::Burst(more) => {
                limits.iter().map(Limit::burst).min().unwrap_or(0) + u64::from(more)
            }
        }
    }
}

impl Steps {
    /// The bytes of an input that reads as checks at these times with these costs: the clock moves
    /// by [`Move::To`], and the costs are [`Cost::Exactly`].
    pub fn to_bytes(limits: &[Limit], calls: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_limits(limits, &mut bytes);
        for &(now, cost) in calls {
            bytes.push(1);
            write_number(now, &mut bytes);
            bytes.push(0);
            write_number(cost, &mut bytes);
        }
        bytes
    }
}

impl Arbitrary<'_> for Steps {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let limits = limits(input)?;
        let mut calls = Vec::new();
        while !input.is_empty() && calls.len() < CALLS {
            let clock = match input.arbitrary::<u8>()? % 7 {
                0 => Move::Stay,
                1 => Move::To(number(input)?),
                2 => Move::Forward(number(input)?),
                3 => Move::Back(number(input)?),
                4 => Move::Retry,
                5 => Move::TickBeforeRetry,
                _ => Move::Reset,
            };
            let cost = match input.arbitrary::<u8>()? % 3 {
                0 => Cost::Exactly(number(input)?),
                1 => Cost::Remaining(input.arbitrary::<u8>()? % 2),
                _ => Cost::Burst(input.arbitrary::<u8>()? % 2),
            };
            calls.push(Call { clock, cost });
        }
        Ok(Self { limits, calls })
    }
}
