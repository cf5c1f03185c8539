//! The map of buckets against buckets that are never forgotten.

#![allow(clippy::expect_used, clippy::panic, reason = "how a test fails")]

use core::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_core::{
    Cells, Cost, Limit, OnFull, Operation, Outcome, Reserved, apply, change_limits,
};

use super::{BucketMap, OwedUnder};

const START: u64 = 1_764_000_000_000_000_000;

fn plans() -> Vec<Arc<[Limit]>> {
    let plans = [
        &["10/s"][..],
        &["100/min burst 20"],
        &["3/s burst 7", "12/d window"],
        &["5/s window", "100/h"],
        &["1/s", "2/s burst 9", "7/min stepped"],
    ];
    let parse = |text: &&str| Limit::parse(text).expect("a limit");
    plans.iter().map(|texts| texts.iter().map(parse).collect()).collect()
}

/// The engine's answer on a bucket that is carried over to the limits of the call. It is kept so unless
/// the call fails, or changes nothing and the bucket owes nothing under these limits; but a reset forgets
/// also what it owes in places that these limits do not have.
fn run_on(
    kept: &mut (Arc<[Limit]>, Cells),
    limits: &Arc<[Limit]>,
    now: u64,
    operation: Operation,
) -> Result<Outcome, tidegate_core::Error> {
    let mut cells = kept.1;
    change_limits(&kept.0, limits, &mut cells, now)?;
    let carried = cells;
    let outcome = apply(limits, &mut cells, now, operation)?;
    let owes =
        limits.iter().zip(carried).any(|(limit, cell)| cell > limit.timeline().position(now));
    if cells != carried || owes || kept.0 == *limits || matches!(operation, Operation::Reset) {
        *kept = (Arc::clone(limits), cells);
    }
    Ok(outcome)
}

/// The outcome as callers see it: a swept bucket has the cells of an unused one.
fn without_cells(mut outcome: Outcome) -> Outcome {
    if let Outcome::Reserved(Reserved::Slot(slot)) = &mut outcome {
        (slot.charge.before, slot.charge.after) = Default::default();
    }
    outcome
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0u64..8).prop_map(|cost| Operation::Check { cost: cost.into() }),
        1 => (0u64..8).prop_map(|cost| Operation::Peek { cost: cost.into() }),
        2 => (1u64..5, 0u64..5_000_000_000).prop_map(|(cost, max_wait)| {
            Operation::Reserve { cost: cost.into(), max_wait, min_wait: 0 }
        }),
        1 => (0u64..9, 0u64..9).prop_map(|(charged, actual)| {
            Operation::Settle { charged: charged.into(), actual: actual.into() }
        }),
        1 => (0u64..9).prop_map(|tokens| Operation::Credit { tokens: tokens.into() }),
        1 => (0u64..3_000_000_000).prop_map(|wait| Operation::Hold { wait }),
        1 => Just(Operation::Reset),
    ]
}

proptest! {
    /// Every answer is that of the engine on cells which are carried over at each change of limits,
    /// although the map sweeps full buckets and has keys of both forms.
    #[test]
    fn answers_as_buckets_that_are_never_forgotten(
        steps in prop::collection::vec(
            (0u64..40, 0usize..5, 0u64..2_000_000_000, operations()), 1..300
        ),
    ) {
        let plans = plans();
        let map = BucketMap::new(1_000_000, OnFull::Deny);
        let mut model: BTreeMap<u64, (Arc<[Limit]>, Cells)> = BTreeMap::new();
        let mut now = START;
        for (key, plan, passed, operation) in steps {
            now += passed;
            let limits = &plans[plan];
            let kept = model.entry(key).or_insert_with(|| (Arc::clone(limits), Cells::default()));
            let expected = run_on(kept, limits, now, operation);
            let got = map.run(&[key], limits, now, operation, |_| None);
            prop_assert_eq!(got.map(without_cells), expected.map(without_cells));
        }
    }

    /// With room for a few keys, a refusal for want of room changes nothing, and no answer allows more
    /// than that of a bucket which is never forgotten.
    #[test]
    fn without_room_a_new_key_is_refused(
        steps in prop::collection::vec((0u64..40, 0usize..5, 0u64..500_000_000, 1u64..5), 1..300),
    ) {
        let plans = plans();
        let map = BucketMap::new(3, OnFull::Deny);
        let mut model: BTreeMap<u64, (Arc<[Limit]>, Cells)> = BTreeMap::new();
        let mut now = START;
        for (key, plan, passed, cost) in steps {
            now += passed;
            let limits = &plans[plan];
            let operation = Operation::Check { cost: cost.into() };
            let denied = map.denied();
            let got = map.run(&[key], limits, now, operation, |_| None);
            prop_assert!(map.len() <= 3);
            if map.denied() > denied {
                let refused = matches!(
                    got, Ok(Outcome::Decision(decision)) if !decision.allowed && decision.retry_after > 0
                );
                prop_assert!(refused, "{:?}", got);
                continue;
            }
            let kept = model.entry(key).or_insert_with(|| (Arc::clone(limits), Cells::default()));
            prop_assert_eq!(got, run_on(kept, limits, now, operation));
        }
    }
}

