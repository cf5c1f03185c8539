//! A cost for each limit: every operation does to each limit what it would do to it alone, all or
//! none for a check and a reservation, and the same on cells and on tables.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod naive;

use core::sync::atomic::AtomicU64;

use naive::NaiveBucket;
use proptest::prelude::*;
use tidegate_core::{
    Cells, Charge, Cost, Error, Limit, ManualClock, Operation, Outcome, Reserved, Slot, Table,
    TierDecision, apply, apply_tables, decide, decide_each_tier, decide_tiers, reserve,
};

const START: u64 = 1_764_000_000_000_000_000;
const KEY: u64 = 7 << 40 | 99;

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let limit = (1..40u64, 1..3_000u64, 1..60u64, any::<bool>()).prop_filter_map(
        "bounds",
        |(tokens, milli, burst, stepped)| {
            let period = milli * 1_000_000;
            match stepped {
                true => Limit::stepped(tokens, period, burst).ok(),
                false => Limit::smooth(tokens, period, burst).ok(),
            }
        },
    );
    prop::collection::vec(limit, 1..=4)
}

/// Calls as random numbers: which operation, the time since the last call, and a cost for each limit.
fn calls() -> impl Strategy<Value = Vec<(u8, u64, [u64; 4], [u64; 4])>> {
    let costs = || prop::array::uniform4(prop_oneof![1 => Just(0), 3 => 0..40u64]);
    prop::collection::vec((0..8u8, 0..700_000_000u64, costs(), costs()), 1..50)
}

/// A cost within the bursts, as many numbers as limits.
fn cost_of(limits: &[Limit], numbers: [u64; 4]) -> Cost {
    let within: Vec<u64> = limits.iter().zip(numbers).map(|(l, n)| n.min(l.burst())).collect();
    Cost::each(&within).unwrap()
}

fn operation(
    limits: &[Limit],
    kind: u8,
    one: [u64; 4],
    other: [u64; 4],
    last: Charge,
) -> Operation {
    let (cost, second) = (cost_of(limits, one), Cost::each(&other[..limits.len()]).unwrap());
    match kind {
        0..=2 => Operation::Check { cost },
        3 => Operation::Peek { cost },
        4 => Operation::Reserve { cost, max_wait: 3_000_000_000, min_wait: other[0] * 50_000_000 },
        5 => Operation::Settle { charged: cost, actual: second },
        6 => Operation::Credit { tokens: second },
        _ => Operation::Cancel(last),
    }
}

