//! The traces of `operations.json` and `fixed.json`, for all that run them.

use serde::Deserialize;
use tidegate_core::Cost;

use crate::vectors::{Expected, load};

/// Traces of operations.
#[derive(Deserialize)]
struct Vectors {
    traces: Vec<Trace>,
}

/// Operations on one key's buckets, in order.
#[derive(Deserialize)]
pub struct Trace {
    /// What the trace shows.
    pub name: String,
    /// Texts of the limits.
    pub limits: Vec<String>,
    /// The operations.
    pub steps: Vec<Step>,
}

/// One operation, and what it answers.
#[derive(Deserialize)]
pub struct Step {
    /// The clock, in nanoseconds; absent if the time does not matter.
    pub at: Option<String>,
    /// The operation.
    #[serde(flatten)]
    pub operation: Operation,
    /// The answer, if there is one and it is no error.
    pub expect: Option<Answer>,
    /// The code of the error.
    pub error: Option<String>,
}

/// An operation as the vectors write it.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(missing_docs, reason = "documented where they are the engine's")]
pub enum Operation {
    Check { cost: Tokens },
    Peek { cost: Tokens },
    Reserve { cost: Tokens, max_wait: String, reservation: Option<String> },
    Cancel { reservation: String },
    Settle { charged: Tokens, actual: Tokens },
    Credit { tokens: Tokens },
    Hold { wait: String },
    Change { limits: Vec<String> },
    Reset,
}

/// Tokens as the vectors write them: one number for every limit, or one for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the numbers")]
pub enum Tokens {
    Same(u64),
    Each(Vec<u64>),
}

impl From<&Tokens> for Cost {
    fn from(tokens: &Tokens) -> Self {
        match tokens {
            Tokens::Same(tokens) => Self::same(*tokens),
            Tokens::Each(tokens) => Self::each(tokens).expect("one to four numbers"),
        }
    }
}

/// An answer as the vectors write it.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Answer {
    /// The answer to `cancel`.
    Cancelled {
        /// Whether all of it came back.
        restored: bool,
    },
    /// The answer to a reserve that got its slot.
    Slot {
        /// The time until the slot, in nanoseconds.
        delay: String,
        /// The buckets afterwards.
        #[serde(flatten)]
        decision: Expected,
    },
    /// The answer to every other operation.
    Decision(Expected),
}

impl Answer {
    /// Whether the operation may have changed the buckets.
    pub fn stands(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.allowed(),
            Self::Cancelled { .. } | Self::Slot { .. } => true,
        }
    }
}

impl Trace {
    /// Whether the trace has other numbers of limits after a change.
    pub fn changes_the_number_of_limits(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(&step.operation, Operation::Change { limits } if limits.len() != self.limits.len())
        })
    }
}

impl Step {
    /// Whether the step changes the limits and leaves it to the next one to carry the buckets over.
    pub fn changes_unseen(&self) -> bool {
        matches!(self.operation, Operation::Change { .. }) && self.expect.is_none()
    }

    fn expects(&self, got: &Result<Option<Answer>, String>) -> bool {
        match (got, &self.error) {
            (Ok(answer), None) => *answer == self.expect,
            (Err(error), Some(code)) => error == code,
            _ => false,
        }
    }
}

/// Runs every step of the file's wanted traces, each trace with a runner of its own.
///
/// # Panics
/// When answers differ; the message has all differences.
pub fn run_all<R: FnMut(&Step) -> Result<Option<Answer>, String>>(
    file: &str,
    wanted: impl Fn(&Trace) -> bool,
    mut new_runner: impl FnMut(&Trace) -> R,
) {
    let vectors: Vectors = load(file);
    let (mut steps, mut differences) = (0, Vec::new());
    for trace in vectors.traces.iter().filter(|trace| wanted(trace)) {
        let mut run = new_runner(trace);
        for (number, step) in trace.steps.iter().enumerate() {
            steps += 1;
            let got = run(step);
            if !step.expects(&got) {
                differences.push(format!(
                    "{:?} step {number} {:?}:\n expected {:?} {:?}\n      got {got:?}",
                    trace.name, step.operation, step.expect, step.error
                ));
            }
        }
    }
    assert!(steps > 0, "the vectors are empty");
    assert!(
        differences.is_empty(),
        "{} of {steps}:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
