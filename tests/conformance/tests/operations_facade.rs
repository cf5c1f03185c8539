//! `operations.json` on the limiter, in memory.
//!
//! Traces that change the limits are the engine's alone: a limiter's limits are fixed, and
//! its buckets in memory are its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tidegate::{Error, Keys, Limiter, ManualClock, Reservation};
use tidegate_conformance::vectors::{Expected, load, nanos};

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
    at: Option<String>,
    #[serde(flatten)]
    operation: Operation,
    expect: Option<Answer>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Operation {
    Check { cost: u64 },
    Reserve { cost: u64, max_wait: String, reservation: Option<String> },
    Cancel { reservation: String },
    Settle { charged: u64, actual: u64 },
    Credit { tokens: u64 },
    Hold { wait: String },
    Change {},
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

/// What is said of the limiter: its keys take one of two forms.
#[derive(Clone, Copy)]
enum Form {
    OneKey,
    KeyPerLimit,
}

struct Subject {
    limiter: Limiter,
    clock: Arc<ManualClock>,
    form: Form,
    reservations: HashMap<String, Reservation>,
}

#[test]
fn with_one_key() {
    run_all(Form::OneKey);
}

#[test]
fn with_a_key_per_limit() {
    run_all(Form::KeyPerLimit);
}

fn run_all(form: Form) {
    let vectors: Vectors = load("operations.json");
    let (mut steps, mut differences) = (0, Vec::new());
    for trace in vectors.traces.iter().filter(|trace| !changes_limits(trace)) {
        let mut subject = Subject::new(&trace.limits, form);
        for (number, step) in trace.steps.iter().enumerate() {
            steps += 1;
            if let Some(at) = &step.at {
                subject.clock.set(nanos(at));
            }
            let got = subject.run(&step.operation);
            let same = match (&got, &step.error) {
                (Ok(_), None) if matches!(step.operation, Operation::Reset) => true,
                (Ok(answer), None) => Some(answer) == step.expect.as_ref(),
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

fn changes_limits(trace: &Trace) -> bool {
    trace.steps.iter().any(|step| matches!(step.operation, Operation::Change {}))
}

impl Subject {
    fn new(limits: &[String], form: Form) -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let builder = Limiter::builder().clock(clock.clone());
        let builder = limits.iter().fold(builder, |builder, text| builder.limit(text));
        let limiter = builder.build().expect("the vectors' limits are valid");
        Self { limiter, clock, form, reservations: HashMap::new() }
    }

    fn run(&mut self, operation: &Operation) -> Result<Answer, Error> {
        let names: [&[u8]; 4] = [b"user", b"organisation", b"region", b"all"];
        let keys: Keys<'_> = match self.form {
            Form::OneKey => names[0].into(),
            Form::KeyPerLimit => names[..self.limiter.limits().len()].into(),
        };
        let limiter = &self.limiter;
        let decision = match operation {
            Operation::Check { cost } => limiter.check(keys, *cost)?,
            Operation::Settle { charged, actual } => limiter.settle(keys, *charged, *actual)?,
            Operation::Credit { tokens } => limiter.credit(keys, *tokens)?,
            Operation::Hold { wait } => limiter.hold(keys, Duration::from_nanos(nanos(wait)))?,
            Operation::Reset => {
                let decision = limiter.reset(keys)?;
                assert_eq!(decision.remaining, decision.limit, "a bucket is full after a reset");
                decision
            }
            Operation::Cancel { reservation } => {
                let reservation = self.reservations.remove(reservation).expect("a given slot");
                return Ok(Answer::Cancelled { restored: reservation.cancel()? });
            }
            Operation::Reserve { cost, max_wait, reservation: name } => {
                let max_wait = Duration::from_nanos(nanos(max_wait));
                let reservation = limiter.reserve(keys, *cost, Some(max_wait))?;
                let decision = (*reservation.decision()).into();
                if !reservation.allowed() {
                    return Ok(Answer::Decision(decision));
                }
                assert_eq!(reservation.cost(), *cost);
                let delay = reservation.delay().as_nanos().to_string();
                if let Some(name) = name {
                    self.reservations.insert(name.clone(), reservation);
                }
                return Ok(Answer::Slot { delay, decision });
            }
            Operation::Change {} => unreachable!("such traces are left out"),
        };
        Ok(Answer::Decision(decision.into()))
    }
}