proptest! {
    #[test]
    fn a_check_asks_every_limit_for_its_own_cost(limits in limits(), calls in calls()) {
        let mut cells = Cells::default();
        let mut naive: Vec<_> = limits.iter().map(|limit| NaiveBucket::full(*limit)).collect();
        let mut now = START;
        for (_, gap, numbers, _) in calls {
            now += gap;
            let cost = cost_of(&limits, numbers);
            let before = cells;
            let decision = decide_tiers(&limits, &mut cells, now, cost).unwrap();
            let costs = (0..).map(|tier| cost.of_tier(tier));
            let can = naive.iter().zip(costs.clone()).all(|(bucket, cost)| bucket.can_spend(now, cost));
            prop_assert_eq!(decision.allowed, can);
            if can {
                let spent = naive.iter_mut().zip(costs).all(|(bucket, cost)| bucket.spend(now, cost));
                prop_assert!(spent);
                let least = naive.iter().map(|bucket| bucket.remaining(now)).min();
                prop_assert_eq!(Some(i128::from(decision.remaining)), least);
            } else {
                prop_assert_eq!(cells, before);
                let waits = naive.iter().zip(costs).filter_map(|(bucket, cost)| bucket.retry_after(now, cost));
                prop_assert_eq!(Some(i128::from(decision.retry_after)), waits.max());
            }
        }
    }

    /// Each limit says what it would say alone; to a call that another limit refused, it says what it
    /// holds.
    #[test]
    fn each_limit_says_what_it_would_say_alone(limits in limits(), calls in calls()) {
        let mut cells = Cells::default();
        let mut now = START;
        for (_, gap, numbers, _) in calls {
            now += gap;
            let cost = cost_of(&limits, numbers);
            let before = cells;
            let decision = decide_tiers(&limits, &mut before.clone(), now, cost).unwrap();
            let tiered = decide_each_tier(&limits, &mut cells, now, cost).unwrap();
            prop_assert_eq!(*tiered.decision(), decision);
            prop_assert_eq!(tiered.tiers().len(), limits.len());
            for ((place, tier), (limit, cell)) in (0u8..).zip(tiered.tiers()).zip(limits.iter().zip(before)) {
                let asked = cost.of_tier(usize::from(place));
                let (alone, _) = decide(limit, cell, now, asked).unwrap();
                prop_assert_eq!(tier.retry_after, alone.retry_after);
                let (holds, _) = decide(limit, cell, now, if decision.allowed { asked } else { 0 }).unwrap();
                let expected = (place, holds.limit, holds.remaining, holds.reset_after);
                prop_assert_eq!((tier.tier, tier.limit, tier.remaining, tier.reset_after), expected);
            }
            let binding = tiered.tiers()[usize::from(decision.tier)];
            prop_assert_eq!(binding, TierDecision::from(&decision));
        }
    }

    /// Each limit says what its bucket holds after a reservation, or how long it keeps the caller.
    #[test]
    fn each_limit_says_what_a_reservation_left(limits in limits(), calls in calls()) {
        let mut cells = Cells::default();
        let mut now = START;
        for (_, gap, numbers, [max_wait, ..]) in calls {
            now += gap;
            let cost = cost_of(&limits, numbers);
            let reserved = reserve(&limits, &mut cells, now, cost, max_wait * 50_000_000).unwrap();
            let (tiered, is_refused) = match reserved {
                Reserved::Slot(slot) => (slot.decision, false),
                Reserved::TooFar(refused) => (refused, true),
            };
            prop_assert_eq!(tiered.tiers().len(), limits.len());
            for (tier, (limit, cell)) in tiered.tiers().iter().zip(limits.iter().zip(cells)) {
                let (holds, _) = decide(limit, cell, now, 0).unwrap();
                prop_assert_eq!((tier.limit, tier.remaining), (holds.limit, holds.remaining));
                prop_assert_eq!(tier.reset_after, holds.reset_after);
                prop_assert!(tier.retry_after <= tiered.retry_after);
            }
            let longest = tiered.tiers().iter().map(|tier| tier.retry_after).max();
            prop_assert_eq!((longest, longest > Some(0)), (Some(tiered.retry_after), is_refused));
        }
    }

    /// The same number for each limit is one number for every limit.
    #[test]
    fn equal_costs_are_one_cost(limits in limits(), calls in calls()) {
        let (mut one, mut each) = (Cells::default(), Cells::default());
        let mut now = START;
        let smallest = limits.iter().map(Limit::burst).min().unwrap();
        for (kind, gap, [number, ..], [other, ..]) in calls {
            now += gap;
            let number = number.min(smallest);
            let same = operation_of(kind % 7, Cost::same(number), Cost::same(other));
            let all = |number: u64| Cost::each(&[number; 4][..limits.len()]).unwrap();
            let apart = operation_of(kind % 7, all(number), all(other));
            let expected = apply(&limits, &mut one, now, same).unwrap();
            let answer = apply(&limits, &mut each, now, apart).unwrap();
            match (answer, expected) {
                (Outcome::Reserved(Reserved::Slot(own)), Outcome::Reserved(Reserved::Slot(slot))) => {
                    prop_assert_eq!((own.delay, own.decision), (slot.delay, slot.decision));
                }
                (answer, expected) => prop_assert_eq!(answer, expected),
            }
            prop_assert_eq!(one, each);
        }
    }

    #[test]
    fn tables_do_what_cells_do(limits in limits(), calls in calls()) {
        let segments: Vec<Vec<Slot>> =
            limits.iter().map(|_| (0..64).map(|_| [const { AtomicU64::new(0) }; 2]).collect()).collect();
        let tables: Vec<_> = segments.iter().map(|slots| Table::new(slots.as_slice())).collect();
        let fingerprints = vec![KEY; limits.len()];
        let (mut cells, mut last) = (Cells::default(), (Charge::default(), Charge::default()));
        let mut now = START;
        for (kind, gap, one, other) in calls {
            now += gap;
            let on_cells = operation(&limits, kind, one, other, last.0);
            let on_tables = operation(&limits, kind, one, other, last.1);
            let expected = apply(&limits, &mut cells, now, on_cells).unwrap();
            let clock = ManualClock::new(now);
            let answer = apply_tables(&tables, &limits, &fingerprints, &clock, on_tables).unwrap();
            match (answer, expected) {
                (Outcome::Reserved(Reserved::Slot(own)), Outcome::Reserved(Reserved::Slot(slot))) => {
                    prop_assert_eq!((own.delay, own.decision), (slot.delay, slot.decision));
                    prop_assert_eq!(own.charge.cost, slot.charge.cost);
                    last = (slot.charge, own.charge);
                }
                (Outcome::Cancelled(_), Outcome::Cancelled(_)) => last = <_>::default(),
                (answer, expected) => prop_assert_eq!(answer, expected),
            }
        }
    }
}

