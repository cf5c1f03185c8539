//! Limits of the call, in memory: `Limiter::with_limits`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "how a test fails")]

use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tidegate::{Error, Limiter, Limits, ManualClock, OnFull, Source};

fn plan(texts: &[&str]) -> Limits {
    Limits::parse(texts).unwrap()
}

fn limiter(texts: &[&str], clock: &Arc<ManualClock>) -> Limiter {
    let builder = Limiter::builder().clock(Arc::clone(clock) as _);
    texts.iter().fold(builder, |builder, text| builder.limit(text)).build().unwrap()
}

#[test]
fn a_key_has_one_bucket_under_the_limits_of_any_call() {
    let clock = Arc::new(ManualClock::new(1_000_000_000_000));
    let limiter = limiter(&["10/min"], &clock);
    assert_eq!(limiter.check("a", 4).unwrap().remaining, 6);
    let paid = limiter.with_limits(&plan(&["1000/min"])).unwrap();
    // Debt of the tables is carried over, in tokens.
    assert_eq!(paid.check("a", 1).unwrap().remaining, 995);
    assert_eq!(limiter.peek("a", 0).unwrap().remaining, 5);
    assert_eq!(paid.settle("a", 1, 3).unwrap().remaining, 993);
    assert_eq!(limiter.check("a", 2).unwrap().remaining, 1);
    assert_eq!(limiter.check("b", 4).unwrap().remaining, 6);
}

#[test]
fn a_reset_under_fewer_limits_forgets_all_of_a_plan() {
    let clock = Arc::new(ManualClock::new(1_000_000_000_000));
    let limiter = limiter(&["10/h"], &clock);
    let paid = limiter.with_limits(&plan(&["20/h", "20/h"])).unwrap();
    for costs in [[0, 8], [3, 8]] {
        paid.check("k", costs).unwrap();
        limiter.reset("k").unwrap();
        let left = paid.peek_tiers("k", 0).unwrap();
        assert!(left.tiers().iter().all(|tier| tier.remaining == 20), "{left:?}");
    }
}

#[test]
fn decisions_name_the_limits_of_the_call() {
    let limiter = Limiter::builder().limit("10/s").build().unwrap();
    let under = limiter.with_limits(&plan(&["100/s", "5/min"])).unwrap();
    let decision = under.check("k", 5).unwrap();
    assert_eq!((under.limit_name(&decision), decision.limit), ("5/min", 5));
    let refused = under.check("k", 1).unwrap();
    assert!(!refused.allowed && refused.retry_after > 0);
    assert!(matches!(under.check("k", 6), Err(Error::CostTooLarge { .. })));
    assert!(matches!(under.check(&[&b"k"[..], b"l", b"m"], 1), Err(Error::InvalidArgument { .. })));
    assert_eq!(under.check("costs", [1, 5]).unwrap().remaining, 0);
}

#[test]
fn unlimited_and_none_as_plans() {
    let limiter = Limiter::builder().limit("none").build().unwrap();
    assert!(!limiter.check("k", 1).unwrap().allowed);
    let under = |texts: &[&str]| limiter.with_limits(&plan(texts)).unwrap();
    assert!(under(&["unlimited"]).check("k", 1_000_000).unwrap().allowed);
    assert!(under(&["2/d"]).check("k", 2).unwrap().allowed);
    let mixed = under(&["unlimited", "2/d"]);
    let refused = mixed.check("k", 1).unwrap();
    assert_eq!((refused.allowed, mixed.limit_name(&refused)), (false, "2/d"));
    assert!(!under(&["2/d", "none"]).check("other", 1).unwrap().allowed);
    // It is still refused: the limiter's own limits are what they were.
    assert!(!limiter.check("k", 1).unwrap().allowed);
}

#[test]
fn a_hold_reaches_those_who_wait_under_other_limits() {
    let limiter = Limiter::builder().limit("1000/s burst 1").build().unwrap();
    let under = limiter.with_limits(&plan(&["1000/s burst 1", "1000/d"])).unwrap();
    limiter.hold("k", Duration::from_millis(300)).unwrap();
    let waiting = under.clone();
    let waiter = thread::spawn(move || {
        let began = Instant::now();
        waiting.acquire("k", 1, None).unwrap();
        began.elapsed()
    });
    while under.waiting("k").unwrap().callers == 0 {
        thread::yield_now();
    }
    limiter.hold("k", Duration::from_millis(800)).unwrap();
    assert!(waiter.join().unwrap() >= Duration::from_millis(750));
}

