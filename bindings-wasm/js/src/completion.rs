//! What follows from the outcome of an operation on buckets in Redis.

use std::sync::Arc;

use tidegate_core::{Cost, Operation, Outcome, Source};
use tidegate_protocol::{Error, RedisKeys};

use crate::client::LimiterAnswers;
use crate::host::{Guarded, LeaseKeeper};
use crate::shared_lines::{LineCall, Telling};

/// What follows from the outcome of an operation. It is one type, because the code that runs an
/// operation is compiled anew for each callback's type.
pub(crate) enum Completion {
    /// The call with this id is answered.
    Answer(LimiterAnswers, u32),
    /// The leases learn of a check, and its call is answered.
    Leased(Box<LeasedCheck>),
    /// A waiting line gets what it has asked for.
    Line(Box<LineCall>),
    /// The waiting lines learn of a hold or reset, and its call is answered.
    Telling(Box<Telling>),
}

/// A check that a leased slice could not decide.
pub(crate) struct LeasedCheck {
    pub(crate) leases: Arc<LeaseKeeper>,
    pub(crate) key: Vec<u8>,
    pub(crate) cost: Cost,
    pub(crate) answers: LimiterAnswers,
    pub(crate) id: u32,
}

impl Completion {
    /// Runs an operation, which ends with this completion.
    #[inline(never)]
    pub(crate) fn run(self, guarded: &Guarded, keys: RedisKeys, operation: Operation) {
        guarded.run(keys, operation, move |outcome| self.complete(outcome));
    }

    /// Takes the outcome.
    pub(crate) fn complete(self, outcome: Result<Outcome, Error>) {
        match self {
            Self::Answer(answers, id) => answers.put(id, outcome),
            Self::Leased(check) => check.complete(outcome),
            Self::Line(call) => call.complete(outcome),
            Self::Telling(telling) => telling.complete(outcome),
        }
    }
}

impl LeasedCheck {
    fn complete(self, outcome: Result<Outcome, Error>) {
        let answer = match &outcome {
            Ok(Outcome::Decision(decision)) if decision.source == Source::Redis => Some(decision),
            _ => None,
        };
        if !self.cost.is_zero() {
            self.leases.answered_directly(&self.key, &self.cost, answer);
        }
        self.answers.put(self.id, outcome);
    }
}
