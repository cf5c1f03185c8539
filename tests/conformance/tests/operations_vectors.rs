//! `operations.json` on the engine.

use std::collections::HashMap;

use serde::Deserialize;
use tidegate_conformance::vectors::{Expected, load, nanos};
use tidegate_core::{
    Cells, Decision, Error, Limit, Reservation, Reserved, cancel, change_limits, credit,
    decide_tiers, hold, reserve, reset, settle,
};

#[derive(Deserialize)]
struct Vectors {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    name: String,
    limits: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(flatten)]
    operation: Operation,
    expect: Option<Answer>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Operation {
    Check { at: String, cost: u64 },
    Reserve { at: String, cost: u64, max_wait: String, reservation: Option<String> },
    Cancel { reservation: String },
    Settle { at: String, charged: u64, actual: u64 },
    Credit { at: String, tokens: u64 },
    Hold { at: String, wait: String },
    Change { at: String, limits: Vec<String> },
    Reset,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Answer {
    Cancelled {
        restored: bool,
    },
    Slot {
        delay: String,
        #[serde(flatten)]
        decision: Expected,
    },
    Decision(Expected),
}

#[test]
fn engine() {
    let vectors: Vectors = load("operations.json");
    let mut steps = 0;
    let mut differences = Vec::new();
    for trace in &vectors.traces {
        let mut bucket = Bucket {
            limits: parse(&trace.limits),
            cells: Cells::default(),
            reservations: HashMap::new(),
        };
        for (number, step) in trace.steps.iter().enumerate() {
            steps += 1;
            let before = bucket.cells;
            let got = bucket.run(&step.operation);
            let refused = !matches!(&got, Ok(answer) if answer.as_ref().is_none_or(Answer::stands));
            if refused {
                assert_eq!(bucket.cells, before, "{:?} step {number} changed", trace.name);
            }
            let same = match (&got, &step.error) {
                (Ok(answer), None) => *answer == step.expect,
                (Err(error), Some(code)) => error.code() == code,
                _ => false,
            };
            if !same {
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

struct Bucket {
    limits: Vec<Limit>,
    cells: Cells,
    reservations: HashMap<String, Reservation>,
}

impl Bucket {
    fn run(&mut self, operation: &Operation) -> Result<Option<Answer>, Error> {
        let Self { limits, cells, reservations } = self;
        let decision = match operation {
            Operation::Check { at, cost } => decide_tiers(limits, cells, nanos(at), *cost)?,
            Operation::Reserve { at, cost, max_wait, reservation } => {
                match reserve(limits, cells, nanos(at), *cost, nanos(max_wait))? {
                    Reserved::TooFar(decision) => decision,
                    Reserved::Slot(slot) => {
                        let delay = slot.delay.to_string();
                        let decision = slot.decision.into();
                        if let Some(name) = reservation {
                            reservations.insert(name.clone(), slot);
                        }
                        return Ok(Some(Answer::Slot { delay, decision }));
                    }
                }
            }
            Operation::Cancel { reservation } => {
                let slot = reservations.remove(reservation).expect("a slot that was given");
                return Ok(Some(Answer::Cancelled { restored: cancel(slot, cells) }));
            }
            Operation::Settle { at, charged, actual } => {
                settle(limits, cells, nanos(at), *charged, *actual)?
            }
            Operation::Credit { at, tokens } => credit(limits, cells, nanos(at), *tokens)?,
            Operation::Hold { at, wait } => hold(limits, cells, nanos(at), nanos(wait))?,
            Operation::Change { at, limits: texts } => {
                let to = parse(texts);
                change_limits(limits, &to, cells, nanos(at))?;
                *limits = to;
                decide_tiers(limits, cells, nanos(at), 0)?
            }
            Operation::Reset => {
                reset(cells);
                return Ok(None);
            }
        };
        Ok(Some(Answer::of(decision)))
    }
}

impl Answer {
    fn of(decision: Decision) -> Self {
        Self::Decision(decision.into())
    }

    /// Whether the operation may have changed the buckets.
    fn stands(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.allowed(),
            Self::Cancelled { .. } | Self::Slot { .. } => true,
        }
    }
}

fn parse(texts: &[String]) -> Vec<Limit> {
    let parse =
        |text: &String| Limit::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    texts.iter().map(parse).collect()
}
