//! Concurrency permits that expire: the permits of a key in memory, the script call for those in Redis,
//! and the desk at which the callers of one process ask for them.

mod call;
mod desk;
mod once;
mod set;
#[cfg(test)]
mod tests;

pub use call::PermitCall;
pub use desk::{DeskOptions, PermitAction, PermitDesk};
pub use once::call_permits;
pub use set::PermitSet;

use tidegate_core::{PermitAnswer, PermitAsk};

/// How long permits and places in the line last, and how many of each there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitTerms {
    /// The number of permits.
    pub limit: u64,
    /// How long a permit lasts unless it is renewed, in nanoseconds.
    pub ttl: u64,
    /// How long a caller keeps its place in the line without being heard of, in nanoseconds.
    pub wait: u64,
    /// How many callers may wait.
    pub max_line: u64,
}

/// One caller's part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitStep {
    /// What the caller asks.
    pub ask: PermitAsk,
    /// The caller, by a name that no other has.
    pub id: String,
}

/// The answer to a call: what each step has come to, and the permits of the key afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermitReply {
    /// The number of permits that are held.
    pub live: u64,
    /// The number of callers that wait.
    pub line: u64,
    /// The time until the next permit or the next place in the line expires, in nanoseconds; `None`
    /// if there is neither.
    pub next: Option<u64>,
    /// The answer to each step.
    pub answers: Vec<PermitAnswer>,
}

#[cfg(test)]
impl PermitReply {
    /// The answers alone.
    pub(crate) fn of(answers: Vec<PermitAnswer>) -> Self {
        Self { answers, ..Self::default() }
    }
}
