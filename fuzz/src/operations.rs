//! The input of the target `operations`: a sequence of operations.

use arbitrary::{Arbitrary, Result, Unstructured};
use tidegate_core::Limit;

use crate::bytes::{limits, number, write_limits, write_number};

const CALLS: usize = 200;

/// A sequence of operations on one bucket per limit.
#[derive(Clone, Debug)]
pub struct Operations {
    /// One to four limits.
    pub limits: Vec<Limit>,
    /// The operations, in order.
    pub calls: Vec<Call>,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The clock, in nanoseconds.
    pub now: u64,
    /// The operation.
    pub step: Step,
}

/// An operation; a cancel names one of the earlier reservations by a number.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented where they are the core's")]
pub enum Step {
    Check { cost: u64 },
    Peek { cost: u64 },
    Reserve { cost: u64, max_wait: u64 },
    Cancel { which: u8 },
    Settle { charged: u64, actual: u64 },
    Credit { tokens: u64 },
    Hold { wait: u64 },
    Reset,
}

impl Operations {
    /// The bytes of an input that reads as these operations.
    pub fn to_bytes(limits: &[Limit], calls: &[Call]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_limits(limits, &mut bytes);
        for call in calls {
            bytes.push(0);
            write_number(call.now, &mut bytes);
            let (kind, numbers) = match call.step {
                Step::Check { cost } => (0, vec![cost]),
                Step::Peek { cost } => (1, vec![cost]),
                Step::Reserve { cost, max_wait } => (2, vec![cost, max_wait]),
                Step::Cancel { which } => {
                    bytes.extend([4, which]);
                    continue;
                }
                Step::Settle { charged, actual } => (6, vec![charged, actual]),
                Step::Credit { tokens } => (7, vec![tokens]),
                Step::Hold { wait } => (8, vec![wait]),
                Step::Reset => (9, vec![]),
            };
            bytes.push(kind);
            numbers.into_iter().for_each(|number| write_number(number, &mut bytes));
        }
        bytes
    }
}

impl Arbitrary<'_> for Operations {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let limits = limits(input)?;
        let mut calls = Vec::new();
        let mut now: u64 = 0;
        while !input.is_empty() && calls.len() < CALLS {
            now = match input.arbitrary::<u8>()? % 4 {
                0 => number(input)?,
                1 => now.saturating_add(number(input)?),
                2 => now.saturating_sub(number(input)?),
                _ => now,
            };
            let step = match input.arbitrary::<u8>()? % 10 {
                0 => Step::Check { cost: number(input)? },
                1 => Step::Peek { cost: number(input)? },
                2 | 3 => Step::Reserve { cost: number(input)?, max_wait: number(input)? },
                4 | 5 => Step::Cancel { which: input.arbitrary()? },
                6 => Step::Settle { charged: number(input)?, actual: number(input)? },
                7 => Step::Credit { tokens: number(input)? },
                8 => Step::Hold { wait: number(input)? },
                _ => Step::Reset,
            };
            calls.push(Call { now, step });
        }
        Ok(Self { limits, calls })
    }
}
