//! `decide.json` on the engine, on the facade, and on the Lua twin in a real Redis.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate::bindings::Snapshot;
use tidegate::{Limit, Limiter, ManualClock, Source, TieredDecision};
use tidegate_conformance::case::call;
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::redis_twin::RedisTwin;
use tidegate_conformance::vectors::{DecideVectors, Step, Trace, compare, load};
use tidegate_core::{Cells, Operation, Outcome, decide_each_tier};

type Answer = Result<TieredDecision, String>;

/// Runs every step of every trace and reports all differences at once.
fn run_all(source: Source, mut check: impl FnMut(&Trace, usize, &Step) -> Answer) {
    let vectors: DecideVectors = load("decide.json");
    let mut steps = 0;
    let mut differences = Vec::new();
    for (number, trace) in vectors.traces.iter().enumerate() {
        for step in &trace.steps {
            steps += 1;
            let answer = check(trace, number, step);
            let answer = answer.as_ref().copied().map_err(String::as_str);
            differences.extend(compare(trace, step, answer, source).err());
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

fn limits(trace: &Trace) -> Vec<Limit> {
    let parse =
        |text: &String| Limit::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    trace.limits.iter().map(parse).collect()
}

#[test]
fn engine() {
    let mut buckets: HashMap<(usize, String), Cells> = HashMap::new();
    run_all(Source::Memory, |trace, number, step| {
        let cells = buckets.entry((number, step.key.clone())).or_default();
        let before = *cells;
        let answer = decide_each_tier(&limits(trace), cells, step.now(), step.cost);
        if !answer.is_ok_and(|decision| decision.allowed) {
            assert_eq!(*cells, before, "a refusal or an error changed the bucket");
        }
        answer.map_err(|error| error.code().to_owned())
    });
}

#[test]
fn facade_in_memory() {
    let mut limiters: HashMap<usize, (Limiter, Arc<ManualClock>)> = HashMap::new();
    run_all(Source::Memory, |trace, number, step| {
        let (limiter, clock) = limiters.entry(number).or_insert_with(|| {
            let clock = Arc::new(ManualClock::new(0));
            let builder = Limiter::builder().clock(clock.clone());
            let builder = trace.limits.iter().fold(builder, |builder, text| builder.limit(text));
            (builder.build().expect("the vectors' limits are valid"), clock)
        });
        clock.set(step.now());
        limiter.check_tiers(&step.key, step.cost).map_err(|error| error.code().to_owned())
    });
}

/// Runs the script in a real Redis, by the clock of the vectors.
#[test]
fn lua_twin_in_redis() {
    let server = RedisServer::start();
    let mut redis = RedisTwin::new(server.connect());
    let mut buckets: HashMap<(usize, String), [Option<Vec<u8>>; 1]> = HashMap::new();
    run_all(Source::Redis, |trace, number, step| {
        let limits = limits(trace);
        let code = |error: tidegate::Error| error.code().to_owned();
        let call = call(1, &limits, Operation::Check { cost: step.cost.into() }).map_err(code)?;
        let values = buckets.entry((number, step.key.clone())).or_default();
        let seen = Snapshot { now: step.now(), values: values.to_vec() };
        let ran = redis.run(&seen, &call);
        ran.apply_to(values);
        let outcome = call.answer_alone(Ok(seen.clone())).map_err(code);
        let Outcome::Decision(decision) = outcome? else { panic!("a check answers a decision") };
        let wrote = *values != seen.values[..];
        assert_eq!(wrote, decision.allowed && step.cost > 0, "{:?} at {}", trace.name, step.at);
        Ok(decision)
    });
}
