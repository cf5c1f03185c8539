//! The script of leases against the engine: from the same bucket, records, clock and request, both
//! come to the same grant and the same next state.
#![allow(unreachable_pub, reason = "a test has no outside")]

#[allow(dead_code, reason = "only its mutants are of use here")]
mod cases;

use std::collections::{BTreeMap, BTreeSet};

use cases::mutants;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use tidegate::bindings::{LEASE, value};
use tidegate_conformance::lease_twin::{
    LeaseCase, LeaseTwin, Leased, MOST_OTHERS, Shared, run_in_redis,
};
use tidegate_conformance::redis_server::RedisServer;
use tidegate_core::{LeaseAsk, LeaseTerms, Limit};

const MILLI: u64 = 1_000_000;
const NOW: u64 = 1_764_000_000_123_456_789;

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_local_rejects: u32::MAX, ..Config::default() }
}

/// Limits that can be leased, alone and with others beside them.
fn limits() -> impl Strategy<Value = Vec<Limit>> {
    prop::sample::select(vec![
        vec!["100/s"],
        vec!["100/s burst 1"],
        vec!["1000/s burst 37", "100000/d"],
        vec!["7/s burst 300"],
        vec!["2000/s burst 4000"],
        vec!["50/s", "3000/min window"],
        vec!["500/s window"],
        vec!["12000/min burst 5 stepped"],
        vec!["100000000/s burst 5000000"],
        vec!["333/10s", "20/s burst 1", "900/h stepped", "5000/d"],
    ])
    .prop_map(|texts| texts.iter().map(|text| Limit::parse(text).expect("a limit")).collect())
}

fn terms(limits: &[Limit]) -> impl Strategy<Value = LeaseTerms> + use<> {
    let limits = limits.to_vec();
    (prop_oneof![Just(1_000), 100..60_000u64], prop_oneof![3 => Just(1_000), 1 => 1..1_000u64])
        .prop_filter_map("leasable", move |(ttl, most)| {
            LeaseTerms::new(&limits, ttl * MILLI, most).ok()
        })
}

fn case() -> impl Strategy<Value = LeaseCase> {
    limits().prop_flat_map(|limits| (Just(limits.clone()), terms(&limits))).prop_flat_map(
        |(limits, terms)| {
            let (asking, records, bucket) =
                (ask(&terms), records(&terms), bucket(limits.clone(), &terms));
            (Just(limits), Just(terms), asking, records, bucket, 0..12u64).prop_map(
                |(limits, terms, ask, records, bucket, id)| LeaseCase {
                    now: NOW,
                    limits,
                    terms,
                    id,
                    ask,
                    shared: Shared { bucket, records },
                },
            )
        },
    )
}

fn rate(terms: &LeaseTerms) -> impl Strategy<Value = u64> + use<> {
    let rate = terms.rate();
    prop_oneof![
        2 => 0..=rate * 2,
        2 => (1..40u64, 0..3u64).prop_map(move |(part, more)| rate / part + more),
        1 => 0..2_000u64,
        1 => 0..3u64,
        1 => (0..20u64).prop_map(|tokens| tokens * 1_000),
    ]
}

fn ask(terms: &LeaseTerms) -> impl Strategy<Value = LeaseAsk> + use<> {
    let tokens = terms.rate() / 1_000 * (terms.ttl() / MILLI) / 1_000;
    let few = move || prop_oneof![Just(0), 0..20u64, 0..=tokens * 2];
    let bound = prop_oneof![2 => Just(0), 1 => 0..terms.rate() / 1_000 + 2];
    (rate(terms), rate(terms), any::<bool>(), few(), few(), bound).prop_map(
        |(want, spent, is_new, held, returned, bound)| LeaseAsk {
            want,
            spent,
            is_new,
            held,
            returned,
            bound,
        },
    )
}

