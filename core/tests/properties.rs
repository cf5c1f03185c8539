//! The engine's promises on random traces, checked by a naive bucket that is easy to read.

mod naive;

use naive::NaiveBucket;
use proptest::prelude::*;
use tidegate_core::{Cells, Error, Limit, MAX_SPAN, Shape, decide, decide_tiers};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

fn limit() -> impl Strategy<Value = Limit> {
    let count = || prop_oneof![4 => 1..20u64, 2 => 1..3_000u64, 1 => any::<u64>()];
    let period = prop_oneof![
        1..1_000_000_000_000u64,
        (1..100_000u64).prop_map(|milli| milli * MILLI),
        any::<u64>()
    ];
    (count(), period, count(), any::<bool>()).prop_filter_map(
        "bounds",
        |(tokens, period, burst, stepped)| {
            if stepped {
                Limit::stepped(tokens, period / MILLI * MILLI, burst).ok()
            } else {
                Limit::smooth(tokens, period, burst).ok()
            }
        },
    )
}

/// The times of calls and their costs. The gaps fit the limit's scale, and time only moves forward,
/// from a time at which a window of every limit has begun.
fn trace() -> impl Strategy<Value = (Limit, Vec<(u64, u64)>)> {
    let start = prop_oneof![Just(0u64), 0..=2_000_000_000 * SECOND, Just(1_764_000_000 * SECOND)];
    let gaps = prop::collection::vec((0..6u8, any::<u64>(), any::<u64>()), 1..60);
    (limit(), start, gaps).prop_map(|(limit, start, gaps)| {
        let per_token = (limit.period() / limit.tokens()).max(1);
        let mut now = start;
        let calls = gaps.into_iter().map(|(kind, gap, cost)| {
            let gap = match kind {
                0 => 0,
                1 => gap % per_token.saturating_mul(2).max(1),
                2 => per_token,
                3 => gap % limit.period().saturating_mul(3).max(1),
                4 => gap % 1_000,
                _ => limit.period(),
            };
            // Another property covers the end of the timeline.
            now = now.saturating_add(gap).min(u64::MAX / 4);
            let cost = if cost % 3 == 0 { cost % limit.burst() + 1 } else { 1 + cost % 2 };
            (now, cost.min(limit.burst()))
        });
        let calls = calls.collect();
        (limit, calls)
    })
}

