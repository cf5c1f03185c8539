//! The answers of the policies that decide nothing: allow all, refuse all.

use tidegate_core::{
    Cells, Decision, Limit, Operation, Outcome, Reservation, Reserved, Source, apply,
};

use super::Asked;
use crate::breaker::Outage;
use crate::error::Error;

/// The answer of a bucket never used. What would have to be kept is the store's error.
pub(super) fn allow(
    limits: &[Limit],
    asked: Asked,
    now: u64,
    error: Error,
) -> Result<Outcome, Error> {
    let operation = match asked {
        Asked::Check { cost } => Operation::Check { cost },
        Asked::Reserve { cost, max_wait } => Operation::Reserve { cost, max_wait },
        _ => return Err(error),
    };
    let mut outcome =
        apply(limits, &mut Cells::default(), now, operation).map_err(Error::from_engine)?;
    if let Some(decision) = outcome.decision_mut() {
        decision.source = Source::Fallback;
    }
    Ok(outcome)
}

/// A refusal until the store is asked again; a look finds nothing left. What would have to be
/// kept is the store's error.
pub(super) fn deny(
    limits: &[Limit],
    asked: Asked,
    outage: Outage,
    error: Error,
) -> Result<Outcome, Error> {
    let (Asked::Check { cost } | Asked::Reserve { cost, .. }) = asked else {
        return Err(error);
    };
    let decision = Decision {
        allowed: cost == 0,
        limit: limits.first().map_or(0, Limit::burst),
        remaining: 0,
        retry_after: if cost == 0 { 0 } else { outage.retry_in },
        reset_after: outage.retry_in,
        tier: 0,
        source: Source::Fallback,
    };
    Ok(match asked {
        Asked::Reserve { cost: 0, .. } => {
            let (before, after) = Default::default();
            let slot = Reservation { delay: 0, decision, cost: 0, before, after };
            Outcome::Reserved(Reserved::Slot(slot))
        }
        Asked::Reserve { .. } => Outcome::Reserved(Reserved::TooFar(decision)),
        _ => Outcome::Decision(decision),
    })
}
