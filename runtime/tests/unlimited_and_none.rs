//! `unlimited` and `none` as limits of a limiter: no bucket is asked for either, and `unlimited`
//! beside other limits is as if it were not there. What they answer is in
//! `tests/vectors/fixed.json`; this is about stores, keys and waiting.

#![allow(clippy::panic, reason = "how a test fails")]

use core::time::Duration;
use std::sync::Arc;

use tidegate::{Error, LeaseOptions, Limiter, ManualClock, OnStoreError, Source};

type Tested = Result<(), Error>;

/// Nobody listens there, so a call that asks the store is an error.
const DOWN: &str = "redis://127.0.0.1:1";
const FOREVER: u64 = u64::MAX;

fn limiter(store: &str, limits: &[&str]) -> Result<Limiter, Error> {
    // Limiters with other limits have buckets of their own.
    let builder = Limiter::builder().store_url(store).prefix(&limits.join(", "));
    limits.iter().fold(builder, |builder, limit| builder.limit(limit)).build()
}

#[test]
fn no_store_is_asked_for_either() -> Tested {
    for store in ["memory://", DOWN] {
        let unlimited = limiter(store, &["unlimited", "unlimited"])?;
        let allowed = unlimited.check("k", FOREVER)?;
        assert!(allowed.allowed && !unlimited.is_remote() && allowed.source == Source::Memory);
        assert_eq!((allowed.limit, allowed.remaining), (FOREVER, FOREVER));
        assert_eq!((allowed.retry_after, allowed.reset_after), (0, 0));
        let slot = unlimited.reserve("k", 1 << 60, Some(Duration::ZERO))?;
        assert_eq!(slot.delay(), Duration::ZERO);
        assert!(slot.cancel()?);
        unlimited.hold("k", Duration::from_secs(3600))?;
        unlimited.settle("k", 0, 1 << 60)?;
        assert!(unlimited.acquire("k", 1, Some(Duration::ZERO))?.allowed, "a hold has no effect");

        let none = limiter(store, &["10/s", "none", "none"])?;
        for refused in [none.check("k", 1)?, none.peek("k", 11)?] {
            assert_eq!((refused.allowed, refused.limit, refused.remaining), (false, 0, 0));
            assert_eq!((refused.retry_after, refused.reset_after), (FOREVER, FOREVER));
            assert_eq!(none.limit_name(&refused), "none");
        }
        assert!(none.check("k", 0)?.allowed && none.credit("k", 100)?.remaining == 0);
        assert!(!none.reserve("k", 1, None)?.allowed());
        assert!(matches!(none.acquire("k", 1, None), Err(Error::RateLimited { .. })));
        let many = none.check_many([("a", 1), ("b", 0)])?;
        assert_eq!([many[0].allowed, many[1].allowed], [false, true]);
        assert!(none.reset("k")?.remaining == 0 && !none.check("k", 1)?.allowed);
    }
    Ok(())
}

#[test]
fn arguments_are_checked_as_ever() -> Tested {
    for limits in [["unlimited", "unlimited"], ["none", "5/s"], ["unlimited", "5/s"]] {
        let limiter = limiter("memory://", &limits)?;
        let keys: [&[u8]; 2] = [b"user", b"org"];
        assert!(limiter.check(&keys, 0)?.allowed);
        for wrong in [limiter.check(&keys[..1], 1), limiter.peek(&keys[..0], 0)] {
            assert_eq!(wrong.map_err(|error| error.code()), Err("invalid_argument"), "{limits:?}");
        }
        assert!(limiter.validate(&keys[..1], 1).is_err() && limiter.validate("k", 0).is_ok());
        limiter.close();
        assert_eq!(limiter.check("k", 0).map_err(|error| error.code()), Err("store_error"));
    }
    let five = ["unlimited"; 5];
    assert_eq!(
        limiter("memory://", &five).map_err(|error| error.code()).err(),
        Some("invalid_limit")
    );
    let nobody = Limiter::builder().limit("none").on_store_error(OnStoreError::Local { peers: 0 });
    assert_eq!(nobody.build().map_err(|error| error.code()).err(), Some("invalid_argument"));
    Ok(())
}

