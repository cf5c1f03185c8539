//! Every answer to every sequence of checks is that of naive buckets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::{Cells, Decision, Error, Limit, Source, decide_tiers};
use tidegate_fuzz::naive::NaiveBucket;
use tidegate_fuzz::steps::Steps;

fuzz_target!(|steps: Steps| {
    let mut buckets: Vec<_> = steps.limits.iter().copied().map(NaiveBucket::full).collect();
    let mut cells = Cells::default();
    let mut now = 0;
    let mut last: Option<Decision> = None;
    for (number, call) in steps.calls.iter().enumerate() {
        now = call.clock.from(now, last.as_ref());
        let cost = call.cost.tokens(&steps.limits, last.as_ref());
        let before = cells;
        let answer = decide_tiers(&steps.limits, &mut cells, now, cost);
        let expected = expected(&steps.limits, &mut buckets, now, cost);
        assert!(
            same(&answer, &expected),
            "check {number} at {now}, cost {cost}: expected {expected:?}, got {answer:?}"
        );
        if !answer.is_ok_and(|decision| decision.allowed) || cost == 0 {
            assert_eq!(cells, before, "check {number}: a refusal or a look changed the bucket");
        }
        last = answer.ok().or(last);
    }
});

/// Spends from all naive buckets or from none, and answers what [`decide_tiers`] should answer.
fn expected(
    limits: &[Limit],
    buckets: &mut [NaiveBucket],
    now: u64,
    cost: u64,
) -> Result<Decision, Error> {
    let smallest = limits.iter().map(Limit::burst).min().unwrap_or(0);
    if cost > smallest {
        return Err(Error::CostTooLarge { cost, burst: smallest });
    }
    let waits: Vec<u64> =
        buckets.iter().map(|bucket| nanos(bucket.retry_after(now, cost))).collect();
    let allowed = waits.iter().all(|&wait| wait == 0);
    if allowed {
        for bucket in &mut *buckets {
            bucket.spend(now, cost);
        }
    }
    let tier = if allowed {
        first_least(buckets.iter().map(|bucket| bucket.remaining(now)))
    } else {
        first_least(waits.iter().map(|&wait| -i128::from(wait)))
    };
    let bucket = &buckets[tier];
    Ok(Decision {
        allowed,
        limit: limits[tier].burst(),
        remaining: nanos(Some(bucket.remaining(now))),
        retry_after: waits[tier],
        reset_after: nanos(Some(bucket.reset_after(now))),
        tier: tier as u8,
        source: Source::Memory,
    })
}

/// Compares two answers. Past the end of the timeline any wait of centuries is right, whichever
/// tier it is for.
fn same(answer: &Result<Decision, Error>, expected: &Result<Decision, Error>) -> bool {
    let beyond = |nanos: u64| nanos > u64::MAX / 2;
    match (answer, expected) {
        (Ok(got), Ok(expected)) if beyond(expected.retry_after) => beyond(got.retry_after),
        (Ok(got), Ok(expected)) if beyond(expected.reset_after) => {
            beyond(got.reset_after)
                && Decision { reset_after: 0, ..*got } == Decision { reset_after: 0, ..*expected }
        }
        _ => answer == expected,
    }
}

fn nanos(exact: Option<i128>) -> u64 {
    exact.map_or(u64::MAX, |exact| u64::try_from(exact).unwrap_or(u64::MAX))
}

fn first_least(values: impl Iterator<Item = i128>) -> usize {
    let least = values.enumerate().min_by_key(|&(at, value)| (value, at));
    least.map_or(0, |(at, _)| at)
}
