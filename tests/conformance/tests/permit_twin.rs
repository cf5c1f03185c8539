//! The script of permits against the engine: from the same keys, clock and steps, both come to the same
//! answers and the same next state. The traces of `permits.json` run here too.
#![allow(unreachable_pub, reason = "a test has no outside")]

#[allow(dead_code, reason = "only its mutants are of use here")]
mod cases;

use std::collections::BTreeSet;

use cases::mutants;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use tidegate::bindings::{PERMITS, PermitReply, PermitSet, PermitStep, PermitTerms};
use tidegate_conformance::permit_twin::{
    LAST, PermitCase, PermitTwin, Permitted, Stored, run_in_redis,
};
use tidegate_conformance::redis_server::RedisServer;
use tidegate_core::{PermitAnswer, PermitAsk};

const NOW: u64 = 1_764_000_000_123_456;
const MICRO: u64 = 1_000;

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_local_rejects: u32::MAX, ..Config::default() }
}

fn id() -> impl Strategy<Value = String> {
    prop::sample::select((0..9).map(|id| format!("caller-{id}")).collect::<Vec<_>>())
}

fn until() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => 1..40_000_000_u64,
        2 => 0..3_u64,
        // Another caller's ttl may be longer, or the clock have stepped back.
        1 => 0..100_000_000_000_u64,
    ]
    .prop_flat_map(
        |ahead| prop_oneof![8 => Just((NOW + ahead) as f64), 1 => Just((NOW - ahead) as f64)],
    )
}

/// The three sets: those who wait are the same in two of them, unless a server has evicted one.
fn keys() -> impl Strategy<Value = [Stored; 3]> {
    let holders = prop::collection::btree_map(id(), until(), 0..6);
    let waiters = prop::collection::btree_map(id(), (1..20_u64, until()), 0..6);
    let foreign = prop::sample::select(vec![
        None,
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
        Some(-1.0),
        Some(0.5),
        Some(LAST + 2.0),
        Some(LAST),
        Some(0.0),
    ]);
    let damage = prop_oneof![
        30 => Just(None),
        4 => (0..3_usize, foreign).prop_map(Some),
        1 => (0..3_usize).prop_map(|key| Some((key + 3, None))),
    ];
    (holders, waiters, damage).prop_map(|(holders, mut waiters, damage)| {
        waiters.retain(|id, _| !holders.contains_key(id));
        let mut orders = BTreeSet::new();
        waiters.retain(|_, (order, _)| orders.insert(*order));
        let line = waiters.iter().map(|(id, (order, _))| (id.clone(), *order as f64)).collect();
        let waits = waiters.iter().map(|(id, (_, until))| (id.clone(), *until)).collect();
        let mut keys = [Stored::Set(holders), Stored::Set(line), Stored::Set(waits)];
        match damage {
            None => {}
            Some((key @ 0..3, None)) => keys[key] = Stored::Other,
            Some((key, None)) => keys[key - 3] = Stored::default(),
            Some((key, Some(score))) => {
                // The callers that wait must be the same in both sets, or the script starts afresh.
                let places: &[usize] = if key == 0 { &[0] } else { &[1, 2] };
                for place in places {
                    if let Stored::Set(set) = &mut keys[*place] {
                        // A place after the last one cannot be told from it.
                        let score = if *place == 1 && score == LAST { 100.0 } else { score };
                        let given = if *place == key { score } else { NOW as f64 + 7.0 };
                        set.insert("a stranger".into(), given);
                    }
                }
            }
        }
        keys
    })
}

fn case() -> impl Strategy<Value = PermitCase> {
    let ask = prop_oneof![
        4 => Just(PermitAsk::Enter),
        1 => Just(PermitAsk::TryEnter),
        1 => Just(PermitAsk::Renew),
        2 => Just(PermitAsk::Leave),
    ];
    let step = (ask, id()).prop_map(|(ask, id)| PermitStep { ask, id });
    let terms = (0..7_u64, 1..40_000_000_u64, 1..6_000_000_u64, 0..7_u64);
    (terms, prop::collection::vec(step, 0..7), keys()).prop_map(|(terms, steps, keys)| {
        let (limit, ttl, wait, max_line) = terms;
        let terms = PermitTerms { limit, ttl: ttl * MICRO, wait: wait * MICRO, max_line };
        PermitCase { now: NOW, terms, steps, keys }
    })
}

