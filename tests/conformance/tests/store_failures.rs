//! A limiter while its Redis fails, under each policy, and when the server returns.

use std::time::{Duration, Instant};

use tidegate::{BreakerState, Decision, Error, Limiter, OnStoreError, Source};
use tidegate_conformance::redis_server::RedisServer;

/// The timeout on a server that hangs.
const TIMEOUT: Duration = Duration::from_millis(50);
/// The timeout on a server that refuses, or that is not there: no call reaches it, however busy the
/// machine is.
const PATIENT: Duration = Duration::from_secs(20);
/// How long a busy machine may take until a condition holds.
const DEADLINE: Duration = Duration::from_secs(60);
/// After this many failures in a row the store's breaker opens.
const FAILURES: u64 = 3;

fn limiter(url: &str, timeout: Duration, limits: &[&str], on_store_error: OnStoreError) -> Limiter {
    let builder = Limiter::builder().store_url(url).store_timeout(timeout);
    let builder = builder.on_store_error(on_store_error);
    limits.iter().fold(builder, |builder, limit| builder.limit(limit)).build().expect("a limiter")
}

fn is_open(limiter: &Limiter) -> bool {
    limiter.store_health().state != BreakerState::Closed
}

/// Makes the server refuse all scripts from now on, or run them again.
fn refuse(server: &RedisServer, refuse: bool) {
    let rule = if refuse { "-@scripting" } else { "+@all" };
    let mut admin = server.connect();
    redis::cmd("ACL").arg("SETUSER").arg("default").arg(rule).exec(&mut admin).expect("a rule");
}

/// Checks until the store has answered, and returns its answer.
fn until_answered(limiter: &Limiter, key: &str) -> Decision {
    let began = Instant::now();
    loop {
        match limiter.check(key, 0) {
            Ok(decision) if decision.source == Source::Redis => return decision,
            answer => assert!(began.elapsed() < DEADLINE, "still {answer:?}"),
        }
    }
}

#[test]
fn a_hanging_store_is_waited_for_a_few_times_and_then_probed() {
    let server = RedisServer::start();
    let limiter = limiter(&server.url(), TIMEOUT, &["1000/s"], OnStoreError::Raise);
    until_answered(&limiter, "k");
    server.freeze();
    for _ in 0..FAILURES {
        assert_eq!(limiter.check("k", 1), Err(Error::timeout(TIMEOUT)));
    }
    assert!(is_open(&limiter));
    // On a busy machine its time to be asked again may have come.
    let began = Instant::now();
    let message = loop {
        match limiter.check("k", 1) {
            Err(Error::Store(failure)) => break failure.message,
            answer => assert!(began.elapsed() < DEADLINE, "still {answer:?}"),
        }
    };
    assert!(
        message.contains("again in") && message.contains("did not answer within 50 ms"),
        "{message}"
    );
    let failed_before = limiter.store_health().failures;

    // One call after each wait, which is at least 50 ms long, takes the timeout. No other call
    // waits.
    let (began, mut waited, mut calls) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(1) {
        calls += 1;
        let before = Instant::now();
        match limiter.check("k", 1) {
            Err(Error::StoreTimeout { .. }) => waited += 1,
            Err(Error::Store(_)) => {}
            answer => panic!("{answer:?}"),
        }
        assert!(before.elapsed() < DEADLINE);
    }
    assert!((1..=6).contains(&waited), "{waited} of {calls} calls asked");
    assert!(calls > 100 * waited, "{waited} of {calls} calls asked");
    let failures = limiter.store_health().failures - failed_before;
    assert_eq!(failures, waited);

    server.thaw();
    until_answered(&limiter, "k");
    assert_eq!(limiter.store_health().state, BreakerState::Closed);
}

