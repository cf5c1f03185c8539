use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_count};

/// Carries buckets over from the limits `from` to the limits `to`, tier by tier.
///
/// What a bucket owes stays the same in whole tokens, rounded up: raising a rate
/// shortens the waits already owed, and nothing is minted. A bucket that owes nothing
/// is full under the new limit too, as is one of a tier that is new. Between limits
/// whose tokens are equally wide the debt stays exact.
///
/// A change is charged to nobody, so a reservation made before it can no
/// longer be cancelled: do not cancel across it.
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
    let mut carried = Cells::default();
    for (((from, to), cell), after) in from.iter().zip(to).zip(*cells).zip(&mut carried) {
        *after = carry_bucket(from, to, cell, now);
    }
    *cells = carried;
    Ok(())
}

fn carry_bucket(from: &Limit, to: &Limit, cell: u64, now: u64) -> u64 {
    let (from, to) = (from.timeline(), to.timeline());
    if from == to {
        return cell;
    }
    match from.debt(cell, now) {
        0 => 0,
        debt => to.cell_owing(from.carry(debt, &to), now),
    }
}
