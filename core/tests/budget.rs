//! A budget against an exact model: a purse for each limit, and a list of all that was spent.
#![allow(missing_docs, clippy::unwrap_used)]

use proptest::prelude::*;
use tidegate_core::{
    Budget, BudgetSpend, Cells, Cost, LeaseTerms, Limit, Operation, Source, TierDecision,
    TieredDecision, decide_each_tier,
};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const START: u64 = 1_764_000_000 * SECOND;
const TTL: u64 = 2 * SECOND;
const LIMITS: [&str; 3] = ["1000/s", "60000/min burst 9000", "2000000/h window"];

fn limits(count: usize) -> Vec<Limit> {
    LIMITS.iter().take(count).map(|text| Limit::parse(text).unwrap()).collect()
}

fn terms(limits: &[Limit], share: u64) -> LeaseTerms {
    LeaseTerms::new(limits, TTL, share).unwrap()
}

/// What a bucket says that has so many tokens of each limit, if it allows a call or not.
fn answer(limits: &[Limit], free: [u64; 3], allowed: bool, paused: u64) -> TieredDecision {
    let mut decision = decide_each_tier(limits, &mut Cells::default(), START, 0).unwrap();
    let tiers: Vec<TierDecision> = (0_u8..)
        .zip(limits)
        .map(|(tier, limit)| {
            let remaining = free[usize::from(tier)].min(limit.burst());
            let owed = limit.burst() - remaining;
            let reset_after = limit.timeline().until(START, owed * limit.timeline().width());
            let reset_after = reset_after + paused;
            TierDecision { tier, limit: limit.burst(), remaining, retry_after: 0, reset_after }
        })
        .collect();
    let mut binding = *decision.decision();
    (binding.allowed, binding.remaining, binding.source) =
        (allowed, tiers[0].remaining, Source::Redis);
    binding.reset_after = tiers[0].reset_after;
    decision = TieredDecision::new(binding, tiers);
    decision
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Spend([u64; 3]),
    SpendOne(u64),
    Direct([u64; 3], [u64; 3], bool),
    Ask,
    Answer([u64; 3], bool),
    Paused,
    Fail,
    Discard,
}

fn step() -> impl Strategy<Value = Step> {
    let cost = || prop::array::uniform3(prop_oneof![1 => Just(0), 6 => 1..40_u64]);
    let free = || prop::array::uniform3(prop_oneof![1 => 0..300_u64, 3 => 0..9_000_u64]);
    prop_oneof![
        8 => (0..40 * MILLI).prop_map(Step::Wait),
        1 => (0..TTL).prop_map(Step::Wait),
        20 => cost().prop_map(Step::Spend),
        4 => (1..20_u64).prop_map(Step::SpendOne),
        8 => (cost(), free(), prop::bool::weighted(0.9))
            .prop_map(|(cost, free, allowed)| Step::Direct(cost, free, allowed)),
        8 => Just(Step::Ask),
        8 => (free(), prop::bool::weighted(0.8)).prop_map(|(free, ok)| Step::Answer(free, ok)),
        1 => Just(Step::Paused),
        1 => Just(Step::Fail),
        1 => Just(Step::Discard),
    ]
}

struct Model {
    limits: Vec<Limit>,
    most: Vec<u64>,
    purse: [u64; 3],
    lapses_at: u64,
    spent: Vec<(u64, [u64; 3])>,
    free: Option<[u64; 3]>,
    known_at: u64,
    asked: Option<([u64; 3], u64, bool)>,
}

impl Model {
    fn spent_since(&self, from: u64, tier: usize) -> u64 {
        self.spent.iter().filter(|(at, _)| *at > from).map(|(_, cost)| cost[tier]).sum()
    }

    fn numbers(&self, cost: &Cost) -> [u64; 3] {
        core::array::from_fn(|tier| if tier < self.limits.len() { cost.of_tier(tier) } else { 0 })
    }