/// Both limiters are in memory of their own on one clock, and answer alike but for the place of
/// the limit that binds.
#[test]
fn unlimited_among_others_is_as_if_it_were_not_there() -> Tested {
    let clock = Arc::new(ManualClock::new(7));
    let built = |limits: &[&str]| {
        let builder = Limiter::builder().clock(clock.clone());
        limits.iter().fold(builder, |builder, limit| builder.limit(limit)).build()
    };
    let mixed = built(&["unlimited", "10/s", "unlimited", "12/d"])?;
    let plain = built(&["10/s", "12/d"])?;
    let names: Vec<_> = mixed.limits().iter().map(|named| named.name.as_str()).collect();
    assert_eq!(names, ["unlimited", "10/s", "unlimited", "12/d"]);
    let mixed_keys: [&[u8]; 4] = [b"plan", b"user", b"other", b"org"];
    let plain_keys: [&[u8]; 2] = [b"user", b"org"];
    for cost in [3, 5, 2, 8, 0, 10] {
        for [mixed, plain] in [
            [mixed.check("k", cost)?, plain.check("k", cost)?],
            [mixed.peek("k", cost)?, plain.peek("k", cost)?],
            [mixed.check(&mixed_keys, cost)?, plain.check(&plain_keys, cost)?],
            [mixed.settle("k", cost, 1)?, plain.settle("k", cost, 1)?],
            [
                mixed.check_many([(&mixed_keys, cost)])?[0],
                plain.check_many([(&plain_keys, cost)])?[0],
            ],
        ] {
            let place = plain.tier * 2 + 1;
            assert_eq!(mixed, tidegate::Decision { tier: place, ..plain });
        }
        clock.advance(300_000_000);
    }
    assert!(matches!(mixed.check("k", 11), Err(Error::CostTooLarge { burst: 10, .. })));
    let (one, other) = (mixed.reserve("k", 9, None)?, plain.reserve("k", 9, None)?);
    assert_eq!(one.delay(), other.delay());
    assert_eq!(mixed.limit_name(one.decision()), plain.limit_name(other.decision()));
    assert!(one.cancel()? && other.cancel()?);
    while mixed.check(&mixed_keys, 1)?.allowed {}
    let late = mixed.acquire(&mixed_keys, 1, Some(Duration::ZERO));
    let Err(Error::RateLimited { decision, key }) = late else { panic!("{late:?}") };
    assert_eq!((mixed.limit_name(&decision), key.as_str()), ("12/d", "org"));
    Ok(())
}

/// Callers wait in the line of the other limits.
#[test]
fn a_mixed_limiter_lets_callers_wait() -> Tested {
    let mixed = limiter("memory://", &["unlimited", "50/s burst 1", "unlimited"])?;
    let keys: [&[u8]; 3] = [b"plan", b"user", b"other"];
    for _ in 0..4 {
        let decision = mixed.acquire(&keys, 1, None)?;
        assert!(decision.allowed && mixed.limit_name(&decision) == "50/s burst 1");
    }
    let held = mixed.hold(&keys, Duration::from_secs(3600))?;
    assert_eq!((held.tier, held.remaining), (1, 0));
    let late = mixed.acquire(&keys, 1, Some(Duration::from_secs(1)));
    let Err(Error::RateLimited { decision, key }) = late else { panic!("{late:?}") };
    assert_eq!((decision.tier, key.as_str()), (1, "user"));
    assert_eq!(mixed.waiting(&keys)?.callers, 0);
    mixed.reset(&keys)?;
    assert!(mixed.acquire(&keys, 1, Some(Duration::ZERO))?.allowed);
    Ok(())
}

#[test]
fn a_mixed_limiter_has_the_store_and_the_options_of_the_others() -> Tested {
    let mixed = limiter(DOWN, &["unlimited", "100/s"])?;
    assert!(mixed.is_remote() && mixed.source() == Source::Redis);
    assert_eq!(mixed.check("k", 1).map_err(|error| error.code()), Err("store_error"));
    assert_eq!(mixed.store_health().failures, 1);
    let leased = |limit: &str| {
        Limiter::builder()
            .limit("unlimited")
            .limit(limit)
            .store_url(DOWN)
            .lease(LeaseOptions::new(Duration::from_secs(1)))
            .build()
    };
    assert!(leased("100/s").is_ok() && leased("none").is_ok() && leased("1/h").is_err());
    let denying = Limiter::builder().limit("unlimited").limit("5/s").store_url(DOWN);
    let denying = denying.prefix("denying").on_store_error(OnStoreError::Deny).build()?;
    let denied = denying.check("k", 1)?;
    assert_eq!((denied.allowed, denying.limit_name(&denied)), (false, "5/s"));
    Ok(())
}
