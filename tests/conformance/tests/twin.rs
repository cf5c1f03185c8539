//! The Lua twin against the engine: from the same bucket, clock, limits and cost, both come to the
//! same next bucket. Equal steps make equal traces, by induction.
#![allow(unreachable_pub, reason = "a test has no outside")]

mod cases;

use std::cell::RefCell;
use std::collections::BTreeSet;

use cases::{case, checks};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use tidegate::bindings::{Call, SCRIPTS, Script, Snapshot, value};
use tidegate_conformance::case::{Case, Checks};
use tidegate_conformance::lua_twin::{LuaTwin, Ran};
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::redis_twin::RedisTwin;
use tidegate_core::Operation;

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
        Self::load_with("", "").expect("the scripts load")
    }

    /// The scripts that have this part, with another text in its place.
    fn load_with(part: &str, instead: &str) -> mlua::Result<Self> {
        let scripts =
            SCRIPTS.iter().filter(|script| part.is_empty() || script.parts.contains(&part));
        let load = |script: &&'static Script| {
            let texts = script.parts.iter().map(|&text| if text == part { instead } else { text });
            Ok((script.name, LuaTwin::load(&texts.collect::<String>())?))
        };
        scripts.map(load).collect::<mlua::Result<_>>().map(Self)
    }

    fn named(&self, name: &str) -> Option<&LuaTwin> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, twin)| twin)
    }

    fn compare(&self, case: &Case) -> Result<(), String> {
        let call = case.call();
        let twin = self.named(call.script.name).expect("a script");
        let ran = twin.run(&case.seen(), &call.arguments);
        case.compare(&ran.map_err(|error| format!("{case}: {error}"))?)
    }
}

/// Takes random steps in this process, a quarter of them on values that Tidegate never writes.
#[test]
fn takes_the_engines_step() {
    let twins = Twins::load();
    TestRunner::new(config(60_000 * times()))
        .run(&case(), |case| twins.compare(&case).map_err(TestCaseError::fail))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Many checks in one call have the result of the engine, which takes one after the other.
#[test]
fn takes_the_engines_steps_of_many_checks() {
    let twins = Twins::load();
    let compare = |checks: Checks| {
        let call = checks.call();
        let twin = twins.named(call.script.name).expect("a script");
        let ran = twin.run(&checks.seen(), &call.arguments);
        checks.compare(&ran.map_err(|error| format!("{checks:?}: {error}"))?)
    };
    TestRunner::new(config(30_000 * times()))
        .run(&checks(), |checks| compare(checks).map_err(TestCaseError::fail))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// These values are as long as a word of the script and compare as a refusal, but mean something
/// else.
#[test]
fn reads_values_that_only_look_like_a_refusal() {
    let twins = Twins::load();
    let now = 1_764_000_000_000_000_000;
    for value in ["100@176400000900000000 ", "100@1764000009 1@999999"] {
        let values = vec![Some(value.into()), None];
        let limits = vec!["10000000/s burst 100".parse().expect("a limit")];
        let checks = Checks { now, values, limits, checks: vec![(0, 1.into()), (1, 1.into())] };
        let twin = twins.named("check").expect("a script");
        let ran = twin.run(&checks.seen(), &checks.call().arguments).expect("a step");
        checks.compare(&ran).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// A clock that is set after the year 2286 is refused by name. Up to then, every debt can be written
/// and read.
#[test]
fn refuses_a_clock_that_is_set_wrong() {
    const LAST: u64 = 9_990_992_799_999_999_999;
    let twins = Twins::load();
    let server = RedisServer::start();
    let mut redis = RedisTwin::new(server.connect());
    let longest = vec!["1/9007199254740992ns".parse().expect("a limit")];
    let reserve = Operation::Reserve { cost: 1.into(), max_wait: u64::MAX, min_wait: 0 };
    let reset = Operation::Reset;
    for operation in [Operation::Check { cost: 1.into() }, reserve, reset] {
        let at = |now| Case { now, values: vec![None], limits: longest.clone(), operation };
        let call = at(LAST).call();
        let twin = twins.named(call.script.name).expect("a script");
        let ran = twin.run(&at(LAST).seen(), &call.arguments).expect("a step");
        let mut values = vec![None];
        ran.apply_to(&mut values);
        assert!(value::read(&values, &longest, LAST).is_ok(), "{values:?}");
        for (late, ran) in [
            (LAST + 1, twin.run(&at(LAST + 1).seen(), &call.arguments).expect("a step")),
            (LAST + 1, redis.run(&at(LAST + 1).seen(), &call)),
            (u64::MAX, redis.run(&at(u64::MAX).seen(), &call)),
        ] {
            let Ran::Failed(error) = ran else { panic!("at {late}: {ran:?}") };
            assert!(error.starts_with("CLOCK the clock of the store shows"), "{error}");
        }
    }
}

/// Takes many checks in one call of a real Redis.
#[test]
fn takes_the_engines_steps_of_many_checks_in_redis() {
    let server = RedisServer::start();
    let redis = RefCell::new(RedisTwin::new(server.connect()));
    TestRunner::new(config(4_000 * times()))
        .run(&checks(), |checks| {
            let ran = redis.borrow_mut().run(&checks.seen(), &checks.call());
            checks.compare_redis(&ran).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Takes random steps in a real Redis, whose number formatting is the one that counts.
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

/// Every constant, comparison and operator of the scripts matters: if one of them is changed, some
/// step differs. [`cases::EQUIVALENT_MUTANTS`] lists the few for which none can.
#[test]
fn every_mutant_dies() {
    let mut runner = TestRunner::deterministic();
    let mut cases: Vec<(Snapshot, Call, Ran)> = (0..20_000)
        .map(|_| case().new_tree(&mut runner).expect("a case").current())
        .chain(cases::edges())
        .map(|case| (case.seen(), case.call(), case.expected()))
        .collect();
    let many = (0..10_000)
        .map(|_| checks().new_tree(&mut runner).expect("checks").current())
        .map(|checks| (checks.seen(), checks.call(), checks.expected()));
    cases.extend(many);
    let dies = |twins: &Twins| {
        cases.iter().any(|(seen, call, expected)| {
            let Some(twin) = twins.named(call.script.name) else { return false };
            twin.run(seen, &call.arguments).map_or(true, |ran| !ran.is(expected))
        })
    };
    assert!(!dies(&Twins::load()), "the scripts themselves differ");
    let parts: BTreeSet<&str> = SCRIPTS.iter().flat_map(|script| script.parts).copied().collect();
    let (mut count, mut survivors) = (0, Vec::new());
    for part in parts {
        for mutant in cases::mutants(part) {
            count += 1;
            // A mutant that is not valid Lua counts as dead.
            let Ok(twins) = Twins::load_with(part, &mutant.text) else { continue };
            if !dies(&twins) {
                survivors.push(mutant.name);
            }
        }
    }
    assert!(count > 250, "only {count} mutants");
    let survivors: BTreeSet<&str> = survivors.iter().map(String::as_str).collect();
    let equivalent = cases::EQUIVALENT_MUTANTS.iter().copied().collect();
    let surprises: Vec<_> = survivors.symmetric_difference(&equivalent).collect();
    assert!(surprises.is_empty(), "of {count} mutants: {surprises:#?}");
}