/// A broken connection fails all calls that are under way on it, and counts as one failure.
#[test]
fn calls_that_fail_together_count_once() {
    let server = RedisServer::start();
    let limiter = limiter(&server.url(), TIMEOUT, &["1000/s"], OnStoreError::Deny);
    until_answered(&limiter, "k");
    let before = limiter.store_health().failures;
    server.freeze();
    let keys: Vec<String> = (0..64).map(|key| key.to_string()).collect();
    for round in 1..=FAILURES {
        assert!(!is_open(&limiter), "round {round}");
        let decisions = limiter.check_many(keys.iter().map(|key| (key, 1))).expect("refusals");
        assert!(decisions.iter().all(|decision| !decision.allowed));
        assert_eq!(limiter.store_health().failures - before, 64 * round);
    }
    assert!(is_open(&limiter));
    server.thaw();
    until_answered(&limiter, "k");
}

/// While the breaker is open, only one of many threads asks the server at a time.
#[test]
fn one_call_at_a_time_finds_out() {
    let server = RedisServer::start();
    let limiter = limiter(&server.url(), TIMEOUT, &["1000/s"], OnStoreError::Deny);
    until_answered(&limiter, "k");
    server.freeze();
    while !is_open(&limiter) {
        limiter.check("k", 1).expect("a refusal");
    }
    let before = limiter.store_health().failures;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while began.elapsed() < Duration::from_secs(1) {
                    let refused = limiter.check("k", 1).expect("a refusal");
                    assert!(!refused.allowed && refused.source == Source::Fallback);
                    std::thread::yield_now();
                }
            });
        }
    });
    let asked = limiter.store_health().failures - before;
    assert!((1..=6).contains(&asked), "{asked}");
    server.thaw();
    until_answered(&limiter, "k");
}

/// Limiters with one store share its breaker.
#[test]
fn a_store_and_its_failures_are_shared() {
    let store = tidegate::Store::open("redis://127.0.0.1:1", PATIENT).expect("a store");
    let built = |on_store_error| {
        // Another test has limiters with other limits on this URL.
        let builder = Limiter::builder().limit("10/s").store(store.clone()).prefix("shared");
        builder.on_store_error(on_store_error).build().expect("a limiter")
    };
    let (raises, allows) = (built(OnStoreError::Raise), built(OnStoreError::Allow));
    for _ in 0..FAILURES {
        assert_eq!(raises.check("k", 1).expect_err("nobody listens").code(), "store_error");
    }
    assert!(is_open(&allows) && allows.check("k", 1).expect("an answer").allowed);
    assert_eq!(raises.store_health().fallbacks, 0);
    assert_eq!(allows.store_health().fallbacks, 1);
}