    /// The exact answer to a call.
    fn pay(&self, now: u64, cost: [u64; 3]) -> Option<(u8, u64)> {
        let can = now < self.lapses_at
            && cost != [0; 3]
            && (0..3).all(|tier| cost[tier] <= self.purse[tier]);
        let left = (0_u8..3).filter(|tier| cost[usize::from(*tier)] > 0).map(|tier| {
            let place = usize::from(tier);
            (self.purse[place].saturating_sub(cost[place]), tier)
        });
        left.min().filter(|_| can).map(|(left, tier)| (tier, left))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spends_what_it_was_given_and_holds_no_more_than_was_spent_in_a_ttl(
        count in 2..=3_usize,
        share in prop_oneof![Just(1_000_u64), 20..1_000_u64],
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let limits = limits(count);
        let mut budget = Budget::new(&terms(&limits, share), &limits, START);
        let rates = [1_000, 1_000, 2_000_000 / 3_600];
        let most = (0..count).map(|tier| (rates[tier] + 1) * TTL / SECOND * share / 1_000 + 1).collect();
        let mut model = Model {
            limits: limits.clone(),
            most,
            purse: [0; 3],
            lapses_at: 0,
            spent: Vec::new(),
            free: None,
            known_at: 0,
            asked: None,
        };
        let mut now = START;
        for step in steps {
            match step {
                Step::Wait(time) => {
                    now += time;
                    model.spent.retain(|(at, _)| *at > now - TTL - 1);
                }
                Step::Spend(_) | Step::SpendOne(_) => {
                    let cost = match step {
                        Step::Spend(numbers) => Cost::each(&numbers[..count]).unwrap(),
                        Step::SpendOne(tokens) => Cost::same(tokens),
                        _ => continue,
                    };
                    let numbers = model.numbers(&cost);
                    let expected = model.pay(now, numbers);
                    let (peeked, paid) = (budget.peek(now, &cost), budget.spend(now, &cost));
                    prop_assert_eq!(peeked, paid);
                    let answered = paid.map(|BudgetSpend { tier, remaining, .. }| (tier, remaining));
                    prop_assert_eq!(answered, expected);
                    if paid.is_some() {
                        (0..3).for_each(|tier| model.purse[tier] -= numbers[tier]);
                        model.spent.push((now, numbers));
                    }
                }
                Step::Direct(numbers, free, allowed) => {
                    let cost = Cost::each(&numbers[..count]).unwrap();
                    budget.answered_directly(now, &cost, Some(&answer(&limits, free, allowed, 0)));
                    (model.free, model.known_at) = (Some(free), now);
                    if allowed {
                        let numbers = model.numbers(&cost);
                        model.spent.push((now, numbers));
                    }
                }
                Step::Ask => match budget.ask(now) {
                    None => {}
                    Some(Operation::Check { cost }) => {
                        prop_assert!(model.asked.is_none());
                        let free = model.free.unwrap();
                        prop_assert!(now < model.known_at + TTL);
                        let taken = model.numbers(&cost);
                        for tier in 0..count {
                            let after = model.purse[tier] + taken[tier];
                            if taken[tier] > 0 {
                                prop_assert!(after <= model.spent_since(now - TTL / 2 - 1, tier));
                                prop_assert!(after <= free[tier].min(limits[tier].burst()) / 4);
                                prop_assert!(after <= model.most[tier]);
                            }
                        }
                        model.asked = Some((taken, now, true));
                    }
                    Some(Operation::Peek { cost }) => {
                        prop_assert!(cost.is_zero() && model.asked.is_none() && model.purse != [0; 3]);
                        model.asked = Some(([0; 3], now, false));
                    }
                    Some(other) => prop_assert!(false, "{other:?}"),
                },
                Step::Answer(free, allowed) => {
                    if let Some((taken, at, takes)) = model.asked.take() {
                        let allowed = allowed || !takes;
                        let surplus = budget.answered(now, Some(&answer(&limits, free, allowed, 0)));
                        (model.free, model.known_at) = (Some(free), now);
                        if allowed {
                            (0..3).for_each(|tier| model.purse[tier] += taken[tier]);
                            let mut rest = model.purse;
                            for (tier, rest) in rest.iter_mut().enumerate() {
                                let back = surplus.map_or(0, |cost| model.numbers(&cost)[tier]);
                                prop_assert!(back <= *rest);
                                *rest -= back;
                            }
                            model.purse = rest;
                            // It is renewed unless all of it went back.
                            if takes || model.purse != [0; 3] {
                                model.lapses_at = at + TTL * 6 / 16;
                            }
                        } else {
                            prop_assert!(surplus.is_none());
                        }
                    }
                }
                Step::Paused => {
                    if model.asked.take().is_some() {
                        let paused = answer(&limits, [0; 3], true, 3_700 * SECOND);
                        prop_assert_eq!(budget.answered(now, Some(&paused)), None);
                        (model.purse, model.free) = ([0; 3], None);
                    }
                }
                Step::Fail => {
                    if let Some((_, _, takes)) = model.asked.take() {
                        budget.failed();
                        if !takes {
                            (model.purse, model.free) = ([0; 3], None);
                        }
                    }
                }
                Step::Discard => {
                    budget.discard();
                    (model.purse, model.free) = ([0; 3], None);
                    if model.asked.take().is_some() {
                        let late = answer(&limits, [9_000; 3], true, 0);
                        prop_assert_eq!(budget.answered(now, Some(&late)), None, "it is void");
                    }
                }
            }
            if now < model.lapses_at {
                for tier in 0..count {
                    prop_assert!(model.purse[tier] <= model.spent_since(now - TTL, tier));
                }
            }
        }
        // Whatever has happened, it all goes back at the end.
        budget.close();
        if model.asked.is_none() && model.purse != [0; 3] {
            let looks = matches!(budget.ask(now), Some(Operation::Peek { .. }));
            prop_assert!(looks, "it looks at the bucket first");
            let back = budget.answered(now, Some(&answer(&limits, [9_000; 3], true, 0)));
            prop_assert_eq!(model.numbers(&back.unwrap()), model.purse);
        }
        let one = Cost::each(&[1, 1, 1][..count]).unwrap();
        prop_assert_eq!(budget.spend(now, &one), None);
    }
}

/// A budget that pays for ten calls of `[1, 20]`, taken just now.
fn taken(limits: &[Limit], now: u64) -> Budget {
    let mut budget = Budget::new(&terms(limits, 1_000), limits, now);
    let cost = Cost::each(&[1, 20]).unwrap();
    for _ in 0..10 {
        assert_eq!(budget.spend(now, &cost), None);
        budget.answered_directly(now, &cost, Some(&answer(limits, [900, 9_000, 0], true, 0)));
    }
    assert!(budget.is_urgent(now));
    assert_eq!(budget.ask(now), Some(Operation::Check { cost: [10, 200].into() }));
    assert!(budget.is_asking() && budget.ask(now).is_none(), "one request at a time");
    assert_eq!(budget.answered(now, Some(&answer(limits, [890, 8_800, 0], true, 0))), None);
    budget
}

#[test]
fn what_no_call_wants_goes_back_soon() {
    let limits = limits(2);
    let mut budget = taken(&limits, START);
    assert_eq!(budget.spend(START, &[1, 20].into()).unwrap().remaining, 9);
    let mut now = START;
    while budget.ask(now).is_none() {
        now += TTL / 32;
    }
    assert!(now <= START + TTL / 4, "{} ms", (now - START) / MILLI);
    // A call while the answer is under way is still paid.
    assert_eq!(budget.spend(now, &[1, 20].into()).unwrap().remaining, 8);
    let back = budget.answered(now, Some(&answer(&limits, [1_000, 9_000, 0], true, 0)));
    assert_eq!(back, Some([8, 160].into()));
    assert!(budget.is_over(now + 2 * TTL) && !budget.is_over(now));
}

#[test]
fn a_scarce_bucket_gives_no_budget() {
    let limits = limits(2);
    for free in [[15, 9_000, 0], [900, 300, 0]] {
        let mut budget = Budget::new(&terms(&limits, 1_000), &limits, START);
        let cost = Cost::each(&[1, 20]).unwrap();
        for _ in 0..50 {
            budget.spend(START, &cost);
            budget.answered_directly(START, &cost, Some(&answer(&limits, free, true, 0)));
        }
        assert!(!budget.is_urgent(START) && budget.ask(START).is_none(), "{free:?}");
    }
}

#[test]
fn a_bucket_that_is_held_takes_the_budget_along() {
    let limits = limits(2);
    let held = answer(&limits, [0; 3], false, 10 * SECOND);
    let mut budget = taken(&limits, START);
    budget.answered_directly(START, &[9, 900].into(), Some(&held));
    assert_eq!(budget.spend(START, &[1, 1].into()), None);
    budget.close();
    assert_eq!(budget.ask(START), None, "nothing goes back, because that would shorten the hold");
}
