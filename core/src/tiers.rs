//! Checks of a limiter with several limits.

use crate::bounds::MAX_TIERS;
use crate::cost::Cost;
use crate::decision::{Decision, TieredDecision};
use crate::error::Error;
use crate::gcra::{decide, describe_tier};
use crate::limit::Limit;

/// One cell per tier; those beyond the limiter's tiers stay zero.
pub type Cells = [u64; MAX_TIERS];

/// [`decide`] for a limiter of several limits: all allow, or none is charged.
///
/// The answer is that of the binding tier: the one with the longest `retry_after` when the call is
/// refused, the one with the least `remaining` when it is allowed, and the first on a tie.
///
/// # Errors
/// [`Error::TierCount`] unless there are one to [`MAX_TIERS`] limits, [`Error::CostCount`] when there
/// are not as many costs as limits, and [`Error::CostTooLarge`] when a cost is above the burst of its
/// limit.
///
/// ```
/// use tidegate_core::{Cells, Limit, decide_tiers};
/// let limits = [Limit::parse("10/s")?, Limit::parse("12/d window")?];
/// let mut cells = Cells::default();
/// assert_eq!(decide_tiers(&limits, &mut cells, 0, 10)?.tier, 0);
/// let later = 2_000_000_000;
/// let refused = decide_tiers(&limits, &mut cells, later, 3)?;
/// assert_eq!((refused.allowed, refused.tier), (false, 1));
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn decide_tiers(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    cost: impl Into<Cost>,
) -> Result<Decision, Error> {
    let cost = cost.into();
    check_cost(limits, &cost)?;
    let mut next = *cells;
    let mut binding: Option<Decision> = None;
    for (tier, (limit, cell)) in (0u8..).zip(limits.iter().zip(&mut next)) {
        let (mut decision, after) = decide(limit, *cell, now, cost.of_tier(usize::from(tier)))?;
        decision.tier = tier;
        *cell = after;
        if binding.is_none_or(|so_far| binds_over(&decision, &so_far)) {
            binding = Some(decision);
        }
    }
    let Some(decision) = binding else {
        return Err(Error::TierCount { count: 0 });
    };
    if decision.allowed {
        *cells = next;
    }
    Ok(decision)
}

/// [`decide_tiers`], which answers also what each limit says.
///
/// # Errors
/// As [`decide_tiers`].
///
/// ```
/// use tidegate_core::{Cells, Limit, decide_each_tier};
/// let limits = [Limit::parse("2/s")?, Limit::parse("100/h window")?];
/// let mut cells = Cells::default();
/// decide_each_tier(&limits, &mut cells, 0, 2)?;
/// let refused = decide_each_tier(&limits, &mut cells, 0, 1)?;
/// let [second, hour] = refused.tiers() else { panic!() };
/// assert_eq!((second.retry_after, second.remaining), (500_000_000, 0));
/// assert_eq!((hour.retry_after, hour.remaining), (0, 98)); // it alone would have allowed the call
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn decide_each_tier(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    cost: impl Into<Cost>,
) -> Result<TieredDecision, Error> {
    let (cost, before) = (cost.into(), *cells);
    let decision = decide_tiers(limits, cells, now, cost)?;
    Ok(describe_tiers(decision, limits, &before, now, &cost))
}

/// The decision about a check of `cost` on these buckets, as they were before it, with what each limit
/// says.
pub(crate) fn describe_tiers(
    decision: Decision,
    limits: &[Limit],
    cells: &[u64],
    now: u64,
    cost: &Cost,
) -> TieredDecision {
    if limits.len() == 1 {
        return decision.into();
    }
    let tiers = (0u8..).zip(limits.iter().zip(cells));
    TieredDecision::new(
        decision,
        tiers.map(|(tier, (limit, cell))| {
            let cost = cost.of_tier(usize::from(tier));
            describe_tier(tier, limit, *cell, now, cost, decision.allowed)
        }),
    )
}

/// What the buckets hold now: the answer to a check of cost 0.
pub(crate) fn look(limits: &[Limit], cells: &Cells, now: u64) -> Result<Decision, Error> {
    decide_tiers(limits, &mut { *cells }, now, 0)
}

/// Fails unless there are one to [`MAX_TIERS`] limits.
pub(crate) fn check_count(limits: &[Limit]) -> Result<(), Error> {
    if limits.is_empty() || limits.len() > MAX_TIERS {
        return Err(Error::TierCount { count: limits.len() });
    }
    Ok(())
}

/// Fails as [`check_count`] does, if there are not as many costs as limits, and if a cost is above the
/// burst of its limit.
pub(crate) fn check_cost(limits: &[Limit], cost: &Cost) -> Result<(), Error> {
    check_count(limits)?;
    cost.check_bursts(limits)
}

/// Fails as [`check_count`] does, and if there are not as many costs as limits.
pub(crate) fn check_costs_count(limits: &[Limit], costs: &[&Cost]) -> Result<(), Error> {
    check_count(limits)?;
    costs.iter().try_for_each(|cost| cost.check_count(limits.len()))
}

/// Whether a later tier's decision binds the answer instead of an earlier one's.
pub(crate) fn binds_over(candidate: &Decision, so_far: &Decision) -> bool {
    match (candidate.allowed, so_far.allowed) {
        (false, true) => true,
        (true, false) => false,
        (false, false) => candidate.retry_after > so_far.retry_after,
        (true, true) => candidate.remaining < so_far.remaining,
    }
}
