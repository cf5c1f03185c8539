//! `operations.json` on the engine, on the Lua twin, and on the twin in a real Redis.

use std::cell::RefCell;
use std::collections::HashMap;

use tidegate::bindings::{Call, SCRIPTS, Snapshot};
use tidegate_conformance::case::call;
use tidegate_conformance::lua_twin::{LuaTwin, Ran};
use tidegate_conformance::operation_vectors::{self as vectors, Answer, Operation, Step};
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::redis_twin::RedisTwin;
use tidegate_conformance::vectors::nanos;
use tidegate_core::{self as core, Cells, Limit, Outcome, Reservation, Reserved};

/// The buckets of a trace, in the place where they are tested.
trait Bucket {
    /// Runs an operation, which changes nothing if it fails.
    fn run(
        &mut self,
        limits: &[Limit],
        now: u64,
        operation: core::Operation,
    ) -> Result<Outcome, String>;

    /// Converts the buckets to other limits, unless the next operation under these does.
    fn change(&mut self, from: &[Limit], to: &[Limit], now: u64);

    /// The state of the buckets, for comparison.
    fn held(&self) -> String;
}

#[derive(Default)]
struct InEngine(Cells);

impl Bucket for InEngine {
    fn run(
        &mut self,
        limits: &[Limit],
        now: u64,
        operation: core::Operation,
    ) -> Result<Outcome, String> {
        core::apply(limits, &mut self.0, now, operation).map_err(|error| error.code().to_owned())
    }

    fn change(&mut self, from: &[Limit], to: &[Limit], now: u64) {
        core::change_limits(from, to, &mut self.0, now).expect("one to four limits");
    }

    fn held(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// A function that runs a script on the values of its keys.
type RunScript<'r> = dyn FnMut(&Snapshot, &Call) -> Ran + 'r;

/// Buckets in a Redis, be it a real or a fake one; there is one key for all tiers, or one for each.
struct InScripts<'r, 's> {
    values: Vec<Option<Vec<u8>>>,
    run_script: &'r RefCell<RunScript<'s>>,
}

impl Bucket for InScripts<'_, '_> {
    fn run(
        &mut self,
        limits: &[Limit],
        now: u64,
        operation: core::Operation,
    ) -> Result<Outcome, String> {
        let code = |error: tidegate::Error| error.code().to_owned();
        let call = call(self.values.len(), limits, operation).map_err(code)?;
        let seen = Snapshot { now, values: self.values.clone() };
        (self.run_script.borrow_mut())(&seen, &call).apply_to(&mut self.values);
        call.answer_alone(Ok(seen)).map_err(code)
    }

    fn change(&mut self, _from: &[Limit], _to: &[Limit], _now: u64) {}

    fn held(&self) -> String {
        format!("{:?}", self.values)
    }
}

#[test]
fn engine() {
    run_all(|_| InEngine::default());
}

#[test]
fn lua_twin() {
    let twins: HashMap<_, _> = SCRIPTS
        .map(|script| (script.name, LuaTwin::load(script.text()).expect("the script loads")))
        .into();
    let run = RefCell::new(|seen: &Snapshot, call: &Call| {
        twins[call.script.name].run(seen, &call.arguments).expect("the script runs")
    });
    for key_per_tier in [false, true] {
        run_in_scripts(&run, key_per_tier);
    }
}

#[test]
fn lua_twin_in_redis() {
    let server = RedisServer::start();
    let mut redis = RedisTwin::new(server.connect());
    let run = RefCell::new(|seen: &Snapshot, call: &Call| redis.run(seen, call));
    for key_per_tier in [false, true] {
        run_in_scripts(&run, key_per_tier);
    }
}

fn run_in_scripts(run_script: &RefCell<RunScript<'_>>, key_per_tier: bool) {
    run_all(|tiers| {
        let values = vec![None; if key_per_tier { tiers } else { 1 }];
        InScripts { values, run_script }
    });
}

/// Runs all traces, and checks that a refusal or an error changes nothing, unless it is the first
/// operation under other limits.
fn run_all<B: Bucket>(mut bucket_of: impl FnMut(usize) -> B) {
    vectors::run_all(
        "operations.json",
        |_| true,
        |trace| {
            let limits = parse(&trace.limits);
            let bucket = bucket_of(limits.len());
            let mut runner = Runner { limits, bucket, now: 0, reservations: HashMap::new() };
            let name = trace.name.clone();
            let mut is_first = false;
            move |step| {
                let before = runner.bucket.held();
                let got = runner.run(step);
                let was_first = std::mem::replace(&mut is_first, step.changes_unseen());
                if !was_first
                    && !matches!(&got, Ok(answer) if answer.as_ref().is_none_or(Answer::stands))
                {
                    assert_eq!(runner.bucket.held(), before, "{name:?} {:?}", step.operation);
                }
                got
            }
        },
    );
}

/// One trace being run.
struct Runner<B> {
    limits: Vec<Limit>,
    bucket: B,
    /// The clock of the last step, for steps without a time.
    now: u64,
    reservations: HashMap<String, Reservation>,
}

impl<B: Bucket> Runner<B> {
    fn run(&mut self, step: &Step) -> Result<Option<Answer>, String> {
        if let Some(at) = &step.at {
            self.now = nanos(at);
        }
        let operation = match &step.operation {
            Operation::Check { cost } => core::Operation::Check { cost: cost.into() },
            Operation::Peek { cost } => core::Operation::Peek { cost: cost.into() },
            Operation::Reserve { cost, max_wait, .. } => core::Operation::Reserve {
                cost: cost.into(),
                max_wait: nanos(max_wait),
                min_wait: 0,
            },
            Operation::Cancel { reservation } => core::Operation::Cancel(
                self.reservations.remove(reservation).expect("a slot that was given").charge,
            ),
            Operation::Settle { charged, actual } => {
                core::Operation::Settle { charged: charged.into(), actual: actual.into() }
            }
            Operation::Credit { tokens } => core::Operation::Credit { tokens: tokens.into() },
            Operation::Hold { wait } => core::Operation::Hold { wait: nanos(wait) },
            Operation::Change { limits } => {
                let to = parse(limits);
                self.bucket.change(&self.limits, &to, self.now);
                self.limits = to;
                if step.expect.is_none() {
                    return Ok(None);
                }
                core::Operation::Check { cost: 0.into() }
            }
            Operation::Reset => {
                self.bucket.run(&self.limits, self.now, core::Operation::Reset)?;
                return Ok(None);
            }
        };
        let outcome = self.bucket.run(&self.limits, self.now, operation)?;
        Ok(Some(match outcome {
            Outcome::Decision(decision) => Answer::Decision(decision.into()),
            Outcome::Cancelled(restored) => Answer::Cancelled { restored },
            Outcome::Reserved(Reserved::TooFar(decision)) => Answer::Decision(decision.into()),
            Outcome::Reserved(Reserved::Slot(slot)) => {
                let (delay, decision) = (slot.delay.to_string(), slot.decision.into());
                if let Operation::Reserve { reservation: Some(name), .. } = &step.operation {
                    self.reservations.insert(name.clone(), slot);
                }
                Answer::Slot { delay, decision }
            }
        }))
    }
}

fn parse(texts: &[String]) -> Vec<Limit> {
    let parse =
        |text: &String| Limit::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    texts.iter().map(parse).collect()
}