#[test]
fn the_bucket_that_is_full_soonest_makes_room() {
    let limits = &plans()[1];
    let map = BucketMap::new(2, OnFull::EvictIdlest);
    let check = |key, cost: u64| {
        map.run(&[key], limits, START, Operation::Check { cost: cost.into() }, |_| None)
    };
    let remaining = |key, cost| match check(key, cost) {
        Ok(Outcome::Decision(decision)) => decision.remaining,
        other => panic!("{other:?}"),
    };
    assert_eq!((remaining(1, 9), remaining(2, 4)), (11, 16));
    assert_eq!(remaining(3, 1), 19);
    assert_eq!((map.len(), map.evicted()), (2, 1));
    // The first still owes; the second was forgotten.
    assert_eq!(remaining(1, 0), 11);
    assert_eq!(remaining(2, 0), 20);
}

#[test]
fn what_a_table_has_is_taken_once_and_survives_an_error() {
    let plans = plans();
    let (old, new) = (&plans[1], &plans[0]);
    let map = BucketMap::new(100, OnFull::Deny);
    let taken = Cell::new(0);
    let take = |_| {
        taken.set(taken.get() + 1);
        let mut cells = Cells::default();
        apply(old, &mut cells, START, Operation::Check { cost: 7.into() }).ok()?;
        Some(OwedUnder { limits: Arc::clone(old), tier: None, cells })
    };
    let cost = Cost::each(&[1, 2]).expect("two costs");
    let wrong = map.run(&[1], new, START, Operation::Check { cost }, take);
    assert!(wrong.is_err());
    let looked = map.run(&[1], new, START, Operation::Peek { cost: 0.into() }, take);
    assert!(
        matches!(looked, Ok(Outcome::Decision(decision)) if decision.remaining == 3),
        "{looked:?}"
    );
    assert_eq!(taken.get(), 1);
}

#[test]
fn a_key_for_one_limit_has_another_bucket_in_each_place() {
    let limits = &plans()[3];
    let map = BucketMap::new(100, OnFull::Deny);
    let remaining = |keys: &[u64], cost: u64| match map.run(
        keys,
        limits,
        START,
        Operation::Check { cost: cost.into() },
        |_| None,
    ) {
        Ok(Outcome::Decision(decision)) => (decision.allowed, decision.remaining),
        other => panic!("{other:?}"),
    };
    assert_eq!(remaining(&[1, 7], 4), (true, 1));
    assert_eq!(remaining(&[1, 7], 2), (false, 1));
    assert_eq!(remaining(&[7, 1], 5), (true, 0));
    // One key for all limits is apart from both.
    assert_eq!(remaining(&[1], 5), (true, 0));
}

#[test]
fn a_call_that_changes_nothing_and_carries_nothing_leaves_the_bucket() {
    let limits = |texts: &[&str]| -> Arc<[Limit]> {
        texts.iter().map(|text| Limit::parse(text).expect("a limit")).collect()
    };
    let (two, one) = (limits(&["1000/d", "1000/d"]), limits(&["100/s burst 7"]));
    let map = BucketMap::new(100, OnFull::Deny);
    let run = |limits, operation| map.run(&[1], limits, START, operation, |_| None);
    let cost = |costs: &[u64]| Cost::each(costs).expect("costs");
    assert!(run(&two, Operation::Check { cost: cost(&[0, 900]) }).is_ok());
    // The first limit owes nothing, so there is nothing to carry over.
    assert!(run(&one, Operation::Peek { cost: 1.into() }).is_ok());
    assert!(run(&one, Operation::Check { cost: 10.into() }).is_err());
    let looked = run(&two, Operation::Peek { cost: cost(&[0, 101]) });
    assert!(matches!(looked, Ok(Outcome::Decision(decision)) if !decision.allowed), "{looked:?}");
}

#[test]
fn full_buckets_are_swept_as_new_keys_come() {
    let limits = &plans()[0];
    let map = BucketMap::new(1_000_000, OnFull::Deny);
    for number in 0..200_000u64 {
        // Keys as a hash spreads them; each owes for 100 ms, in which 10,000 others come.
        let key = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let check = Operation::Check { cost: 1.into() };
        assert!(map.run(&[key], limits, START + number * 10_000, check, |_| None).is_ok());
    }
    assert!(map.len() < 20_000, "{}", map.len());
}
