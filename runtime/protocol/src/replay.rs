//! The answer to a script's step, taken again from what the script saw.

use tidegate_core::{Cells, Charge, Limit, MAX_SPAN, Operation, Outcome, apply};

use crate::value;

/// The engine's step on a stored bucket, which the script must take too: the answer, and
/// the cells afterwards.
///
/// # Errors
/// Those of the operation.
pub fn step(
    stored: &value::Stored,
    limits: &[Limit],
    now: u64,
    operation: Operation,
) -> Result<(Outcome, Cells), tidegate_core::Error> {
    let compared = match &operation {
        Operation::Cancel(charge) => as_cancel_compares(stored, limits, now, charge),
        _ => stored.cells,
    };
    let mut cells = compared;
    let outcome = apply(limits, &mut cells, now, operation)?;
    for ((cell, compared), stored) in cells.iter_mut().zip(compared).zip(stored.cells) {
        if *cell == compared {
            *cell = stored;
        }
    }
    Ok((outcome, cells))
}

/// The cells in which a cancel finds what its reservation left, or not.
///
/// A bucket that is gone was full, which is what the reservation left once time has paid
/// it. One written under another limit has been changed since, and one that owes
/// [`MAX_SPAN`] may have been forgiven a part: neither gives anything back.
fn as_cancel_compares(
    stored: &value::Stored,
    limits: &[Limit],
    now: u64,
    charge: &Charge,
) -> Cells {
    let mut cells = stored.cells;
    for (tier, (cell, limit)) in cells.iter_mut().zip(limits).enumerate() {
        let (after, position) = (charge.after[tier], limit.timeline().position(now));
        match stored.own[tier] {
            None if after <= position => *cell = after,
            Some(true) if cell.saturating_sub(position) < MAX_SPAN => {}
            _ => *cell = !after,
        }
    }
    cells
}
