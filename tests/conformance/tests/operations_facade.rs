//! `operations.json` on the limiter, in memory.
//!
//! Where a trace changes the limits, the calls that follow bring the new ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::{Error, Keys, Limiter, Limits, ManualClock, Reservation, TieredDecision};
use tidegate_conformance::operation_vectors::{self as vectors, Answer, Operation, Step};
use tidegate_conformance::vectors::nanos;

/// The form of the keys in a limiter's calls.
#[derive(Clone, Copy)]
enum Form {
    /// One key for all limits.
    OneKey,
    /// A key for each limit.
    KeyPerLimit,
}

/// Where the limits of a trace come from.
#[derive(Clone, Copy)]
enum Origin {
    /// The limiter has them.
    Limiter,
    /// Each call brings them, to a limiter that would refuse every call.
    Calls,
}

struct Subject {
    base: Limiter,
    /// The limiter under the limits that hold now.
    limiter: Limiter,
    clock: Arc<ManualClock>,
    form: Form,
    reservations: HashMap<String, Reservation>,
}

#[test]
fn with_one_key() {
    run_all("operations.json", Form::OneKey, Origin::Limiter);
}

#[test]
fn with_a_key_per_limit() {
    run_all("operations.json", Form::KeyPerLimit, Origin::Limiter);
}

#[test]
fn with_limits_of_the_calls() {
    run_all("operations.json", Form::OneKey, Origin::Calls);
    run_all("operations.json", Form::KeyPerLimit, Origin::Calls);
}

#[test]
fn limits_that_need_no_bucket() {
    for origin in [Origin::Limiter, Origin::Calls] {
        run_all("fixed.json", Form::OneKey, origin);
        run_all("fixed.json", Form::KeyPerLimit, origin);
    }
}

fn run_all(file: &str, form: Form, origin: Origin) {
    vectors::run_all(
        file,
        // With another number of keys the buckets are others.
        |trace| matches!(form, Form::OneKey) || !trace.changes_the_number_of_limits(),
        |trace| {
            let mut subject = Subject::new(&trace.limits, form, origin);
            move |step| {
                if let Some(at) = &step.at {
                    subject.clock.set(nanos(at));
                }
                subject.run(step).map_err(|error| error.code().to_owned())
            }
        },
    );
}

impl Subject {
    fn new(limits: &[String], form: Form, origin: Origin) -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let builder = Limiter::builder().clock(clock.clone());
        let builder = match origin {
            Origin::Limiter => limits.iter().fold(builder, |builder, text| builder.limit(text)),
            Origin::Calls => builder.limit("none"),
        };
        let limiter = builder.build().expect("the vectors' limits are valid");
        let base = limiter.clone();
        let mut subject = Self { base, limiter, clock, form, reservations: HashMap::new() };
        if matches!(origin, Origin::Calls) {
            subject.change(limits);
        }
        subject
    }

    fn change(&mut self, limits: &[String]) {
        let texts: Vec<&str> = limits.iter().map(String::as_str).collect();
        let limits = Limits::parse(&texts).expect("the vectors' limits are valid");
        self.limiter = self.base.with_limits(&limits).expect("memory takes limits");
    }

    fn run(&mut self, step: &Step) -> Result<Option<Answer>, Error> {
        if let Operation::Change { limits } = &step.operation {
            self.change(limits);
            if step.expect.is_none() {
                return Ok(None);
            }
        }
        let names: [&[u8]; 4] = [b"user", b"organisation", b"region", b"all"];
        let keys: Keys<'_> = match self.form {
            Form::OneKey => names[0].into(),
            Form::KeyPerLimit => names[..self.limiter.limits().len()].into(),
        };
        let limiter = &self.limiter;
        let decision = match &step.operation {
            Operation::Check { cost } => return tiers(limiter.check_tiers(keys, cost)?),
            Operation::Peek { cost } => return tiers(limiter.peek_tiers(keys, cost)?),
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
                assert_eq!(reservation.decision(), reservation.tiers().decision());
                let decision = (*reservation.tiers()).into();
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
            Operation::Change { .. } => return tiers(limiter.peek_tiers(keys, 0)?),
        };
        Ok(Some(Answer::Decision(decision.into())))
    }
}

fn tiers(tiered: TieredDecision) -> Result<Option<Answer>, Error> {
    Ok(Some(Answer::Decision(tiered.into())))
}
