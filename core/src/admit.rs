//! Refuses calls that can never be allowed, before any store is asked.

use crate::error::Error;
use crate::limit::Limit;
use crate::operation::{Operation, OperationKind};
use crate::tiers::{check_cost, check_count};

/// Refuses calls for which no bucket needs to be asked: those of a limiter without limits or with
/// too many, or with another number of costs, and checks, peeks and reservations whose cost is above
/// a burst, for which no wait would be long enough.
///
/// The engine's own functions repeat the comparison where a call to this would cost too much.
/// Every host calls this before it asks a store, so that a call that can never be allowed fails at
/// once and alike everywhere.
///
/// # Errors
/// [`Error::TierCount`], [`Error::CostCount`] and [`Error::CostTooLarge`].
///
/// ```
/// use tidegate_core::{Error, Limit, Operation, admit};
/// let limits = [Limit::parse("10/s")?, Limit::parse("4/min")?];
/// assert!(admit(&limits, &Operation::Check { cost: 4.into() }).is_ok());
/// let refused = admit(&limits, &Operation::Check { cost: 5.into() });
/// assert_eq!(refused, Err(Error::CostTooLarge { cost: 5, burst: 4 }));
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn admit(limits: &[Limit], operation: &Operation) -> Result<(), Error> {
    match operation.kind() {
        OperationKind::Check(cost)
        | OperationKind::Peek(cost)
        | OperationKind::Reserve { cost, .. } => check_cost(limits, &cost),
        OperationKind::Cancel(_) | OperationKind::Correction(_) => {
            check_count(limits)?;
            operation.check_costs(limits.len())
        }
    }
}
