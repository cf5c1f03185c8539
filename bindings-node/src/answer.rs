use napi::Either;
use napi_derive::napi;
use tidegate::{Decision, Error};

const NANOS_PER_MILLI: u64 = 1_000_000;

/// A decision, in JavaScript's units.
#[napi(object, object_from_js = false)]
pub struct Answer {
    /// Whether the cost was charged.
    pub allowed: bool,
    /// The index of the limit that bound the answer.
    pub tier: u8,
    /// Whole tokens that limit could still spend.
    pub remaining: f64,
    /// Whole milliseconds, rounded up, so that waiting for as long is always enough.
    pub retry_after_ms: f64,
    /// Whole milliseconds, rounded up.
    pub reset_after_ms: f64,
}

/// An error of Tidegate, which JavaScript turns into an instance of its class.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// The stable code of the class.
    pub code: &'static str,
    /// The stable name of the bound that an invalid limit broke.
    pub reason: Option<&'static str>,
    /// What went wrong, in words.
    pub message: String,
}

impl From<&Decision> for Answer {
    fn from(decision: &Decision) -> Self {
        Self {
            allowed: decision.allowed,
            tier: decision.tier,
            remaining: decision.remaining as f64,
            retry_after_ms: decision.retry_after.div_ceil(NANOS_PER_MILLI) as f64,
            reset_after_ms: decision.reset_after.div_ceil(NANOS_PER_MILLI) as f64,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), reason: error.reason(), message: error.to_string() }
    }
}

pub(crate) fn answer_or_failure(outcome: &Result<Decision, Error>) -> Either<Answer, Failure> {
    match outcome {
        Ok(decision) => Either::A(decision.into()),
        Err(error) => Either::B(error.into()),
    }
}