/// Each policy has an answer to each operation while the store is not there.
#[test]
fn every_operation_has_an_answer() {
    let down = "redis://127.0.0.1:1";
    let limits = ["60/s", "1000/min burst 90"];
    let forever = Some(Duration::MAX);
    let never = |answer: Result<Decision, Error>, what: &str| {
        assert_eq!(answer.expect_err(what).code(), "store_error", "{what}");
    };

    let raise = limiter(down, PATIENT, &limits, OnStoreError::Raise);
    never(raise.check("k", 1), "check");
    never(raise.peek("k", 1), "peek");
    never(raise.acquire("k", 1, None), "acquire");
    assert!(
        raise.check_many([("a", 1), ("b", 1)]).is_err() && raise.reserve("k", 1, None).is_err()
    );

    let allow = limiter(down, PATIENT, &limits, OnStoreError::Allow);
    for _ in 0..100 {
        let decision = allow.check("k", 7).expect("an answer");
        let expected = (true, 60, 53, 0, Source::Fallback);
        assert_eq!(fields(&decision), expected, "as of a bucket never used");
    }
    let peeked = allow.peek("k", 7).expect("an answer");
    assert_eq!(fields(&peeked), (true, 60, 53, 0, Source::Fallback));
    let [first, second] = allow.check_many([("k", 60), ("k", 60)]).expect("answers")[..] else {
        panic!("two answers")
    };
    assert!(first.allowed && second.allowed);
    assert!(allow.acquire("k", 60, Some(Duration::ZERO)).expect("at once").allowed);
    let slot = allow.reserve("k", 60, None).expect("a slot");
    assert!(slot.allowed() && slot.delay().is_zero() && slot.cancel().expect("an answer"));
    for limiter in [&allow, &limiter(down, PATIENT, &limits, OnStoreError::Deny)] {
        never(limiter.settle("k", 1, 2), "settle");
        never(limiter.credit("k", 1), "credit");
        never(limiter.hold("k", Duration::from_secs(1)), "hold");
        never(limiter.reset("k"), "reset");
    }

    let deny = limiter(down, PATIENT, &limits, OnStoreError::Deny);
    for _ in 0..20 {
        let decision = deny.check("k", 1).expect("an answer");
        let retry_after = Duration::from_nanos(decision.retry_after);
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(1));
        let expected = (false, 60, 0, decision.retry_after, Source::Fallback);
        assert_eq!(fields(&decision), expected);
    }
    for look in [deny.check("k", 0), deny.peek("k", 0)] {
        assert_eq!(fields(&look.expect("a look")), (true, 60, 0, 0, Source::Fallback));
    }
    assert!(!deny.peek("k", 1).expect("an answer").allowed);
    assert!(!deny.reserve("k", 1, forever).expect("a refusal").allowed());
    assert_eq!(deny.acquire("k", 1, forever).expect_err("refused").code(), "rate_limited");
    let denied = deny.check_many([("a", 1), ("b", 1)]).expect("answers");
    assert!(denied.iter().all(|decision| !decision.allowed));

    let local = limiter(down, PATIENT, &limits, OnStoreError::Local { peers: 2 });
    let empty = local.check("k", 1).expect("an answer");
    assert!(!empty.allowed && empty.limit <= 45 && empty.source == Source::Fallback);
    assert!(!local.peek("k", 1).expect("an answer").allowed);
    assert!(local.acquire("k", 2, None).expect("it waits for its share").allowed);
    let slot = local.reserve("k", 2, None).expect("a slot");
    assert!(slot.allowed() && !slot.delay().is_zero() && slot.cancel().expect("an answer"));
    assert_eq!(local.credit("k", 1_000).expect("kept here").remaining, 30, "its share is full");
    assert_eq!(local.peek("k", 30).expect("kept nowhere").remaining, 0);
    assert_eq!(local.peek("k", 0).expect("kept nowhere").remaining, 30);
    let settled = local.settle("k", 0, 10).expect("kept here").remaining;
    assert!((20..30).contains(&settled), "{settled}");
    let held = local.hold("k", Duration::from_secs(30)).expect("kept here");
    assert_eq!((held.remaining, held.source), (0, Source::Fallback));
    never(local.reset("k"), "reset");
    let keys: [&[u8]; 2] = [b"user", b"org"];
    let apart = local.check(&keys, 1).expect("an answer");
    assert!(apart.source == Source::Fallback && apart.remaining < 30, "{apart:?}");
}

fn fields(decision: &Decision) -> (bool, u64, u64, u64, Source) {
    let &Decision { allowed, limit, remaining, retry_after, source, .. } = decision;
    (allowed, limit, remaining, retry_after, source)
}

/// A reservation is given back to the bucket that was charged, or not at all.
#[test]
fn reservations_outlive_failures() {
    let server = RedisServer::start();
    let warm = |on_store_error| {
        let limiter = limiter(&server.url(), PATIENT, &["100/d burst 100"], on_store_error);
        until_answered(&limiter, "k");
        limiter
    };
    let limiters = [OnStoreError::Allow, OnStoreError::Deny, OnStoreError::Local { peers: 2 }];
    let mut kept = Vec::new();
    for limiter in limiters.map(warm) {
        kept.push((limiter.reserve("k", 10, None).expect("a slot"), limiter));
    }
    refuse(&server, true);
    let mut granted = Vec::new();
    for (slot, limiter) in kept {
        assert!(!slot.cancel().expect("an answer"), "nothing has come back");
        granted.push((limiter.reserve("new", 0, None).expect("a slot of nothing"), limiter));
    }
    let allowed = granted[0].1.reserve("k", 50, None).expect("a slot");
    assert!(allowed.allowed());
    refuse(&server, false);
    until_answered(&granted[0].1, "k");
    assert_eq!(granted[0].1.check("k", 0).expect("a look").remaining, 70);
    // The reservation had charged nothing, so settling charges the tokens that were used.
    assert_eq!(allowed.settle(20).expect("charged").remaining, 50);
    for (nothing, _) in granted {
        assert!(nothing.cancel().expect("an answer"));
    }
}

