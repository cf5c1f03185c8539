//! Gives tokens back: some of them, or all.

use crate::cost::Cost;
use crate::decision::Decision;
use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_costs_count, look};

/// Gives `tokens` back to every bucket, up to full. Answers what the buckets then hold, as a check
/// of cost 0 would.
///
/// Tokens given back can be spent from now on. A stretch of time then holds at most the bound of a
/// check, plus the tokens that were given back in it or while its slots were being handed out.
///
/// # Errors
/// [`Error::TierCount`] and [`Error::CostCount`].
///
/// ```
/// use tidegate_core::{Cells, Limit, credit, decide_tiers};
/// let limits = [Limit::parse("10/s")?];
/// let mut cells = Cells::default();
/// assert_eq!(decide_tiers(&limits, &mut cells, 7, 10)?.remaining, 0);
/// assert_eq!(credit(&limits, &mut cells, 7, 3)?.remaining, 3);
/// assert_eq!(credit(&limits, &mut cells, 7, 99)?.remaining, 10);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn credit(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    tokens: impl Into<Cost>,
) -> Result<Decision, Error> {
    let tokens = tokens.into();
    check_costs_count(limits, &[&tokens])?;
    for (tier, (limit, cell)) in limits.iter().zip(cells.iter_mut()).enumerate() {
        *cell = credit_bucket(limit, *cell, now, tokens.of_tier(tier));
    }
    look(limits, cells, now)
}

/// Forgets the debts of all buckets, holds included: each is full.
///
/// ```
/// use tidegate_core::{Cells, Limit, decide_tiers, reset};
/// let limits = [Limit::parse("10/s")?];
/// let mut cells = Cells::default();
/// decide_tiers(&limits, &mut cells, 7, 10)?;
/// reset(&mut cells);
/// assert_eq!(decide_tiers(&limits, &mut cells, 7, 0)?.remaining, 10);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn reset(cells: &mut Cells) {
    *cells = Cells::default();
}

pub(crate) fn credit_bucket(limit: &Limit, cell: u64, now: u64, tokens: u64) -> u64 {
    let timeline = limit.timeline();
    let debt = timeline.debt(cell, now);
    let owed = debt.saturating_sub(tokens.saturating_mul(timeline.width()));
    if owed < debt { timeline.cell_owing(owed, now) } else { cell }
}
