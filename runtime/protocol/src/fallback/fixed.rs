//! The answers of the policies that decide nothing: allow all, refuse all.

use tidegate_core::{
    Cells, Charge, Decision, Limit, Operation, Outcome, Reservation, Reserved, Source,
    TierDecision, TieredDecision, apply,
};

use crate::breaker::Outage;
use crate::error::Error;

/// Answers a check, a peek or a reservation as a bucket never used would, and charges nothing for it. Any
/// other operation would have to be kept, so its answer is the store's error.
pub(super) fn allow(
    limits: &[Limit],
    operation: Operation,
    now: u64,
    error: Error,
) -> Result<Outcome, Error> {
    let kept = !matches!(
        operation,
        Operation::Check { .. } | Operation::Peek { .. } | Operation::Reserve { .. }
    );
    if kept {
        return Err(error);
    }
    let mut outcome =
        apply(limits, &mut Cells::default(), now, operation).map_err(Error::from_engine)?;
    if let Outcome::Reserved(Reserved::Slot(slot)) = &mut outcome {
        // A later settle charges all of what was used, because nothing is charged anywhere yet.
        slot.charge = Charge::default();
    }
    Ok(outcome.from_source(Source::Fallback))
}

/// A refusal until the store is asked again; a look finds nothing left. What would have to be
/// kept is the store's error.
pub(super) fn deny(
    limits: &[Limit],
    operation: Operation,
    outage: Outage,
    error: Error,
) -> Result<Outcome, Error> {
    let (Operation::Check { cost } | Operation::Peek { cost } | Operation::Reserve { cost, .. }) =
        operation
    else {
        return Err(error);
    };
    let decision = Decision {
        allowed: cost.is_zero(),
        limit: limits.first().map_or(0, Limit::burst),
        remaining: 0,
        retry_after: if cost.is_zero() { 0 } else { outage.retry_in },
        reset_after: outage.retry_in,
        tier: 0,
        source: Source::Fallback,
    };
    let each = (0u8..).zip(limits).map(|(tier, limit)| TierDecision {
        tier,
        limit: limit.burst(),
        ..TierDecision::from(&decision)
    });
    let decision = TieredDecision::new(decision, each);
    Ok(match operation {
        Operation::Reserve { .. } if cost.is_zero() => {
            let charge = Charge { source: Source::Fallback, ..Charge::default() };
            Outcome::Reserved(Reserved::Slot(Reservation { delay: 0, decision, charge }))
        }
        Operation::Reserve { .. } => Outcome::Reserved(Reserved::TooFar(decision)),
        _ => Outcome::Decision(decision),
    })
}
