//! The encoding of limits and numbers in an input, with its reader and its writer.
//!
//! A number is one byte, which says by how many bits it is shorter than 64, then its eight bytes.
//! That makes numbers of every magnitude equally likely.

use arbitrary::{Result, Unstructured};
use tidegate_core::{Limit, MAX_TIERS, Shape};

const MILLI: u64 = 1_000_000;

/// Reads a number.
///
/// # Errors
/// The errors of [`Unstructured`]. An input that has run out is not one: it reads as zeros.
pub fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    let shorter: u8 = input.arbitrary()?;
    let bits: u64 = input.arbitrary()?;
    Ok(bits & (u64::MAX >> (shorter % 64)))
}

/// Writes a number.
pub fn write_number(number: u64, bytes: &mut Vec<u8>) {
    bytes.push(0);
    bytes.extend(number.to_le_bytes());
}

/// Reads one to four limits, and leaves out limits that are out of bounds.
///
/// # Errors
/// When no limit is left.
pub fn limits(input: &mut Unstructured<'_>) -> Result<Vec<Limit>> {
    let count = 1 + usize::from(input.arbitrary::<u8>()?) % MAX_TIERS;
    let mut limits = Vec::new();
    for _ in 0..count {
        limits.extend(limit(input)?);
    }
    if limits.is_empty() { Err(arbitrary::Error::IncorrectFormat) } else { Ok(limits) }
}

/// Writes limits as [`limits`] reads them.
pub fn write_limits(limits: &[Limit], bytes: &mut Vec<u8>) {
    bytes.extend((limits.len() - 1).to_le_bytes().first());
    for limit in limits {
        bytes.push(match limit.shape() {
            Shape::Smooth => 0,
            Shape::Stepped => 1,
        });
        write_number(limit.tokens(), bytes);
        write_number(limit.period(), bytes);
        write_number(limit.burst(), bytes);
    }
}

fn limit(input: &mut Unstructured<'_>) -> Result<Option<Limit>> {
    let stepped = input.arbitrary::<u8>()? % 2 == 1;
    let (tokens, period, burst) = (number(input)?, number(input)?, number(input)?);
    Ok(if stepped {
        Limit::stepped(tokens, period / MILLI * MILLI, burst).ok()
    } else {
        Limit::smooth(tokens, period, burst).ok()
    })
}
