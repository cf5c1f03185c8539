//! The Lua twin against the engine: from the same bucket, clock, limits and cost,
//! the same next bucket. Equal steps make equal traces, by induction.
#![allow(unreachable_pub, reason = "a test has no outside")]

mod cases;

use cases::case;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use tidegate::redis::CHECK;
use tidegate_conformance::case::Case;
use tidegate_conformance::lua_twin::LuaTwin;
use tidegate_conformance::redis_server::RedisServer;

/// `make test-long` runs twenty times as many.
fn times() -> u32 {
    if std::env::var_os("TIDEGATE_TEST_LONG").is_some() { 20 } else { 1 }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Random steps in this process, a quarter of them on values never written by us.
#[test]
fn takes_the_engines_step() {
    let twin = LuaTwin::load(CHECK).expect("check.lua loads");
    TestRunner::new(config(60_000 * times()))
        .run(&case(), |case| {
            let outcome = twin.run(case.now, case.value.as_deref(), &case.arguments());
            let outcome = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?;
            case.compare(&outcome).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// The same in a real Redis, whose number formatting is the one that counts.
#[test]
fn takes_the_engines_step_in_redis() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let script = CHECK
        .replace("redis.call('TIME')", "{KEYS[2], KEYS[3]}")
        .replace("tonumber(time[2]) * 1000", "tonumber(time[2])");
    let mut runner = TestRunner::new(config(1));
    for _ in 0..8_000 * times() {
        let case: Case = case().new_tree(&mut runner).expect("a case").current();
        let laid = match &case.value {
            Some(value) => redis::cmd("SET").arg("bucket").arg(value).exec(&mut connection),
            None => redis::cmd("DEL").arg("bucket").exec(&mut connection),
        };
        laid.expect("the bucket is laid");
        let reply: redis::RedisResult<redis::Value> = redis::cmd("EVAL")
            .arg(&script)
            .arg(3)
            .arg("bucket")
            .arg(case.now / 1_000_000_000)
            .arg(case.now % 1_000_000_000)
            .arg(case.arguments())
            .query(&mut connection);
        let (after, ttl): (Option<Vec<u8>>, i64) = redis::pipe()
            .cmd("GET")
            .arg("bucket")
            .cmd("PTTL")
            .arg("bucket")
            .query(&mut connection)
            .expect("the bucket can be read");
        case.compare_redis(reply, after, ttl).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

/// Every constant, comparison and operator of the script matters: with any one of
/// them changed, some step differs. The few for which none can are listed.
#[test]
fn every_mutant_dies() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> =
        (0..6_000).map(|_| case().new_tree(&mut runner).expect("a case").current()).collect();
    let dies = |twin: &LuaTwin| {
        cases.iter().any(|case| {
            let outcome = twin.run(case.now, case.value.as_deref(), &case.arguments());
            outcome.map_or(true, |outcome| case.compare(&outcome).is_err())
        })
    };
    assert!(!dies(&LuaTwin::load(CHECK).expect("check.lua loads")), "the script itself differs");
    let mutants = cases::mutants(CHECK);
    assert!(mutants.len() > 100, "only {} mutants", mutants.len());
    let mut survivors = Vec::new();
    for mutant in &mutants {
        // What is not Lua any more is dead.
        let Ok(twin) = LuaTwin::load(&mutant.text) else { continue };
        if !dies(&twin) {
            survivors.push(mutant.name.as_str());
        }
    }
    assert_eq!(survivors, cases::EQUIVALENT_MUTANTS, "of {} mutants", mutants.len());
}
