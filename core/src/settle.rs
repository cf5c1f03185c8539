//! Corrects a charge once its true size is known.

use crate::bounds::MAX_SPAN;
use crate::cost::Cost;
use crate::credit::credit_bucket;
use crate::decision::Decision;
use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_costs_count, look};

/// Corrects a charge once its true size is known: `charged` tokens were taken by a
/// check or a reservation, `actual` were used (tokens of a language model, bytes).
/// Answers what the buckets then hold, as a check of cost 0 would.
///
/// Tokens that were used beyond the charge are taken in any case, also above the burst: the bucket
/// then owes them, and time pays. A bucket owes at most [`MAX_SPAN`] (2^53 ns of a smooth limit,
/// 2^53 tokens of a stepped one); the rest is forgiven. Tokens that were not used are given back as
/// by [`credit`](crate::credit), with its bound.
///
/// # Errors
/// [`Error::TierCount`] and [`Error::CostCount`].
///
/// ```
/// use tidegate_core::{Cells, Limit, decide_tiers, settle};
/// let limits = [Limit::parse("60_000/min")?];
/// let mut cells = Cells::default();
/// assert_eq!(decide_tiers(&limits, &mut cells, 7, 4_000)?.remaining, 56_000);
/// assert_eq!(settle(&limits, &mut cells, 7, 4_000, 1_000)?.remaining, 59_000);
/// assert_eq!(settle(&limits, &mut cells, 7, 0, 60_000)?.remaining, 0);
/// assert!(!decide_tiers(&limits, &mut cells, 7, 1)?.allowed);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn settle(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    charged: impl Into<Cost>,
    actual: impl Into<Cost>,
) -> Result<Decision, Error> {
    let (charged, actual) = (charged.into(), actual.into());
    check_costs_count(limits, &[&charged, &actual])?;
    for (tier, (limit, cell)) in limits.iter().zip(cells.iter_mut()).enumerate() {
        *cell = settle_bucket(limit, *cell, now, charged.of_tier(tier), actual.of_tier(tier));
    }
    look(limits, cells, now)
}

pub(crate) fn settle_bucket(limit: &Limit, cell: u64, now: u64, charged: u64, actual: u64) -> u64 {
    if actual > charged {
        charge_bucket(limit, cell, now, actual - charged)
    } else {
        credit_bucket(limit, cell, now, charged - actual)
    }
}

/// Charges the bucket in any case, up to a debt of [`MAX_SPAN`].
fn charge_bucket(limit: &Limit, cell: u64, now: u64, tokens: u64) -> u64 {
    let timeline = limit.timeline();
    let debt = timeline.debt(cell, now);
    let owed = debt.saturating_add(tokens.saturating_mul(timeline.width())).min(MAX_SPAN);
    if owed > debt { timeline.cell_owing(owed, now) } else { cell }
}
