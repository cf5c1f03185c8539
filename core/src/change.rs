//! Changes the limits of buckets that are in use.

use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_count};

/// Converts buckets from the limits `from` to the limits `to`, tier by tier.
///
/// A bucket's debt stays the same in whole tokens, rounded up. So raising a rate shortens the waits
/// that are already owed, and nothing is minted. A bucket that owes nothing is full under the new
/// limit too, as is the bucket of a new tier. Between limits whose tokens are equally wide the debt
/// stays exact.
///
/// A reservation that was made before a change must not be cancelled after it: the cells that it
/// remembers are those of the old limits.
///
/// # Errors
/// [`Error::TierCount`] for either set of limits.
///
/// ```
/// use tidegate_core::{Cells, Limit, change_limits, decide_tiers};
/// let (slow, fast) = ([Limit::parse("10/min")?], [Limit::parse("10/s")?]);
/// let mut cells = Cells::default();
/// let now = 7_000_000_000;
/// decide_tiers(&slow, &mut cells, now, 10)?;
/// change_limits(&slow, &fast, &mut cells, now)?;
/// assert_eq!(decide_tiers(&fast, &mut cells, now, 1)?.retry_after, 100_000_000);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn change_limits(
    from: &[Limit],
    to: &[Limit],
    cells: &mut Cells,
    now: u64,
) -> Result<(), Error> {
    check_count(from)?;
    check_count(to)?;
    let mut converted = Cells::default();
    for (((from, to), cell), after) in from.iter().zip(to).zip(*cells).zip(&mut converted) {
        *after = convert_bucket(from, to, cell, now);
    }
    *cells = converted;
    Ok(())
}

fn convert_bucket(from: &Limit, to: &Limit, cell: u64, now: u64) -> u64 {
    let (from, to) = (from.timeline(), to.timeline());
    if from == to {
        return cell;
    }
    match from.debt(cell, now) {
        0 => 0,
        debt => to.cell_owing(from.carry(debt, &to), now),
    }
}
