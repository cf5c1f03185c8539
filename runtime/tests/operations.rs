//! The limiter's operations in memory, as a program uses them: keys, waiting and giving back. The
//! answers of each operation are in `tests/vectors/operations.json`.

#![allow(clippy::panic, reason = "how a test fails")]

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tidegate::{Error, Keys, Limiter, ManualClock};

type Tested = Result<(), Error>;

const SECOND: Duration = Duration::from_secs(1);

/// A limiter on a clock that stands still.
fn limiter(limits: &[&str]) -> Result<Limiter, Error> {
    let builder = Limiter::builder().clock(Arc::new(ManualClock::new(7_000_000_000)));
    limits.iter().fold(builder, |builder, text| builder.limit(text)).build()
}

/// An executor with neither timers nor I/O.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let bare = tokio::runtime::Builder::new_current_thread().build();
    bare.map(|runtime| runtime.block_on(future)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_key_per_limit_is_all_or_nothing() -> Tested {
    let limiter = limiter(&["10/min", "15/min"])?;
    let check = |user: &str, cost| limiter.check(&[user.as_bytes(), b"org"], cost);
    assert!(check("a", 10)?.allowed);
    let refused = check("b", 6)?;
    assert_eq!((refused.allowed, refused.tier), (false, 1));
    assert_eq!(check("b", 5)?.remaining, 0, "the refusal charged b nothing");
    assert_eq!(check("b", 0)?.tier, 1);
    Ok(())
}

#[test]
fn a_key_per_limit_takes_every_operation() -> Tested {
    let limiter = limiter(&["10/min", "15/min"])?;
    let keys: [&[u8]; 2] = [b"user", b"org"];
    let slot = limiter.reserve(&keys, 10, None)?;
    assert_eq!(limiter.check(&[b"other".as_slice(), b"org"], 0)?.remaining, 5);
    assert!(slot.cancel()?);
    assert_eq!(limiter.check(&keys, 0)?.remaining, 10);
    assert_eq!(limiter.settle(&keys, 0, 12)?.remaining, 0);
    assert_eq!(limiter.credit(&keys, 4)?.remaining, 2);
    assert_eq!(limiter.hold(&keys, SECOND)?.remaining, 0);
    assert_eq!(limiter.reset(&keys)?.remaining, 10);
    assert_eq!(limiter.acquire(&keys, 3, None)?.remaining, 7);
    Ok(())
}

#[test]
fn with_one_limit_both_forms_are_one_bucket() -> Tested {
    let limiter = limiter(&["10/min"])?;
    assert_eq!(limiter.check(&[b"k".as_slice()], 4)?.remaining, 6);
    assert_eq!(limiter.check("k", 0)?.remaining, 6);
    Ok(())
}

#[test]
fn a_key_per_limit_is_apart_from_one_key() -> Tested {
    let limiter = limiter(&["10/min", "15/min"])?;
    limiter.check(&[b"k".as_slice(), b"k"], 10)?;
    assert_eq!(limiter.check("k", 0)?.remaining, 10);
    Ok(())
}

#[test]
fn a_wrong_number_of_keys_is_named() -> Tested {
    let limiter = limiter(&["10/min", "15/min"])?;
    let wrong = |keys: Keys<'_>| match limiter.check(keys, 1) {
        Err(error @ Error::InvalidArgument { name: "key", .. }) => error.to_string(),
        other => format!("{other:?}"),
    };
    for (keys, count) in [(&[][..], 0), (&[b"a".as_slice()][..], 1), (&[b"a".as_slice(); 3], 3)] {
        let message = wrong(Keys::Each(keys));
        assert!(message.contains("one for each limit (2)"), "{message}");
        assert!(message.ends_with(&format!("has {count}")), "{message}");
    }
    assert_eq!(limiter.check("k", 0)?.remaining, 10);
    Ok(())
}

#[test]
fn many_checks_are_decided_in_order() -> Tested {
    let limiter = limiter(&["10/min"])?;
    let decisions = limiter.check_many([("a", 6), ("b", 1), ("a", 6), ("a", 4)])?;
    let seen: Vec<_> = decisions.iter().map(|it| (it.allowed, it.remaining)).collect();
    assert_eq!(seen, [(true, 4), (true, 9), (false, 4), (true, 0)]);
    assert_eq!(block_on(limiter.check_many_async([("b", 2)]))?[0].remaining, 7);
    assert_eq!(limiter.check_many::<&str, u64>([])?, []);
    Ok(())
}

#[test]
fn a_mistake_among_many_checks_charges_nothing() -> Tested {
    let limiter = limiter(&["10/min"])?;
    let wrong = ("k", 11);
    assert!(limiter.check_many([("k", 1), wrong]).is_err());
    assert!(block_on(limiter.check_many_async([("k", 1), wrong])).is_err());
    assert_eq!(limiter.check("k", 0)?.remaining, 10);
    Ok(())
}

#[test]
fn a_refused_reservation_holds_nothing() -> Tested {
    let limiter = limiter(&["2/min"])?;
    limiter.check("k", 2)?;
    let refuse = || limiter.reserve("k", 1, Some(29 * SECOND));
    let refused = refuse()?;
    assert!(!refused.allowed());
    assert_eq!((refused.delay(), refused.cost()), (Duration::MAX, 1.into()));
    assert_eq!(refused.decision().retry_after, 1_000_000_000);
    assert!(!refused.cancel()?);
    assert!(matches!(refuse()?.settle(1), Err(Error::InvalidArgument { .. })));
    assert!(limiter.reserve("k", 1, Some(30 * SECOND))?.allowed());
    Ok(())
}