fn operation_of(kind: u8, cost: Cost, other: Cost) -> Operation {
    match kind {
        0..=2 => Operation::Check { cost },
        3 => Operation::Peek { cost },
        4 => Operation::Reserve { cost, max_wait: 3_000_000_000, min_wait: 0 },
        5 => Operation::Settle { charged: cost, actual: other },
        _ => Operation::Credit { tokens: other },
    }
}

#[test]
fn a_cost_that_does_not_fit_the_limits_is_named() {
    let limits = ["60/min", "90000/min"].map(|text| Limit::parse(text).unwrap());
    let check = |cost: Cost| {
        let mut cells = Cells::default();
        let answer = decide_tiers(&limits, &mut cells, START, cost);
        assert!(answer.is_ok() || cells == Cells::default());
        answer.map(|decision| (decision.allowed, decision.tier, decision.remaining))
    };
    assert_eq!(check([1, 1500].into()), Ok((true, 0, 59)));
    assert_eq!(check([1, 90_001].into()), Err(Error::CostTooLarge { cost: 90_001, burst: 90_000 }));
    assert_eq!(check([61, 90_001].into()), Err(Error::CostTooLarge { cost: 61, burst: 60 }));
    assert_eq!(check(61.into()), Err(Error::CostTooLarge { cost: 61, burst: 60 }));
    assert_eq!(check([1, 2, 3].into()), Err(Error::CostCount { costs: 3, limits: 2 }));
    assert_eq!(check([1].into()), Err(Error::CostCount { costs: 1, limits: 2 }));
    assert_eq!(Cost::each(&[]), Err(Error::TierCount { count: 0 }));
    assert_eq!(Cost::each(&[1; 5]), Err(Error::TierCount { count: 5 }));
    let settle = Operation::Settle { charged: [1, 2].into(), actual: [1, 2, 3].into() };
    let wrong = Err(Error::CostCount { costs: 3, limits: 2 });
    assert_eq!(apply(&limits, &mut Cells::default(), START, settle), wrong);
    let credit = Operation::Credit { tokens: [1].into() };
    let wrong = Err(Error::CostCount { costs: 1, limits: 2 });
    assert_eq!(apply(&limits, &mut Cells::default(), START, credit), wrong);
}

/// A limit whose cost is 0 is neither asked nor charged, even if it is empty.
#[test]
fn a_cost_of_zero_leaves_its_limit_out() {
    let limits = ["1/min", "100/min"].map(|text| Limit::parse(text).unwrap());
    let mut cells = Cells::default();
    assert!(decide_tiers(&limits, &mut cells, START, [1, 10]).unwrap().allowed);
    assert!(!decide_tiers(&limits, &mut cells, START, [1, 10]).unwrap().allowed);
    let first = cells[0];
    let rest = decide_tiers(&limits, &mut cells, START, [0, 10]).unwrap();
    assert_eq!((rest.allowed, rest.tier, rest.remaining), (true, 0, 0));
    assert_eq!(cells[0], first);
    let reserve = Operation::Reserve { cost: [0, 80].into(), max_wait: 0, min_wait: 0 };
    let Ok(Outcome::Reserved(Reserved::Slot(slot))) = apply(&limits, &mut cells, START, reserve)
    else {
        panic!("refused")
    };
    assert_eq!((slot.delay, cells[0]), (0, first));
}

/// A slot that may not come before a time is charged for that time: the buckets are then as after a
/// check at it.
#[test]
fn a_slot_not_before_a_time_is_charged_for_it() {
    let limits = ["10/s", "100/min window"].map(|text| Limit::parse(text).unwrap());
    let wait = 700_000_000;
    let mut reserved = Cells::default();
    let reserve = |max_wait| Operation::Reserve { cost: [3, 40].into(), max_wait, min_wait: wait };
    let refused = apply(&limits, &mut reserved, START, reserve(wait - 1)).unwrap();
    let Outcome::Reserved(Reserved::TooFar(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!((refused.retry_after, reserved), (1, Cells::default()));
    let slot = apply(&limits, &mut reserved, START, reserve(wait)).unwrap();
    let Outcome::Reserved(Reserved::Slot(slot)) = slot else { panic!("{slot:?}") };
    assert_eq!(slot.delay, wait);
    let mut checked = Cells::default();
    assert!(decide_tiers(&limits, &mut checked, START + wait, [3, 40]).unwrap().allowed);
    assert_eq!(reserved, checked);
}