/// Tokens spent from the local share are charged to the store with the key's first call.
#[test]
fn the_store_learns_what_was_spent_while_it_failed() {
    let server = RedisServer::start();
    let limits = ["100/d burst 1000"];
    let local = limiter(&server.url(), PATIENT, &limits, OnStoreError::Local { peers: 2 });
    until_answered(&local, "k");
    refuse(&server, true);
    while !is_open(&local) {
        local.check("k", 1).expect("an answer");
    }
    assert!(local.settle("k", 0, 300).expect("kept here").source == Source::Fallback);
    local.hold("paused", Duration::from_secs(3_000)).expect("kept here");
    refuse(&server, false);
    until_answered(&local, "elsewhere");
    let beside = limiter(&server.url(), PATIENT, &limits, OnStoreError::Raise);
    assert_eq!(until_answered(&beside, "k").remaining, 1_000, "nobody has touched the key");
    local.check("k", 0).expect("an answer");
    local.check("paused", 0).expect("an answer");
    let settles = Instant::now();
    loop {
        let spent = beside.check("k", 0).expect("a look").remaining;
        let paused = beside.check("paused", 0).expect("a look").remaining;
        if (spent, paused) == (700, 0) {
            break;
        }
        assert!(settles.elapsed() < DEADLINE, "{spent} and {paused} left");
    }
    local.check("k", 0).expect("an answer");
    assert_eq!(until_answered(&beside, "k").remaining, 700, "it is charged once");
}

#[test]
fn invalid_policies_are_refused_when_built() {
    let built = |url: &str, limit: &str, on_store_error| {
        let builder = Limiter::builder().limit(limit).store_url(url);
        let error = builder.on_store_error(on_store_error).build().expect_err("refused");
        assert_eq!(error.code(), "invalid_argument");
        error.to_string()
    };
    let redis = "redis://127.0.0.1:1";
    let local = |peers| OnStoreError::Local { peers };
    for (peers, message) in [(0, "but is 0"), (1_000_001, "but is 1000001")] {
        let error = built(redis, "1/s", local(peers));
        assert!(
            error.starts_with("invalid peers: it must be 1 to 1000000") && error.contains(message)
        );
    }
    let error = built(redis, "1/d", local(1_000));
    assert!(error.starts_with("invalid peers: \"1/d\" cannot be shared among 1000: "), "{error}");
    assert!(error.contains("104 days") || error.contains("2^53"), "{error}");
    for store in ["memory://", "shm://name"] {
        // Memory does not fail, but a value out of bounds is a mistake there as well.
        assert!(
            built(store, "1/s", local(0)).starts_with("invalid peers: it must be 1 to 1000000")
        );
    }
    Limiter::builder()
        .limit("1/s")
        .on_store_error(OnStoreError::Raise)
        .build()
        .expect("the default");

    let parsed = |name, peers| OnStoreError::parse(name, peers).map_err(|error| error.to_string());
    assert_eq!(parsed("local", Some(8)), Ok(local(8)));
    assert_eq!(parsed("raise", None), Ok(OnStoreError::Raise));
    for (name, peers, message) in [
        ("local", None, "invalid peers: on_store_error \"local\" needs"),
        ("local", Some(u64::MAX), "invalid peers: it must be 1 to 1000000"),
        ("deny", Some(3), "invalid peers: it is for on_store_error \"local\" only"),
        ("ignore", None, "invalid on_store_error: it must be \"raise\", \"allow\", \"deny\" or"),
    ] {
        let error = parsed(name, peers).expect_err(name);
        assert!(error.starts_with(message), "{error}");
    }
}
