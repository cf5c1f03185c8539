//! Decisions and failures in the form in which JavaScript reads them.

use napi_derive::napi;
use tidegate::{Decision, Error, Source};

use crate::millis::{in_count, in_millis};

/// The length of a [`record`].
pub(crate) const RECORD: usize = 5;

/// A decision as numbers: its [`status`], then `limit`, `remaining`, `retryAfterMs` and
/// `resetAfterMs`. `readDecision` in `lib/decision.js` of the WebAssembly package reads it.
///
/// Numbers, because making an object with names takes longer than everything else that is done for
/// a decision.
pub(crate) fn record(decision: &Decision) -> [f64; RECORD] {
    let [status, remaining, retry_after_ms, reset_after_ms] = local_record(decision);
    [status, in_count(decision.limit), remaining, retry_after_ms, reset_after_ms]
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