#[test]
fn a_slot_later_than_the_timeout_is_an_error_at_once() -> Tested {
    let limiter = limiter(&["1/h", "2/d"])?;
    let keys: [&[u8]; 2] = [b"user", b"org"];
    limiter.acquire(&keys, 1, None)?;
    let started = Instant::now();
    for timeout in [Duration::ZERO, 3599 * SECOND] {
        let blocking = limiter.acquire(&keys, 1, Some(timeout));
        assert_eq!(blocking, block_on(limiter.acquire_async(&keys, 1, Some(timeout))));
        let Err(Error::RateLimited { decision, key }) = blocking else { panic!("{blocking:?}") };
        assert_eq!((decision.allowed, decision.tier, &*key), (false, 0, "user"));
        let wait = Duration::from_nanos(decision.retry_after);
        assert_eq!(wait, 3600 * SECOND - timeout);
    }
    assert!(started.elapsed() < 60 * SECOND);
    Ok(())
}

#[test]
fn waiters_go_first_come_first_served_at_the_pace() -> Tested {
    let limiter = Limiter::builder().limit("100/s burst 1").build()?;
    let started = Instant::now();
    // The futures reserve when they are made, in this order.
    let waiters: Vec<_> = (0..20).map(|_| limiter.acquire_async("k", 1, None)).collect();
    let mut ended = Vec::new();
    for waiter in waiters {
        block_on(waiter)?;
        ended.push(started.elapsed());
    }
    for (place, ended) in (0..).zip(&ended) {
        assert!(*ended >= place * Duration::from_millis(10), "{place} came at {ended:?}");
    }
    assert!(ended[19] < SECOND, "they waited for one another: {ended:?}");
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..8).map(|_| scope.spawn(|| limiter.acquire("k", 1, None))).collect();
        for waiter in waiters {
            assert!(waiter.join().is_ok_and(|decision| decision.is_ok_and(|it| it.allowed)));
        }
    });
    assert!(started.elapsed() >= Duration::from_millis(270), "28 tokens at 100/s");
    Ok(())
}

#[test]
fn a_waiter_that_is_dropped_gives_its_slot_back() -> Tested {
    let limiter = limiter(&["1/min"])?;
    limiter.acquire("k", 1, None)?;
    {
        let mut waiter = pin!(limiter.acquire_async("k", 1, None));
        let poll = waiter.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll, Poll::Pending));
        let waiting = limiter.waiting("k")?;
        assert_eq!((waiting.callers, waiting.tokens), (1, 1));
        let next = limiter.reserve("k", 1, None)?;
        assert_eq!(next.delay(), 120 * SECOND);
        assert!(next.cancel()?);
    }
    assert_eq!(limiter.waiting("k")?.callers, 0);
    assert_eq!(limiter.reserve("k", 1, None)?.delay(), 60 * SECOND);
    Ok(())
}

#[test]
fn a_reservation_that_nobody_took_is_given_back() -> Tested {
    let limiter = limiter(&["1/min"])?;
    drop(limiter.reserve_async("k", 1, None));
    drop(limiter.acquire_async("k", 1, None));
    assert_eq!(limiter.check("k", 0)?.remaining, 1);
    // A reservation that somebody took and dropped stays charged: its tokens may have been spent.
    drop(limiter.reserve("k", 1, None)?);
    assert_eq!(limiter.check("k", 0)?.remaining, 0);
    Ok(())
}

#[test]
fn a_closed_limiter_does_nothing_more() -> Tested {
    let limiter = limiter(&["10/s"])?;
    let reservation = limiter.reserve("k", 1, None)?;
    limiter.close();
    let closed = |answer: Result<_, Error>| answer.err().map(|error| error.code());
    assert_eq!(closed(reservation.cancel().map(drop)), Some("store_error"));
    assert_eq!(closed(limiter.check_many([("k", 1)]).map(drop)), Some("store_error"));
    assert_eq!(closed(limiter.acquire("k", 1, None).map(drop)), Some("store_error"));
    assert_eq!(closed(limiter.hold("k", SECOND).map(drop)), Some("store_error"));
    Ok(())
}

#[test]
fn one_call_makes_at_most_ten_thousand_checks() -> Tested {
    let checks = |count| core::iter::repeat_n(("key", 1), count);
    for limits in [&["20000/d"][..], &["20000/d", "unlimited"], &["unlimited"]] {
        let limiter = limiter(limits)?;
        assert!(limiter.check_many(checks(10_000))?.iter().all(|decision| decision.allowed));
        let refused = limiter.check_many(checks(10_001)).map(|decisions| decisions.len());
        let message = "invalid checks: there may be at most 10000 in one call; make several calls";
        assert_eq!(refused.map_err(|error| error.to_string()), Err(message.to_owned()));
        // None of the refused checks was charged.
        assert!(limiter.check_many(checks(10_000))?.iter().all(|decision| decision.allowed));
    }
    let remote = Limiter::builder().limit("1/d").store_url("redis://127.0.0.1:1").build()?;
    // An endless iterator is read only up to the bound.
    let endless = block_on(remote.check_many_async(core::iter::repeat(("key", 1))));
    assert!(matches!(endless, Err(Error::InvalidArgument { name: "checks", .. })));
    Ok(())
}