#[test]
fn answers_what_the_engine_does() {
    let twin = PermitTwin::load(PERMITS.text()).expect("the script loads");
    TestRunner::new(config(10_000))
        .run(&case(), |case| {
            let ran = twin.run(&case).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let expected = case.expected();
            prop_assert!(ran.is(&expected, 0), "{case:?}\n{ran:?}\nexpected {expected:?}");
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn answers_what_the_engine_does_in_redis() {
    let server = RedisServer::start();
    let connection = std::cell::RefCell::new(server.connect());
    TestRunner::new(config(2_000))
        .run(&case(), |case| {
            let ran = run_in_redis(&mut connection.borrow_mut(), &case);
            let expected = case.expected();
            prop_assert!(ran.is(&expected, 1_000), "{case:?}\n{ran:?}\nexpected {expected:?}");
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Mutants that answer the same as the script, whatever is asked: a number is whole if rounding it, up or
/// down, changes nothing.
const EQUIVALENT: &[&str] = &[
    r#"if score and (score < 0 or score > LAST or score ~= floor(score)) then strange = true end [56: "floor(" -> "math.ceil("]"#,
];

#[test]
fn every_mutant_dies() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<(PermitCase, Permitted)> = (0..4_000)
        .map(|_| case().new_tree(&mut runner).expect("a case").current())
        .map(|case| (case.clone(), case.expected()))
        .collect();
    let dies = |twin: &PermitTwin| {
        cases.iter().any(|(case, expected)| twin.run(case).map_or(true, |ran| !ran.is(expected, 0)))
    };
    assert!(
        !dies(&PermitTwin::load(PERMITS.text()).expect("it loads")),
        "the script itself differs"
    );
    let (mut count, mut survivors) = (0, BTreeSet::new());
    for mutant in mutants(PERMITS.text()) {
        count += 1;
        let Ok(twin) = PermitTwin::load(&mutant.text) else { continue };
        if !dies(&twin) {
            survivors.insert(mutant.name);
        }
    }
    assert!(count > 50, "only {count} mutants");
    let survivors: BTreeSet<&str> = survivors.iter().map(String::as_str).collect();
    let equivalent: BTreeSet<&str> = EQUIVALENT.iter().copied().collect();
    let surprises: Vec<_> = survivors.symmetric_difference(&equivalent).collect();
    assert!(surprises.is_empty(), "of {count} mutants: {surprises:#?}");
}

#[derive(Deserialize)]
struct Document {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    name: String,
    terms: Terms,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Terms {
    limit: u64,
    ttl: String,
    wait: String,
    max_waiting: u64,
}

#[derive(Deserialize)]
struct Step {
    at: String,
    ask: String,
    id: String,
    limit: Option<u64>,
    expect: Expect,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Expect {
    answer: String,
    ahead: Option<u64>,
    live: u64,
    line: u64,
}

/// Runs a trace: `ask` answers one step at a time in nanoseconds.
fn replay(trace: &Trace, mut ask: impl FnMut(u64, &PermitTerms, &PermitStep) -> PermitReply) {
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let mut terms = PermitTerms {
        limit: trace.terms.limit,
        ttl: number(&trace.terms.ttl),
        wait: number(&trace.terms.wait),
        max_line: trace.terms.max_waiting,
    };
    for (place, step) in trace.steps.iter().enumerate() {
        terms.limit = step.limit.unwrap_or(terms.limit);
        let asked = match step.ask.as_str() {
            "enter" => PermitAsk::Enter,
            "try" => PermitAsk::TryEnter,
            "renew" => PermitAsk::Renew,
            _ => PermitAsk::Leave,
        };
        let one = PermitStep { ask: asked, id: step.id.clone() };
        let reply = ask(number(&step.at), &terms, &one);
        let (answer, ahead) = match reply.answers.as_slice() {
            [PermitAnswer::Entered] => ("entered", None),
            [PermitAnswer::Waiting { ahead }] => ("waiting", Some(*ahead)),
            [PermitAnswer::Full] => ("full", None),
            [PermitAnswer::Lost] => ("lost", None),
            [PermitAnswer::Left { was_here: true }] => ("left", None),
            [PermitAnswer::Left { was_here: false }] => ("not_here", None),
            other => panic!("{other:?}"),
        };
        let found = Expect { answer: answer.into(), ahead, live: reply.live, line: reply.line };
        assert_eq!(found, step.expect, "{}, step {place}", trace.name);
    }
}

fn traces() -> Vec<Trace> {
    let document: Document =
        serde_json::from_str(include_str!("../../vectors/permits.json")).expect("the vectors");
    assert!(document.traces.len() > 40);
    document.traces
}

#[test]
fn permits_in_memory_run_the_vectors() {
    for trace in traces() {
        let mut set = PermitSet::default();
        replay(&trace, |now, terms, step| set.run(terms, core::slice::from_ref(step), now));
    }
}

/// Runs a trace by cases, each from the keys that the one before has left.
fn replay_cases(trace: &Trace, mut run: impl FnMut(&PermitCase) -> Permitted) {
    let mut keys: [Stored; 3] = Default::default();
    replay(trace, |now, terms, step| {
        let (terms, steps) = (*terms, vec![step.clone()]);
        let case = PermitCase { now: now / MICRO, terms, steps, keys: keys.clone() };
        match run(&case) {
            Permitted::Answered { reply, keys: left, .. } => {
                keys = left;
                reply
            }
            Permitted::Failed(error) => panic!("{}: {error}", trace.name),
        }
    });
}

#[test]
fn the_script_runs_the_vectors_here_and_in_redis() {
    let twin = PermitTwin::load(PERMITS.text()).expect("the script loads");
    let server = RedisServer::start();
    let mut connection = server.connect();
    for trace in traces() {
        replay_cases(&trace, |case| twin.run(case).expect("it runs"));
        replay_cases(&trace, |case| run_in_redis(&mut connection, case));
    }
}
