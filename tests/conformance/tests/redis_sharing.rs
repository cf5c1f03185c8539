//! Limiters of one process on one URL share one store: its connection, its circuit breaker and
//! what it knows of refused keys.

use std::time::{Duration, Instant};

use tidegate::{BreakerState, Error, Limiter, LimiterBuilder, Store};
use tidegate_conformance::redis_server::RedisServer;

/// No call takes this long, also on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);

fn limiter(url: &str) -> LimiterBuilder {
    Limiter::builder().limit("1000/h").store_url(url).store_timeout(PATIENT)
}

fn built(builder: LimiterBuilder) -> Limiter {
    builder.build().expect("a limiter")
}

fn checked(limiter: &Limiter, key: &str) -> bool {
    limiter.check(key, 1).expect("a decision").allowed
}

/// How many connections the server has, but for the one that asks.
fn connections(server: &RedisServer) -> usize {
    let clients: String =
        redis::cmd("CLIENT").arg("LIST").query(&mut server.connect()).expect("the clients");
    clients.lines().filter(|client| !client.contains("cmd=client|list")).count()
}

/// Waits for that number: a connection that is closed, or one of two attempts to connect, leaves the
/// server's list a moment later.
fn connections_become(server: &RedisServer, expected: usize) {
    let deadline = Instant::now() + PATIENT;
    while connections(server) != expected {
        assert!(Instant::now() < deadline, "{} instead of {expected}", connections(server));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn many_limiters_on_one_url_have_one_connection_until_the_last_is_gone() {
    let server = RedisServer::start_with(&["--maxclients", "20"]);
    let limiters: Vec<_> = (0..200).map(|_| built(limiter(&server.url()))).collect();
    std::thread::scope(|scope| {
        for limiters in limiters.chunks(50) {
            scope.spawn(move || assert!(limiters.iter().all(|limiter| checked(limiter, "k"))));
        }
    });
    connections_become(&server, 1);

    let (last, others) = limiters.split_last().expect("limiters");
    others.iter().for_each(Limiter::close);
    assert!(checked(last, "k"));
    connections_become(&server, 1);
    last.close();
    connections_become(&server, 0);

    let again = built(limiter(&server.url()));
    assert!(checked(&again, "k"));
    connections_become(&server, 1);
    drop((again, limiters));
    connections_become(&server, 0);
    assert!(checked(&built(limiter(&server.url())), "k"));
}

#[test]
fn a_store_that_is_held_is_shared_too_and_connects_again() {
    let server = RedisServer::start();
    let store = Store::open(&server.url(), PATIENT).expect("a store");
    for _ in 0..2 {
        let over_store = built(Limiter::builder().limit("1000/h").store(store.clone()));
        let over_url = built(limiter(&server.url()));
        assert!(checked(&over_store, "k") && checked(&over_url, "k"));
        connections_become(&server, 1);
        drop(over_store);
        assert!(checked(&over_url, "k"));
        drop(over_url);
        connections_become(&server, 0);
    }
}

#[test]
fn other_options_are_other_stores() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("one");
    let (url, other) = (server.url(), format!("{}1", server.url()));
    let on_runtime = Store::open_on(&url, PATIENT, runtime.handle()).expect("a store");
    let limiters = [
        built(limiter(&url)),
        built(limiter(&url).store_timeout(PATIENT * 2)),
        built(limiter(&other)),
        built(limiter(&format!("{url}?protocol=resp3"))),
        built(Limiter::builder().limit("1000/h").store(on_runtime)),
    ];
    assert!(limiters.iter().all(|limiter| checked(limiter, "k")));
    connections_become(&server, limiters.len());
    // What is a limiter's own is no option of the store.
    let same = [
        built(limiter(&url).prefix("other")),
        built(limiter(&url).deny_cache(PATIENT)),
        built(limiter(&url).on_store_error(tidegate::OnStoreError::Allow)),
    ];
    assert!(same.iter().all(|limiter| checked(limiter, "k")));
    connections_become(&server, limiters.len());
}

#[test]
fn a_reset_by_one_limiter_is_known_to_the_others_at_once() {
    let server = RedisServer::start();
    let keeping = || built(limiter(&server.url()).limit("1/d").deny_cache(Duration::from_secs(60)));
    let (a, b) = (keeping(), keeping());
    assert!(checked(&a, "k"));
    assert!(!checked(&a, "k"));
    b.reset("k").expect("a reset");
    assert!(checked(&a, "k"));
    assert!(!checked(&b, "k"));
    a.credit("k", 1).expect("a credit");
    assert!(checked(&b, "k"));
}

#[test]
fn the_breaker_is_shared() {
    let url = "redis://127.0.0.1:1";
    let limiters = [(); 2].map(|()| built(limiter(url)));
    for _ in 0..3 {
        assert!(limiters[0].check("k", 1).is_err());
    }
    assert_ne!(limiters[1].store_health().state, BreakerState::Closed);
    assert_eq!(limiters[1].store_health().failures, 3);
}

/// Limiters with other limits would share their buckets by chance if both left the prefix out.
#[test]
fn other_limits_on_the_default_prefix_are_refused() {
    let server = RedisServer::start();
    let on = |limits: &[&str]| {
        let builder = Limiter::builder().store_url(&server.url()).store_timeout(PATIENT);
        limits.iter().fold(builder, |builder, limit| builder.limit(limit))
    };
    let api = built(on(&["100/min"]));
    let same = built(on(&["100/min"]));
    let refused = |builder: LimiterBuilder| match builder.build() {
        Ok(limiter) => panic!("{limiter:?}"),
        Err(error) => {
            assert_eq!(error.code(), "invalid_argument");
            error.to_string()
        }
    };
    let text = refused(on(&["5/min"]));
    assert!(
        text.contains("prefix") && text.contains("100/min") && text.contains("5/min"),
        "{text}"
    );
    refused(on(&["100/min", "5/min"]));
    refused(on(&["unlimited", "5/min"]));
    refused(on(&["5/min"]).store_timeout(PATIENT * 2));

    // What was asked for is fine, and so is what has no bucket or another Redis.
    let login = built(on(&["5/min"]).prefix("login"));
    built(on(&["6/min"]).prefix("login"));
    built(on(&["5/min"]).prefix("tidegate"));
    built(on(&["unlimited"]));
    built(on(&["none"]));
    built(on(&["5/min"]).store_url(&format!("{}1", server.url())));
    assert!((0..5).all(|_| checked(&api, "u")));
    assert!(checked(&login, "u"), "buckets of their own");

    // When all of these limits are gone, others may have the prefix.
    api.close();
    refused(on(&["5/min"]));
    drop(same);
    let later = built(on(&["5/min"]));
    refused(on(&["100/min"]));
    drop(later);
    built(on(&["100/min"]));
}

#[test]
fn what_this_process_does_to_a_refused_key_is_known_at_once() -> Result<(), Error> {
    let server = RedisServer::start();
    let builder =
        || limiter(&server.url()).limit("1/min burst 2").deny_cache(Duration::from_secs(60));
    let (limiter, other) = (built(builder()), built(builder()));
    let minutes = |count: u64| Duration::from_secs(60 * count);
    // The wait of a refused check, which the first refusal would tell as less than a minute.
    let wait = |key: &str| -> Result<Duration, Error> {
        let refused = limiter.check(key, 1)?;
        assert!(!refused.allowed, "{key}");
        Ok(Duration::from_nanos(refused.retry_after))
    };
    let refused = |key: &str| -> Result<(), Error> {
        limiter.check(key, 2)?;
        assert!(wait(key)? <= minutes(1));
        assert!(wait(key)? <= minutes(1), "the same again, from what is kept");
        Ok(())
    };
    for caller in [&limiter, &other] {
        refused("held")?;
        caller.hold("held", minutes(50))?;
        assert!(wait("held")? > minutes(49));
        caller.reset("held")?;
        assert!(limiter.check("held", 2)?.allowed);
        limiter.reset("held")?;

        refused("reserved")?;
        let slot = caller.reserve("reserved", 1, None)?;
        assert!(wait("reserved")? > minutes(1));
        assert!(slot.cancel()?);
        assert!(wait("reserved")? <= minutes(1));
        limiter.reset("reserved")?;

        refused("settled")?;
        caller.settle("settled", 0, 30)?;
        assert!(wait("settled")? > minutes(29));
        caller.credit("settled", 32)?;
        assert!(limiter.check("settled", 2)?.allowed);
        limiter.reset("settled")?;
    }
    Ok(())
}
