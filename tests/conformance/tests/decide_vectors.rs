//! `decide.json` on the engine, on the facade, and on the Lua twin in a real Redis.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate::redis::{CHECK, Seen, check_arguments, replay};
use tidegate::{Decision, Limit, Limiter, ManualClock, Source};
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::vectors::{DecideVectors, Step, Trace, compare, load};
use tidegate_core::{Cells, decide_tiers};

type Answer = Result<Decision, String>;

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
        let answer = decide_tiers(&limits(trace), cells, step.now(), step.cost);
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
        limiter.check(&step.key, step.cost).map_err(|error| error.code().to_owned())
    });
}

/// The script as it is, but for its clock, which comes in as KEYS[2] and [3], and
/// for the expiry, which would follow the server's own clock.
#[test]
fn lua_twin_in_redis() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let script = substitute(
        CHECK,
        &[
            ("redis.call('TIME')", "{KEYS[2], KEYS[3]}"),
            ("tonumber(time[2]) * 1000", "tonumber(time[2])"),
            (", 'PX', ttl + 1)", ")"),
        ],
    );
    run_all(Source::Redis, |trace, number, step| {
        let limits = limits(trace);
        let burst = limits.iter().map(Limit::burst).min().unwrap_or(0);
        if step.cost > burst {
            // Never sent: the client refuses it, as the facade's own test shows.
            return Err("cost_too_large".to_owned());
        }
        let now = step.now();
        let key = format!("{number}:{}", step.key);
        let (_, _, value): (u64, u64, Option<Vec<u8>>) = redis::cmd("EVAL")
            .arg(&script)
            .arg(3)
            .arg(&key)
            .arg(now / 1_000_000_000)
            .arg(now % 1_000_000_000)
            .arg(check_arguments(&limits, step.cost))
            .query(&mut connection)
            .expect("the script runs");
        let after: Option<Vec<u8>> =
            redis::cmd("GET").arg(&key).query(&mut connection).expect("the bucket can be read");
        let wrote = after != value;
        let decision = replay(&Seen { now, value }, key.as_bytes(), &limits, step.cost)
            .map_err(|error| error.code().to_owned())?;
        assert_eq!(wrote, decision.allowed && step.cost > 0, "{:?} at {}", trace.name, step.at);
        Ok(decision)
    });
}

fn substitute(script: &str, substitutions: &[(&str, &str)]) -> String {
    substitutions.iter().fold(script.to_owned(), |script, (from, to)| {
        assert_eq!(script.matches(from).count(), 1, "{from:?} must stand in the script once");
        script.replace(from, to)
    })
}