/// The records of the other nodes; some have lapsed, and some were not written by a node.
fn records(terms: &LeaseTerms) -> impl Strategy<Value = BTreeMap<String, String>> + use<> {
    let now = NOW / MILLI;
    let ttl = terms.ttl() / MILLI;
    let (rate, tokens) = (terms.rate(), terms.rate() / 1_000 + 2);
    let share = move || {
        prop_oneof![0..=rate, (1..30u64, 0..3u64).prop_map(move |(part, more)| rate / part + more)]
    };
    let until = prop_oneof![
        6 => now..now + ttl,
        1 => now - 2..now + 3,
        1 => Just(now + 10_000_000_000_000),
        1 => Just(now + 10_000_000_000_001),
    ];
    let record = (until, share(), 0..tokens, share())
        .prop_map(|(until, taken, most, want)| format!("{until} {taken} {most} {want}"));
    let foreign = prop::sample::select(vec![
        "",
        "x",
        "1 2 3",
        "1 2 3 4",
        "99999999999999 1 1 1 1",
        "1764000000999 -1 0 0",
        "1764000000999 10000000000001 0 0",
        "1764000000999 0 10000000000001 0",
        "1764000000999 0 0 10000000000001",
        "1764000000999 0 0 10000000000000",
        "1764000000999 1e3 0 0",
        " 1764000000999 1 1 1",
        "1764000000999 1 1 1 ",
    ])
    .prop_map(str::to_owned);
    let any_record = prop_oneof![12 => record, 1 => foreign];
    let few = prop::collection::vec((0..14u64, any_record.clone()), 0..14);
    let many = prop::collection::vec((0..400u64, any_record), 0..MOST_OTHERS * 2);
    prop_oneof![30 => few, 1 => many].prop_map(|records| {
        records.into_iter().map(|(id, record)| (format!("{id:016x}"), record)).collect()
    })
}

fn bucket(
    limits: Vec<Limit>,
    terms: &LeaseTerms,
) -> impl Strategy<Value = Option<Vec<u8>>> + use<> {
    let ttl = terms.ttl();
    let owed = prop::collection::vec((0..7u8, any::<u64>()), 4).prop_map(move |picks| {
        let mut cells = [0; 4];
        for ((limit, cell), (kind, number)) in limits.iter().zip(&mut cells).zip(picks) {
            let timeline = limit.timeline();
            let room = limit.span().max(ttl);
            let debt = match kind {
                0 => 0,
                1 => limit.span(),
                2 if number % 2 == 0 => room + number % 3,
                2 => room + number % (3 * MILLI),
                3 => number % (room + 1),
                4 => room.saturating_sub(number % (20 * timeline.width())),
                5 => limit.span() + number % 1_000_000,
                _ => number % ((1 << 53) + 1),
            };
            *cell = timeline.position(NOW) + debt.min(1 << 53);
        }
        Some(value::write(&cells, &limits, NOW).into_bytes())
    });
    prop_oneof![1 => Just(None), 12 => owed, 1 => Just(Some(b"foreign".to_vec()))]
}

fn text(part: &str, instead: &str) -> String {
    LEASE.parts.iter().map(|&text| if text == part { instead } else { text }).collect()
}

