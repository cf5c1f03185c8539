//! What each limit says, in every form of a call: `check_tiers`, `peek_tiers`, `check_many_tiers` and a
//! reservation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use core::time::Duration;

use tidegate::{Limiter, Limits, Source, TierDecision, TieredDecision};

fn limiter(limits: &[&str]) -> Limiter {
    let builder = limits.iter().fold(Limiter::builder(), |builder, text| builder.limit(text));
    builder.build().unwrap()
}

/// Each limit's place and what remains of it.
fn left(tiered: &TieredDecision) -> Vec<(u8, u64)> {
    tiered.tiers().iter().map(|said| (said.tier, said.remaining)).collect()
}

#[test]
fn every_form_of_a_call_says_what_each_limit_says() {
    let limiter = limiter(&["10/d", "25/d window"]);
    let peeked = limiter.peek_tiers("k", 4).unwrap();
    let checked = limiter.check_tiers("k", 4).unwrap();
    assert_eq!((left(&checked), left(&peeked)), (vec![(0, 6), (1, 21)], vec![(0, 6), (1, 21)]));
    assert_eq!(checked.source, Source::Memory);
    assert_eq!(checked.tiers()[0], TierDecision::from(checked.decision()));
    let refused = limiter.check_tiers("k", 7).unwrap();
    assert_eq!((refused.allowed, left(&refused)), (false, left(&checked)));
    assert!(refused.tiers()[0].retry_after > 0 && refused.tiers()[1].retry_after == 0);
    let many = limiter.check_many_tiers([("k", 1), ("k", 9), ("other", 1)]).unwrap();
    let many: Vec<_> = many.iter().map(left).collect();
    assert_eq!(many, [[(0, 5), (1, 20)], [(0, 5), (1, 20)], [(0, 9), (1, 24)]]);
    let reservation = limiter.reserve("k", 2, Some(Duration::ZERO)).unwrap();
    assert_eq!(left(reservation.tiers()), [(0, 3), (1, 18)]);
    let each = limiter.check_tiers(&[b"user" as &[u8], b"org"], [1, 20]).unwrap();
    assert_eq!(left(&each), [(0, 9), (1, 5)]);
    let wrong = limiter.check_tiers("k", 11).unwrap_err();
    assert_eq!(wrong.code(), "cost_too_large");
    limiter.close();
    assert_eq!(limiter.check_tiers("k", 1).unwrap_err().code(), "store_error");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let bare = tokio::runtime::Builder::new_current_thread().build();
    bare.map(|runtime| runtime.block_on(future)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn futures_say_it_too() {
    for limits in [&["10/d", "25/d"][..], &["10/d", "25/d", "unlimited"]] {
        let limiter = limiter(limits);
        let expected = |place: usize, tiered: &TieredDecision, remaining| {
            assert_eq!(tiered.tiers().len(), limits.len());
            assert_eq!(tiered.tiers()[place].remaining, remaining);
        };
        expected(1, &block_on(limiter.check_tiers_async("k", 4)).unwrap(), 21);
        expected(1, &block_on(limiter.peek_tiers_async("k", 0)).unwrap(), 21);
        let many = block_on(limiter.check_many_tiers_async([("k", 1)])).unwrap();
        expected(0, &many[0], 5);
    }
}

#[test]
fn limits_without_buckets_keep_their_places() {
    let mixed = limiter(&["unlimited", "10/d", "unlimited", "25/d"]);
    let most = u64::MAX;
    let expected = [(0, most), (1, 6), (2, most), (3, 21)];
    assert_eq!(left(&mixed.check_tiers("k", 4).unwrap()), expected);
    assert_eq!(left(&mixed.check_many_tiers([("k", 0)]).unwrap()[0]), expected);
    assert_eq!(left(mixed.reserve("k", 0, None).unwrap().tiers()), expected);
    let unlimited = limiter(&["unlimited", "unlimited"]);
    assert_eq!(left(&unlimited.check_tiers("k", 4).unwrap()), [(0, most), (1, most)]);
    let none = limiter(&["10/d", "none"]);
    assert_eq!(left(&none.check_tiers("k", 1).unwrap()), [(1, 0)]);
}

#[test]
fn limits_of_the_call_say_what_they_say() {
    let base = limiter(&["5/d"]);
    let plan = base.with_limits(&Limits::parse(&["20/d", "25/d"]).unwrap()).unwrap();
    assert_eq!(left(&plan.check_tiers("k", 4).unwrap()), [(0, 16), (1, 21)]);
    assert_eq!(left(&plan.check_many_tiers([("k", 1)]).unwrap()[0]), [(0, 15), (1, 20)]);
    assert_eq!(left(&base.check_tiers("k", 0).unwrap()), [(0, 0)]);
}
