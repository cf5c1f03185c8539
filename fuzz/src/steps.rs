//! A sequence of checks, as an input.

use arbitrary::{Arbitrary, Result, Unstructured};
use tidegate_core::{Decision, Limit};

use crate::bytes::{limits, number, write_limits, write_number};

const CALLS: usize = 200;

/// Checks on one bucket per limit.
#[derive(Clone, Debug)]
pub struct Steps {
    /// One to four.
    pub limits: Vec<Limit>,
    /// In their order.
    pub calls: Vec<Call>,
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// How the clock moves before it.
    pub clock: Move,
    /// Tokens.
    pub cost: Cost,
}

/// A movement of the clock.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// None.
    Stay,
    /// To a time, forward or backward.
    To(u64),
    /// So many nanoseconds on.
    Forward(u64),
    /// So many nanoseconds back.
    Back(u64),
    /// On to when the last refusal said that its call would be allowed.
    Retry,
    /// On to one nanosecond before that.
    TickBeforeRetry,
    /// On to when the last answer said that its bucket would be full.
    Reset,
}

/// How many tokens are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Cost {
    /// So many.
    Exactly(u64),
    /// What the last answer said was left, and so many more.
    Remaining(u8),
    /// The smallest burst, and so many more.
    Burst(u8),
}

impl Move {
    /// The clock afterwards, which stops at both ends.
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
    /// The bytes that read as these steps, if the clock moves only by [`Move::To`]
    /// and the costs are [`Cost::Exactly`] known.
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