/// `make test-long` runs twenty times as many.
fn times() -> u32 {
    if std::env::var_os("TIDEGATE_TEST_LONG").is_some() { 20 } else { 1 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000 * times(), failure_persistence: None, ..Default::default() })]

    #[test]
    fn decides_as_the_naive_bucket((limit, calls) in trace(), back in prop::collection::vec(any::<u16>(), 60)) {
        let mut naive = NaiveBucket::full(limit);
        let mut cell = 0;
        for (&(now, cost), back) in calls.iter().zip(back) {
            // Sometimes the clock steps back.
            let now = if back % 7 == 0 { now.saturating_sub(u64::from(back) * MILLI) } else { now };
            let (decision, next) = decide(&limit, cell, now, cost)?;
            prop_assert_eq!(decision.allowed, naive.spend(now, cost));
            cell = next;
        }
    }

    /// Every window of length X admits at most burst + rate * X tokens.
    #[test]
    fn keeps_the_window_bound((limit, calls) in trace()) {
        let mut cell = 0;
        let mut admitted = Vec::new();
        for &(now, cost) in &calls {
            let (decision, next) = decide(&limit, cell, now, cost)?;
            cell = next;
            if decision.allowed {
                admitted.push((now, cost));
            }
        }
        for (first, &(start, _)) in admitted.iter().enumerate() {
            let mut sum = 0u128;
            for &(end, cost) in &admitted[first..] {
                sum += u128::from(cost);
                let arrived = match limit.shape() {
                    Shape::Smooth => {
                        u128::from(end - start) * u128::from(limit.tokens()) / u128::from(limit.period())
                    }
                    Shape::Stepped => {
                        u128::from(end / limit.period() - start / limit.period()) * u128::from(limit.tokens())
                    }
                };
                prop_assert!(sum <= u128::from(limit.burst()) + arrived, "{sum} in {} ns", end - start);
            }
        }
    }

    /// The same call is refused one tick before `retry_after` and allowed at it.
    #[test]
    fn retry_after_is_exact((limit, calls) in trace()) {
        let mut cell = 0;
        for &(now, cost) in &calls {
            let (decision, next) = decide(&limit, cell, now, cost)?;
            if !decision.allowed {
                prop_assert_eq!(next, cell, "a refusal changed the cell");
                prop_assert!(decision.retry_after > 0);
                prop_assert!(decide(&limit, cell, now + decision.retry_after, cost)?.0.allowed);
                prop_assert!(!decide(&limit, cell, now + decision.retry_after - 1, cost)?.0.allowed);
            }
            cell = next;
        }
    }

    /// `remaining` tokens can be spent at once and not one more. After `reset_after` the bucket is
    /// full, and one tick before it is not.
    #[test]
    fn remaining_and_reset_after_are_exact((limit, calls) in trace()) {
        let mut cell = 0;
        for &(now, cost) in &calls {
            let (decision, next) = decide(&limit, cell, now, cost)?;
            cell = next;
            prop_assert!(decide(&limit, cell, now, decision.remaining)?.0.allowed);
            if decision.remaining < limit.burst() {
                prop_assert!(!decide(&limit, cell, now, decision.remaining + 1)?.0.allowed);
            }
            let full_at = now.saturating_add(decision.reset_after);
            prop_assert!(cell <= limit.timeline().position(full_at));
            if decision.reset_after > 0 {
                prop_assert!(cell > limit.timeline().position(full_at - 1));
            }
        }
    }

    /// Nothing overflows, panics or mints at any value of any field.
    #[test]
    fn the_ends_of_the_types_hold(limit in limit(), cell: u64, now: u64, cost: u64) {
        let edge = |value: u64| if value.is_multiple_of(3) { u64::MAX - value % 1_000 } else { value };
        let (cell, now) = (edge(cell), edge(now));
        match decide(&limit, cell, now, cost % limit.burst().saturating_mul(2)) {
            Err(Error::CostTooLarge { cost, burst }) => prop_assert!(cost > burst),
            Err(other) => prop_assert!(false, "{other}"),
            Ok((decision, next)) => {
                prop_assert!(next >= cell || cell <= limit.timeline().position(now));
                prop_assert!(decision.remaining <= limit.burst());
                prop_assert_eq!(decision.allowed, decision.retry_after == 0);
            }
        }
    }

    #[test]
    fn tiers_charge_all_or_none(limits in prop::collection::vec(limit(), 1..=4), costs in prop::collection::vec((any::<u64>(), 1..5u64), 1..40)) {
        let mut cells = Cells::default();
        let mut single = Cells::default();
        let mut now = 1_764_000_000 * SECOND;
        for (gap, cost) in costs {
            now += gap % (2 * SECOND);
            let answer = decide_tiers(&limits, &mut cells, now, cost);
            let each: Vec<_> = limits.iter().zip(single)
                .map(|(limit, cell)| decide(limit, cell, now, cost)).collect();
            if each.iter().any(Result::is_err) {
                prop_assert!(answer.is_err());
                prop_assert_eq!(cells, single);
                continue;
            }
            let each: Vec<_> = each.into_iter().flatten().collect();
            let decision = answer?;
            prop_assert_eq!(decision.allowed, each.iter().all(|(one, _)| one.allowed));
            if decision.allowed {
                for (cell, (_, next)) in single.iter_mut().zip(&each) { *cell = *next; }
            }
            prop_assert_eq!(cells, single);
            let bound = each[usize::from(decision.tier)].0;
            prop_assert_eq!(decision.retry_after, each.iter().map(|(one, _)| one.retry_after).max().unwrap_or(0));
            prop_assert_eq!(bound.remaining, decision.remaining);
        }
    }

    /// A converted debt is the same number of tokens, rounded up, and at most the longest span.
    #[test]
    fn a_converted_debt_mints_nothing(from in limit(), to in limit(), debt in 0..=MAX_SPAN) {
        let (from, to) = (from.timeline(), to.timeline());
        let carried = from.carry(debt, &to);
        let tokens = u128::from(debt).div_ceil(u128::from(from.width()));
        let exact = if from.width() == to.width() { u128::from(debt) } else { tokens * u128::from(to.width()) };
        prop_assert_eq!(u128::from(carried), exact.min(u128::from(MAX_SPAN)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        if let Ok(limit) = Limit::parse(&text) {
            prop_assert_eq!(Limit::parse(&limit.to_string()), Ok(limit));
        }
    }

    #[test]
    fn every_limit_reads_back_from_its_text(limit in limit()) {
        prop_assert_eq!(Limit::parse(&limit.to_string()), Ok(limit));
    }

    /// `N in any W`: no window of W + J holds more than N, and the width is the least such.
    #[test]
    fn in_any_keeps_the_other_services_window(
        count in 1..200u64,
        burst: u64,
        window in 1..100_000_000_000u64,
        jitter in 0..1_000_000_000u64,
    ) {
        let burst = burst % count + 1;
        if let Ok(limit) = Limit::in_any(count, window, jitter, burst) {
            let width = limit.timeline().width();
            let most_in_a_window = |width| burst + (window + jitter) / width;
            prop_assert!(most_in_a_window(width) <= count);
            prop_assert!(width == 1 || most_in_a_window(width - 1) > count);
        }
    }
}
