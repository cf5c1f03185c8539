//! Decisions and failures in the form in which JavaScript reads them.

use napi_derive::napi;
use tidegate::{Decision, Error, Source, TierDecision, TieredDecision};

use crate::millis::{in_count, in_millis};

/// The least length of a [`record`].
pub(crate) const RECORD: usize = 5;

/// Appends a decision as numbers: its [`status`], then `limit`, `remaining`, `retryAfterMs` and
/// `resetAfterMs`, and then these four for each limit if that of several is known; the status has
/// their number, times 64. `readDecision` in `lib/decision.js` of the WebAssembly package reads it.
///
/// Numbers, because making an object with names takes longer than everything else that is done for
/// a decision.
pub(crate) fn record(tiered: &TieredDecision, numbers: &mut Vec<f64>) {
    let said = match tiered.tiers() {
        [_] => &[],
        said => said,
    };
    numbers.push(f64::from(status(tiered)) + 64.0 * said.len() as f64);
    for said in core::iter::once(&TierDecision::from(tiered.decision())).chain(said) {
        numbers.extend([
            in_count(said.limit),
            in_count(said.remaining),
            in_millis(said.retry_after),
            in_millis(said.reset_after),
        ]);
    }
}

/// The [`record`] of a decision.
pub(crate) fn record_of(tiered: &TieredDecision) -> Vec<f64> {
    let mut numbers = Vec::with_capacity(RECORD);
    record(tiered, &mut numbers);
    numbers
}

/// The [`local_record`] of a decision, and then `remaining`, `retryAfterMs` and `resetAfterMs` of each
/// limit that did not bind the answer.
pub(crate) fn local_record_of_tiers(tiered: &TieredDecision) -> Vec<f64> {
    let mut numbers = local_record(tiered).to_vec();
    for said in tiered.tiers().iter().filter(|said| said.tier != tiered.tier) {
        numbers.extend([
            in_count(said.remaining),
            in_millis(said.retry_after),
            in_millis(said.reset_after),
        ]);
    }
    numbers
}

/// The [`record`] of a decision of this process, without `limit`: such a decision is by a whole
/// limit, whose burst JavaScript knows. Each number costs time where the check itself takes little.
pub(crate) fn local_record(decision: &Decision) -> [f64; RECORD - 1] {
    [
        status(decision).into(),
        in_count(decision.remaining),
        in_millis(decision.retry_after),
        in_millis(decision.reset_after),
    ]
}

/// Eight times the index of the source in [`Source::ALL`], plus twice the tier, plus one if allowed.
fn status(decision: &Decision) -> u32 {
    decision.source as u32 * 8 + u32::from(decision.tier) * 2 + u32::from(decision.allowed)
}

// JavaScript reads the index of a source in `Source::ALL`, and `status` writes its discriminant.
const _: () = {
    let mut index = 0;
    while index < Source::ALL.len() {
        assert!(Source::ALL[index] as usize == index);
        index += 1;
    }
};

/// An error of Tidegate, which JavaScript turns into an instance of its class.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// The stable code of the class.
    pub code: &'static str,
    /// The stable name of the bound that an invalid limit broke.
    pub reason: Option<&'static str>,
    /// The message, in words.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), reason: error.reason(), message: error.to_string() }
    }
}
