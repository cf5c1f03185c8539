//! The Lua twin against the engine: from the same bucket, clock, limits and cost,
//! the same next bucket. Equal steps make equal traces, by induction.
#![allow(unreachable_pub, reason = "a test has no outside")]

mod cases;

use std::cell::RefCell;

use cases::case;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidegate::redis::SCRIPTS;
use tidegate_conformance::case::Case;
use tidegate_conformance::lua_twin::LuaTwin;
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::redis_twin::RedisTwin;

/// `make test-long` runs twenty times as many.
fn times() -> u32 {
    if std::env::var_os("TIDEGATE_TEST_LONG").is_some() { 20 } else { 1 }
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_local_rejects: u32::MAX,
        ..Config::default()
    }
}

/// The scripts, loaded, by their operation's name.
struct Twins(Vec<(&'static str, LuaTwin)>);

impl Twins {
    fn load() -> Self {
        let load = |script: &&'static tidegate::redis::Script| {
            (script.name, LuaTwin::load(script.text()).expect("the script loads"))
        };
        Self(SCRIPTS.iter().map(load).collect())
    }

    fn compare(&self, case: &Case) -> Result<(), String> {
        let call = case.call();
        let (_, twin) =
            self.0.iter().find(|(name, _)| *name == call.script.name).expect("a script");
        let ran = twin.run(&case.seen(), &call.arguments);
        case.compare(&ran.map_err(|error| format!("{case}: {error}"))?)
    }
}

/// Random steps in this process, a quarter of them on values never written by us.
#[test]
fn takes_the_engines_step() {
    let twins = Twins::load();
    TestRunner::new(config(60_000 * times()))
        .run(&case(), |case| twins.compare(&case).map_err(TestCaseError::fail))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// The same in a real Redis, whose number formatting is the one that counts.
#[test]
fn takes_the_engines_step_in_redis() {
    let server = RedisServer::start();
    let redis = RefCell::new(RedisTwin::new(server.connect()));
    TestRunner::new(config(8_000 * times()))
        .run(&case(), |case| {
            let ran = redis.borrow_mut().run(&case.seen(), &case.call());
            case.compare_redis(&ran).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