#[test]
fn grants_what_the_engine_does() {
    let twin = LeaseTwin::load(LEASE.text()).expect("the script loads");
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
fn grants_what_the_engine_does_in_redis() {
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

/// Requests at which a number changes the outcome and that random ones hardly meet.
fn edges() -> Vec<LeaseCase> {
    let case = |limit: &str, want: u64, records: &[(u64, u64, u64)]| {
        let limits = vec![Limit::parse(limit).expect("a limit")];
        let terms = LeaseTerms::new(&limits, 1_000 * MILLI, 1_000).expect("terms");
        let until = NOW / MILLI + 500;
        let record = |(id, &(taken, most, want)): (usize, &(u64, u64, u64))| {
            (format!("{:016x}", id + 1), format!("{until} {taken} {most} {want}"))
        };
        let records = records.iter().enumerate().map(record).collect();
        let ask = LeaseAsk { want, ..LeaseAsk::default() };
        LeaseCase { now: NOW, limits, terms, id: 0, ask, shared: Shared { bucket: None, records } }
    };
    // There are more foreign records than are cleared at a time.
    let mut crowded = case("100/s", 0, &[]);
    let foreign = |id: u64| (format!("{id:016x}"), String::from("x"));
    crowded.shared.records = (1..=101).map(foreign).collect();
    // The bucket owes one token more than it may, so it has none.
    let mut paused = case("10/s stepped", 10_000, &[(5_000, 5, 10_000)]);
    let [limit] = paused.limits.as_slice() else { unreachable!() };
    let mut cells = [0; 4];
    cells[0] = limit.timeline().position(NOW) + limit.span() + 1;
    paused.shared.bucket = Some(value::write(&cells, &paused.limits, NOW).into_bytes());
    // The slowest pace that there can be.
    let mut slowest = case("100/s", 5, &[]);
    slowest.limits = vec![Limit::parse("11/min").expect("a limit")];
    slowest.terms = LeaseTerms::new(&slowest.limits, 60_000 * MILLI, 1).expect("terms");
    vec![
        crowded,
        paused,
        slowest,
        // The smallest request, of a bucket of which the most nodes hold slices.
        case("100/s", 1, &[(0, 1, 1); MOST_OTHERS]),
        // Only a thousandth of a token per second is free.
        case("100/s", 50_000, &[(99_999, 99, 99_999)]),
        // Each of three nodes wants just more than a third.
        case("100/s", 33_334, &[(0, 1, 33_334), (0, 1, 33_334)]),
        // Rounding decides whether the most that all nodes may spend is one token more.
        case("1/10098358ns burst 100", 200_000, &[]),
    ]
}

/// Mutants that grant the same as the script, whatever is asked.
///
/// - A node that wants exactly the level gets it either way, and less than one each is then left.
/// - Where not all nodes are satisfied, a spare thousandth is less than what is added anyway.
/// - `%s` writes fourteen digits, which none of these numbers exceeds.
const EQUIVALENT: &[&str] = &[
    r#"if wanted <= level then full = full + wanted else higher = higher + 1 end [15: " <= " -> " < "]"#,
    r#"local level, spare = floor(rate / #wants), 0 [43: ", 0\n" -> ", 1\n"]"#,
    r#"local record = format('%.0f %.0f %.0f %.0f', now_ms + ttl, taken, max(most, bound), want) [25: "%.0f" -> "%s"]"#,
    r#"local record = format('%.0f %.0f %.0f %.0f', now_ms + ttl, taken, max(most, bound), want) [30: "%.0f" -> "%s"]"#,
    r#"local record = format('%.0f %.0f %.0f %.0f', now_ms + ttl, taken, max(most, bound), want) [35: "%.0f" -> "%s"]"#,
    r#"local record = format('%.0f %.0f %.0f %.0f', now_ms + ttl, taken, max(most, bound), want) [40: "%.0f" -> "%s"]"#,
    r#"seen[#seen + 1] = format('%.0f %.0f %.0f %.0f %.0f', granted, pace, most, part, hold) [26: "%.0f" -> "%s"]"#,
    r#"seen[#seen + 1] = format('%.0f %.0f %.0f %.0f %.0f', granted, pace, most, part, hold) [31: "%.0f" -> "%s"]"#,
    r#"seen[#seen + 1] = format('%.0f %.0f %.0f %.0f %.0f', granted, pace, most, part, hold) [36: "%.0f" -> "%s"]"#,
    r#"seen[#seen + 1] = format('%.0f %.0f %.0f %.0f %.0f', granted, pace, most, part, hold) [41: "%.0f" -> "%s"]"#,
    r#"seen[#seen + 1] = format('%.0f %.0f %.0f %.0f %.0f', granted, pace, most, part, hold) [46: "%.0f" -> "%s"]"#,
];

#[test]
fn every_mutant_dies() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<(LeaseCase, Leased)> = (0..4_000)
        .map(|_| case().new_tree(&mut runner).expect("a case").current())
        .chain(edges())
        .map(|case| (case.clone(), case.expected()))
        .collect();
    let dies = |twin: &LeaseTwin| {
        cases.iter().any(|(case, expected)| twin.run(case).map_or(true, |ran| !ran.is(expected, 0)))
    };
    let part = LEASE.parts.iter().find(|part| part.contains("max-min fair")).expect("the part");
    assert!(!dies(&LeaseTwin::load(LEASE.text()).expect("it loads")), "the script itself differs");
    let (mut count, mut survivors) = (0, BTreeSet::new());
    for mutant in mutants(part) {
        count += 1;
        let Ok(twin) = LeaseTwin::load(&text(part, &mutant.text)) else { continue };
        if !dies(&twin) {
            survivors.insert(mutant.name);
        }
    }
    assert!(count > 100, "only {count} mutants");
    let survivors: BTreeSet<&str> = survivors.iter().map(String::as_str).collect();
    let equivalent: BTreeSet<&str> = EQUIVALENT.iter().copied().collect();
    let surprises: Vec<_> = survivors.symmetric_difference(&equivalent).collect();
    assert!(surprises.is_empty(), "of {count} mutants: {surprises:#?}");
}
