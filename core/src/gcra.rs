//! The decision for one limit: the generic cell rate algorithm (GCRA).

use crate::decision::{Decision, Source, TierDecision};
use crate::error::Error;
use crate::limit::Limit;

/// Decides whether `cost` tokens may be spent from the bucket `cell` at `now`. Answers the decision
/// and the bucket afterwards.
///
/// A cell is the bucket's theoretical arrival time on the limit's timeline;
/// zero is a bucket that was never used. `now` is in nanoseconds. A cost of 0 spends nothing and is
/// always allowed. A refusal returns the cell unchanged.
///
/// This is the generic cell rate algorithm (ITU-T I.371) in integers, in its
/// virtual scheduling form: `base = max(cell, position)`; allowed if
/// `base + cost * width - position <= burst * width`, and then the next cell is
/// `base + cost * width`. On a stepped timeline the same rule is a token bucket
/// that refills in steps.
///
/// # Errors
/// [`Error::CostTooLarge`] when `cost` is above the burst, so that the call could never be allowed.
///
/// ```
/// use tidegate_core::{Limit, decide};
/// let limit = Limit::parse("2/s")?;
/// let second = 1_000_000_000;
/// let (first, cell) = decide(&limit, 0, 7 * second, 2)?;
/// assert!(first.allowed && first.remaining == 0);
/// let (refused, cell) = decide(&limit, cell, 7 * second, 1)?;
/// assert_eq!((refused.allowed, refused.retry_after), (false, second / 2));
/// let (allowed, _) = decide(&limit, cell, 7 * second + refused.retry_after, 1)?;
/// assert!(allowed.allowed);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[inline(always)]
pub fn decide(limit: &Limit, cell: u64, now: u64, cost: u64) -> Result<(Decision, u64), Error> {
    let burst = limit.burst();
    if cost > burst {
        return Err(Error::CostTooLarge { cost, burst });
    }
    Ok(decide_affordable(limit, cell, now, cost))
}

/// [`decide`] for a cost that is known to be within the burst.
// Inlined, so that a caller that reads only part of the decision pays only for that part.
#[inline(always)]
pub(crate) fn decide_affordable(limit: &Limit, cell: u64, now: u64, cost: u64) -> (Decision, u64) {
    let timeline = limit.timeline();
    let position = timeline.position(now);
    let debt = cell.saturating_sub(position);
    let charge = cost * timeline.width();
    let room = limit.span() - charge;

    // Two separate paths instead of one with conditional moves, so that the branch predictor can
    // run ahead of the clock read.
    if debt <= room
        && cost != 0
        // A cell past 2^64 ns (the year 2554) does not exist: such a call is refused, and nothing
        // is minted.
        && let Some(next) = position.checked_add(debt + charge)
    {
        return (describe(limit, now, debt + charge, true, 0), next);
    }
    let retry_after = match position.checked_add(debt.saturating_add(charge)) {
        _ if cost == 0 => 0,
        Some(_) => timeline.until(now, debt - room),
        None => u64::MAX,
    };
    (describe(limit, now, debt, cost == 0, retry_after), cell)
}

/// The decision of an allowed check, made from the cell that it left.
#[inline(always)]
pub(crate) fn describe_charged(limit: &Limit, next: u64, now: u64) -> Decision {
    describe(limit, now, limit.timeline().debt(next, now), true, 0)
}

/// What a limit says to a check of `cost` on the bucket `cell`, if the check of all limits was
/// `allowed` or not. A check that was refused has charged nothing, also where this limit alone would
/// have allowed it.
#[inline(always)]
pub(crate) fn describe_tier(
    tier: u8,
    limit: &Limit,
    cell: u64,
    now: u64,
    cost: u64,
    allowed: bool,
) -> TierDecision {
    let mut decision = decide_affordable(limit, cell, now, cost).0;
    if decision.allowed && !allowed {
        decision = decide_affordable(limit, cell, now, 0).0;
    }
    TierDecision::from(&Decision { tier, ..decision })
}

#[inline(always)]
fn describe(limit: &Limit, now: u64, debt: u64, allowed: bool, retry_after: u64) -> Decision {
    let timeline = limit.timeline();
    Decision {
        allowed,
        limit: limit.burst(),
        remaining: timeline.tokens_in(limit.span().saturating_sub(debt)),
        retry_after,
        reset_after: timeline.until(now, debt),
        tier: 0,
        source: Source::Memory,
    }
}