#[test]
fn closing_one_closes_all_and_tells_those_who_wait() {
    let limiter = Limiter::builder().limit("10/s").build().unwrap();
    let slow = limiter.with_limits(&plan(&["1/d"])).unwrap();
    slow.acquire("k", 1, None).unwrap();
    let waiting = slow.clone();
    let waiter = thread::spawn(move || waiting.acquire("k", 1, None));
    while slow.waiting("k").unwrap().callers == 0 {
        thread::yield_now();
    }
    slow.with_limits(&plan(&["2/d"])).unwrap().close();
    assert!(matches!(waiter.join().unwrap(), Err(Error::Store(_))));
    assert!(matches!(limiter.check("k", 1), Err(Error::Store(_))));
    assert!(matches!(limiter.with_limits(&plan(&["1/d"])), Err(Error::Store(_))));
}

#[test]
fn a_limiter_that_is_gone_leaves_its_plans_usable() {
    let limiter = Limiter::builder().limit("10/s").build().unwrap();
    let daily = limiter.with_limits(&plan(&["2/d"])).unwrap();
    let reservation = daily.reserve("k", 2, None).unwrap();
    drop(limiter);
    assert!(!daily.check("k", 1).unwrap().allowed);
    assert!(reservation.cancel().unwrap());
    assert!(daily.check("k", 1).unwrap().allowed);
}

#[test]
fn more_plans_than_are_kept_share_their_buckets_all_the_same() {
    let limiter = Limiter::builder().limit("10/d").build().unwrap();
    for number in 0..5_000u64 {
        let under = limiter.with_limits(&plan(&[&format!("{}/d", 10_000 + number)])).unwrap();
        assert_eq!(under.check("k", 1).unwrap().remaining, 10_000 + number - (number + 1));
    }
}

#[test]
fn room_for_keys_is_bounded_under_plans_too() {
    let limiter =
        Limiter::builder().limit("1/d").max_keys(10).on_full(OnFull::Deny).build().unwrap();
    let daily = limiter.with_limits(&plan(&["5/d"])).unwrap();
    let allowed = (0..100).filter(|key| daily.check(&key.to_string(), 1).unwrap().allowed).count();
    assert_eq!((allowed, limiter.pressure().denied, daily.pressure().denied), (10, 90, 90));
}

#[test]
fn check_many_and_any_source() {
    let limiter = Limiter::builder().limit("10/s").build().unwrap();
    let under = limiter.with_limits(&plan(&["3/d"])).unwrap();
    let decisions = under.check_many([("a", 2), ("a", 2), ("b", 3)]).unwrap();
    assert_eq!(decisions.iter().map(|d| d.allowed).collect::<Vec<_>>(), [true, false, true]);
    assert!(decisions.iter().all(|decision| decision.source == Source::Memory));
    assert_eq!(under.source(), Source::Memory);
}

/// Threads spend from one bucket under two limits with the same rate: the bound holds.
#[test]
fn threads_under_several_limits_share_the_bound() {
    let limiter = Limiter::builder().limit("1000/d").build().unwrap();
    let plans = [plan(&["1000/d"]), plan(&["1000/d", "100000/d"])];
    // The first call with limits moves the buckets from the tables.
    limiter.with_limits(&plans[0]).unwrap().peek("k", 0).unwrap();
    let allowed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (limiter, plans) = (&limiter, &plans);
                scope.spawn(move || {
                    let under = match plans.get(number) {
                        Some(plan) => limiter.with_limits(plan).unwrap(),
                        None => limiter.clone(),
                    };
                    (0..1_000).filter(|_| under.check("k", 1).unwrap().allowed).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(allowed, 1_000);
}

#[test]
fn limits_of_shared_memory_are_those_of_its_file() {
    let directory = std::env::temp_dir().join(format!("tidegate-plans-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let url = format!("shm://plans?dir={}", directory.display());
    let limiter = Limiter::builder().limit("10/s").store_url(&url).build().unwrap();
    let error = limiter.with_limits(&plan(&["1/s"])).unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument { .. }), "{error}");
    assert!(error.to_string().contains("shm://"), "{error}");
    drop(limiter);
    std::fs::remove_dir_all(&directory).unwrap();
}
