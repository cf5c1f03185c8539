//! `operations.json` on the limiter, in memory.
//!
//! Traces that change the limits run on the engine and in Redis only: a limiter's limits are fixed,
//! and its buckets in memory are its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::{Error, Keys, Limiter, ManualClock, Reservation};
use tidegate_conformance::operation_vectors::{self as vectors, Answer, Operation};
use tidegate_conformance::vectors::nanos;

/// The form of the keys in a limiter's calls.
#[derive(Clone, Copy)]
enum Form {
    /// One key for all limits.
    OneKey,
    /// A key for each limit.
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
    run_all("operations.json", Form::OneKey);
}

#[test]
fn with_a_key_per_limit() {
    run_all("operations.json", Form::KeyPerLimit);
}

#[test]
fn limits_that_need_no_bucket() {
    run_all("fixed.json", Form::OneKey);
    run_all("fixed.json", Form::KeyPerLimit);
}

fn run_all(file: &str, form: Form) {
    vectors::run_all(
        file,
        |trace| !trace.changes_limits(),
        |trace| {
            let mut subject = Subject::new(&trace.limits, form);
            move |step| {
                if let Some(at) = &step.at {
                    subject.clock.set(nanos(at));
                }
                subject.run(&step.operation).map_err(|error| error.code().to_owned())
            }
        },
    );
}

impl Subject {
    fn new(limits: &[String], form: Form) -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let builder = Limiter::builder().clock(clock.clone());
        let builder = limits.iter().fold(builder, |builder, text| builder.limit(text));
        let limiter = builder.build().expect("the vectors' limits are valid");
        Self { limiter, clock, form, reservations: HashMap::new() }
    }

    fn run(&mut self, operation: &Operation) -> Result<Option<Answer>, Error> {
        let names: [&[u8]; 4] = [b"user", b"organisation", b"region", b"all"];
        let keys: Keys<'_> = match self.form {
            Form::OneKey => names[0].into(),
            Form::KeyPerLimit => names[..self.limiter.limits().len()].into(),
        };
        let limiter = &self.limiter;
        let decision = match operation {
            Operation::Check { cost } => limiter.check(keys, cost)?,
            Operation::Peek { cost } => limiter.peek(keys, cost)?,
            Operation::Settle { charged, actual } => limiter.settle(keys, charged, actual)?,
            Operation::Credit { tokens } => limiter.credit(keys, tokens)?,
            Operation::Hold { wait } => limiter.hold(keys, Duration::from_nanos(nanos(wait)))?,
            Operation::Reset => {
                let decision = limiter.reset(keys)?;
                assert_eq!(decision.remaining, decision.limit, "a bucket is full after a reset");
                return Ok(None);
            }
            Operation::Cancel { reservation } => {
                let reservation = self.reservations.remove(reservation).expect("a given slot");
                return Ok(Some(Answer::Cancelled { restored: reservation.cancel()? }));
            }
            Operation::Reserve { cost, max_wait, reservation: name } => {
                let max_wait = Duration::from_nanos(nanos(max_wait));
                let reservation = limiter.reserve(keys, cost, Some(max_wait))?;
                let decision = (*reservation.decision()).into();
                if !reservation.allowed() {
                    return Ok(Some(Answer::Decision(decision)));
                }
                assert_eq!(reservation.cost(), cost.into());
                let delay = reservation.delay().as_nanos().to_string();
                if let Some(name) = name {
                    self.reservations.insert(name.clone(), reservation);
                }
                return Ok(Some(Answer::Slot { delay, decision }));
            }
            Operation::Change { .. } => unreachable!("such traces are left out"),
        };
        Ok(Some(Answer::Decision(decision.into())))
    }
}
