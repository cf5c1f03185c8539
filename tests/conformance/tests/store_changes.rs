//! What a program is told of a store that fails: the hook, the health and the ping.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidegate::{BreakerState, Error, Limiter, OnStoreError, Source, Store, StoreChange};
use tidegate_conformance::redis_server::RedisServer;

/// No call takes so long, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(20);
/// How long a busy machine may take until a condition holds.
const DEADLINE: Duration = Duration::from_secs(60);

fn refuse(server: &RedisServer, rule: &str) {
    let mut admin = server.connect();
    redis::cmd("ACL").arg("SETUSER").arg("default").arg(rule).exec(&mut admin).expect("a rule");
}

/// The only test of this process that sets the hook.
#[test]
fn the_hook_is_called_for_each_change_and_never_for_a_call() -> Result<(), Error> {
    let server = RedisServer::start();
    let (sender, changes) = mpsc::channel::<StoreChange>();
    Store::on_change(move |change| _ = sender.send(change.clone()));
    let limiter = Limiter::builder()
        .limit("1000/s")
        .store_url(&server.url())
        .store_timeout(PATIENT)
        .on_store_error(OnStoreError::Allow)
        .build()?;
    limiter.ping()?;
    assert_eq!(limiter.check("k", 1)?.source, Source::Redis);
    let health = limiter.store_health();
    assert_eq!((health.last_error, health.state), (None, BreakerState::Closed));

    refuse(&server, "-@scripting");
    let began = Instant::now();
    for _ in 0..500 {
        assert_eq!(limiter.check("k", 1)?.source, Source::Fallback);
    }
    let refused = limiter.ping().expect_err("the server refuses scripts");
    assert!(refused.to_string().contains("no permissions"), "{refused}");
    let opened = changes.recv_timeout(DEADLINE).expect("a change");
    let place = format!("redis://127.0.0.1:{}/0", server.port());
    assert_eq!((&opened.store, opened.lasted), (&place, Duration::ZERO));
    assert!(opened.error.is_some_and(|error| error.to_string().contains("no permissions")));
    assert_eq!(changes.try_recv(), Err(mpsc::TryRecvError::Empty), "500 calls are one change");
    let health = limiter.store_health();
    assert_ne!(health.state, BreakerState::Closed);
    assert!(health.since <= began.elapsed() && !health.since.is_zero(), "{health:?}");
    assert_eq!(health.last_error.map(|error| error.code()), Some("store_error"));

    refuse(&server, "+@all");
    limiter.ping()?;
    while limiter.check("k", 1)?.source != Source::Redis {
        assert!(began.elapsed() < DEADLINE, "it stays open");
    }
    let closed = changes.recv_timeout(DEADLINE).expect("a change");
    assert_eq!((&closed.store, &closed.error), (&place, &None));
    assert!(!closed.lasted.is_zero() && closed.lasted <= began.elapsed(), "{closed:?}");
    assert!(closed.to_string().starts_with(&format!("{place} answers again")), "{closed}");
    assert!(limiter.store_health().last_error.is_some());
    Ok(())
}

#[test]
fn a_ping_writes_nothing_and_is_answered_by_no_policy() -> Result<(), Error> {
    let mut server = RedisServer::start();
    for limits in [&["5/d"][..], &["5/d", "unlimited"]] {
        let builder = Limiter::builder().store_url(&server.url()).store_timeout(PATIENT);
        let builder = builder.prefix("ping").on_store_error(OnStoreError::Allow);
        let limiter = limits.iter().fold(builder, |builder, limit| builder.limit(limit)).build()?;
        limiter.ping()?;
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query(&mut server.connect()).expect("keys");
        assert_eq!(keys, Vec::<String>::new());
        server.stop();
        for _ in 0..10 {
            assert_eq!(limiter.ping().map_err(|error| error.code()), Err("store_error"));
        }
        assert_eq!(
            (limiter.check("k", 1)?.source, limiter.store_health().failures),
            (Source::Fallback, 1)
        );
        server.restart();
        limiter.ping()?;
        limiter.close();
        assert_eq!(limiter.ping().map_err(|error| error.code()), Err("store_error"));
    }
    Ok(())
}

#[test]
fn options_of_one_store_have_no_effect_on_another() -> Result<(), Error> {
    let server = RedisServer::start();
    for url in ["memory://", &server.url()] {
        let limiter = Limiter::builder()
            .limit("100/s")
            .store_url(url)
            .store_timeout(PATIENT)
            .max_keys(5)
            .deny_cache(Duration::ZERO)
            .lease(tidegate::LeaseOptions::new(Duration::from_secs(1)))
            .on_store_error(OnStoreError::Local { peers: 2 })
            .build()?;
        assert!(limiter.check("k", 1)?.allowed);
        let wrong = Limiter::builder().limit("100/s").store_url(url);
        let wrong = wrong.on_store_error(OnStoreError::Local { peers: 0 }).build();
        assert!(matches!(wrong, Err(Error::InvalidArgument { name: "peers", .. })), "{wrong:?}");
        let wrong = Limiter::builder().limit("100/s").store_url(url).max_keys(0).build();
        assert!(matches!(wrong, Err(Error::InvalidArgument { name: "max_keys", .. })), "{wrong:?}");
    }
    Ok(())
}
