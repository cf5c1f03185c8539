//! Answers as objects and numbers of JavaScript.

use napi::bindgen_prelude::Either4;
use napi_derive::napi;
use tidegate::bindings::CancelOnDrop;
use tidegate::{Decision, Error, Reservation, Source};

use crate::reservation::NativeReservation;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// A decision, in JavaScript's units.
#[napi(object, object_from_js = false)]
pub struct Answer {
    /// Whether the cost was charged.
    pub allowed: bool,
    /// The index of the limit that bound the answer.
    pub tier: u8,
    /// That limit's burst, or that of this process's share of it.
    pub limit: f64,
    /// Whole tokens that limit could still spend.
    pub remaining: f64,
    /// Whole milliseconds, rounded up, so that waiting for as long is always enough.
    pub retry_after_ms: f64,
    /// Whole milliseconds, rounded up.
    pub reset_after_ms: f64,
    /// Where the bucket lives.
    pub source: &'static str,
}

/// What came of a reserve.
#[napi(object, object_from_js = false)]
pub struct Reserved {
    /// The buckets after the charge; refused, when there was none.
    pub decision: Answer,
    /// Whole milliseconds until the slot, rounded up.
    pub delay_ms: f64,
    /// What cancels it.
    pub native: NativeReservation,
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

/// How many [`numbers`] a decision is.
pub(crate) const NUMBERS: usize = 7;

/// A decision as numbers: the index of the limit that bound it, 1 if it is allowed or else 0, the
/// index of its source in [`SOURCES`], and what an [`Answer`] has of `limit`, `remaining`,
/// `retry_after_ms` and `reset_after_ms`.
pub(crate) fn numbers(decision: &Decision) -> [f64; NUMBERS] {
    let Answer { allowed, tier, limit, remaining, retry_after_ms, reset_after_ms, .. } =
        Answer::from(decision);
    let source = SOURCES.iter().position(|source| *source == decision.source).unwrap_or_default();
    let source = source as f64;
    let (tier, allowed) = (tier.into(), allowed.into());
    [tier, allowed, source, limit, remaining, retry_after_ms, reset_after_ms]
}

/// In the order of their numbers.
const SOURCES: [Source; 5] =
    [Source::Memory, Source::Shm, Source::Redis, Source::Lease, Source::Fallback];

/// The names of the sources, in the order of the numbers that stand for them.
#[napi]
pub fn source_names() -> Vec<&'static str> {
    SOURCES.iter().map(|source| source.as_str()).collect()
}

/// What a limiter answers, on its way to JavaScript.
pub(crate) enum Reply {
    Decision(Decision),
    Decisions(Vec<Decision>),
    /// Cancelled if it never gets there.
    Reservation(CancelOnDrop),
    Cancelled(bool),
}

/// A [`Reply`] as JavaScript sees it.
pub(crate) type Answered = Either4<Answer, Vec<Answer>, Reserved, bool>;

/// Hands a reply over to JavaScript.
pub(crate) fn hand_over(reply: Reply) -> Result<Answered, Error> {
    Ok(match reply {
        Reply::Decision(decision) => Either4::A((&decision).into()),
        Reply::Decisions(decisions) => Either4::B(decisions.iter().map(Answer::from).collect()),
        Reply::Reservation(reservation) => Either4::C(reservation.claim()?.into()),
        Reply::Cancelled(all) => Either4::D(all),
    })
}

impl From<&Decision> for Answer {
    fn from(decision: &Decision) -> Self {
        Self {
            allowed: decision.allowed,
            tier: decision.tier,
            limit: decision.limit as f64,
            remaining: decision.remaining as f64,
            retry_after_ms: in_millis(decision.retry_after),
            reset_after_ms: in_millis(decision.reset_after),
            source: decision.source.as_str(),
        }
    }
}

impl From<Reservation> for Reserved {
    fn from(reservation: Reservation) -> Self {
        Self {
            decision: reservation.decision().into(),
            delay_ms: reservation.delay().as_nanos().div_ceil(NANOS_PER_MILLI.into()) as f64,
            native: NativeReservation::new(reservation),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), reason: error.reason(), message: error.to_string() }
    }
}

/// Whole milliseconds, rounded up.
fn in_millis(nanos: u64) -> f64 {
    nanos.div_ceil(NANOS_PER_MILLI) as f64
}
