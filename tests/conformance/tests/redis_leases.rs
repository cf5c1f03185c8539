//! Leases of one process from a real Redis.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate::{Error, LeaseOptions, Limiter, Limits, Source};
use tidegate_conformance::redis_server::RedisServer;

const TTL: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_secs(60);

fn leased(server: &RedisServer, limit: &str) -> Limiter {
    leased_for(TTL, server, limit)
}

fn leased_for(ttl: Duration, server: &RedisServer, limit: &str) -> Limiter {
    let builder = Limiter::builder().limit(limit).store_url(&server.url());
    builder
        .store_timeout(Duration::from_secs(5))
        .lease(LeaseOptions::new(ttl))
        .build()
        .expect("a limiter")
}

/// Checks until a slice has answered, and answers the number of checks.
fn warm(limiter: &Limiter, key: &str) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    let mut checks = 1;
    while limiter.check(key, 1).expect("a decision").source != Source::Lease {
        assert!(Instant::now() < deadline, "no slice came");
        sleep(Duration::from_millis(1));
        checks += 1;
    }
    checks
}

fn scripts_run(connection: &mut redis::Connection) -> u64 {
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query(connection).expect("statistics");
    let calls_of = |command: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        line.and_then(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok())
    };
    calls_of("evalsha").unwrap_or(0) + calls_of("eval").unwrap_or(0)
}

/// The number of processes that hold slices of the bucket.
fn holders(connection: &mut redis::Connection, key: &str) -> usize {
    let leases = format!("tidegate:{{{key}}}:leases");
    redis::cmd("HLEN").arg(leases).query(connection).expect("a count")
}

#[test]
fn a_warm_key_needs_hardly_any_round_trips() {
    // With this ttl a busy machine renews the slice in time.
    const LONG_TTL: Duration = Duration::from_secs(2);
    let server = RedisServer::start();
    let limiter = leased_for(LONG_TTL, &server, "1000000/s");
    warm(&limiter, "hot");
    let mut connection = server.connect();
    let before = scripts_run(&mut connection);
    let (started, mut checks, mut local) = (Instant::now(), 0, 0);
    while started.elapsed() < 2 * LONG_TTL {
        let decision = limiter.check("hot", 1).expect("a decision");
        checks += 1;
        local += u64::from(decision.source == Source::Lease);
        sleep(Duration::from_micros(300));
    }
    let round_trips = scripts_run(&mut connection) - before;
    assert!(local >= checks - 1, "{local} of {checks} were the slice's");
    // The slice is renewed twice in a ttl while nothing changes, and at most every eighth of it.
    assert!(round_trips <= 8 * 3, "{round_trips} round trips for {checks} checks");
}

#[test]
fn a_closed_limiter_gives_its_slice_back() {
    let server = RedisServer::start();
    let direct = Limiter::builder().limit("100/s burst 100").store_url(&server.url());
    let direct = direct.store_timeout(Duration::from_secs(5)).build().expect("a limiter");
    let limiter = leased(&server, "100/s burst 100");
    let spent = warm(&limiter, "k");
    let mut connection = server.connect();
    assert_eq!(holders(&mut connection, "k"), 1);
    limiter.close();
    assert_eq!(holders(&mut connection, "k"), 0);
    let left = direct.check("k", 0).expect("a decision").remaining;
    assert!(left + spent >= 98, "{left} tokens are left of 100, {spent} were spent");
    assert!(matches!(limiter.check("k", 1), Err(Error::Store(_))));
}

#[test]
fn an_idle_slice_is_given_up() {
    let server = RedisServer::start();
    let limiter = leased(&server, "100/s");
    warm(&limiter, "k");
    let mut connection = server.connect();
    let deadline = Instant::now() + DEADLINE;
    while holders(&mut connection, "k") > 0 {
        assert!(Instant::now() < deadline, "the slice was kept");
        sleep(TTL / 8);
    }
}

#[test]
fn a_hold_reaches_the_holders_of_slices() {
    let server = RedisServer::start();
    let limiter = leased(&server, "1000/s burst 10");
    warm(&limiter, "vendor");
    limiter.hold("vendor", Duration::from_secs(60)).expect("a hold");
    let deadline = Instant::now() + DEADLINE;
    loop {
        let decision = limiter.check("vendor", 1).expect("a decision");
        if decision.retry_after > 30_000_000_000 {
            assert!(!decision.allowed);
            break;
        }
        assert!(Instant::now() < deadline, "the hold was not obeyed: {decision:?}");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_slice_is_spent_to_its_end_when_the_store_is_gone() {
    let mut server = RedisServer::start();
    let limiter = leased(&server, "1000000/s");
    warm(&limiter, "k");
    server.stop();
    let started = Instant::now();
    let mut last_local = started;
    loop {
        let before = Instant::now();
        match limiter.check("k", 1) {
            Ok(decision) => {
                assert_eq!(decision.source, Source::Lease);
                last_local = before;
            }
            Err(error) => {
                assert!(matches!(error, Error::Store(_) | Error::StoreTimeout { .. }), "{error}");
                break;
            }
        }
        assert!(started.elapsed() < DEADLINE, "it never lapsed");
        sleep(Duration::from_millis(1));
    }
    assert!(last_local - started <= TTL + TTL / 2, "spent after it lapsed");
}

#[test]
fn costs_and_keys_are_checked_as_without_leases() {
    let server = RedisServer::start();
    let limiter = leased(&server, "100/s burst 50");
    warm(&limiter, "k");
    assert_eq!(limiter.check("k", 51), Err(Error::CostTooLarge { cost: 51, burst: 50 }));
    assert_eq!(limiter.check("k", 0).expect("a look").source, Source::Redis);
    assert_eq!(limiter.peek("k", 0).expect("a look").source, Source::Redis);
    assert_eq!(limiter.check("k", 40).expect("a decision").source, Source::Redis);
    let two = limiter.check(&[b"k".as_slice(), b"k"], 1);
    assert!(matches!(two, Err(Error::InvalidArgument { name: "key", .. })));
}

/// The slice that would decide a check decides a peek, which spends nothing of it.
#[test]
fn a_peek_asks_the_slice_and_leaves_it_whole() {
    let server = RedisServer::start();
    let limiter = leased_for(Duration::from_secs(30), &server, "1000000/s");
    let deadline = Instant::now() + DEADLINE;
    warm(&limiter, "k");
    while limiter.peek("k", 1).expect("a decision").remaining < 2 {
        assert!(Instant::now() < deadline, "the slice has no tokens");
        sleep(Duration::from_millis(1));
        limiter.check("k", 1).expect("a decision");
    }
    let mut connection = server.connect();
    let before = scripts_run(&mut connection);
    let cost = limiter.peek("k", 1).expect("a decision").remaining;
    for _ in 0..1_000 {
        let peeked = limiter.peek("k", cost).expect("a decision");
        assert!(peeked.allowed && peeked.source == Source::Lease, "{peeked:?}");
    }
    // A slice is renewed in the background, but not for a peek.
    assert!(scripts_run(&mut connection) - before < 100);
    // A key that is only looked at gets no slice.
    for _ in 0..1_000 {
        assert_eq!(limiter.peek("cold", 1).expect("a decision").source, Source::Redis);
    }
    assert_eq!(holders(&mut connection, "cold"), 0);
    assert!(limiter.peek("k", 1_000_001).is_err());
    assert!(limiter.peek(&[b"k".as_slice(), b"k"], 1).is_err());
}

/// Limits of which the second counts calls, never refills in the time of a test, and allows budgets.
const APART: [&str; 2] = ["50000000/s burst 100000000", "100000000000/100d window"];

fn apart(server: &RedisServer, limits: &[&str], ttl: Option<Duration>) -> Limiter {
    let builder = limits.iter().fold(Limiter::builder(), |builder, limit| builder.limit(limit));
    let builder = builder.store_url(&server.url()).store_timeout(Duration::from_secs(5));
    match ttl {
        Some(ttl) => builder.lease(LeaseOptions::new(ttl)),
        None => builder,
    }
    .build()
    .expect("a limiter")
}

/// Calls until a budget has paid for one, and answers the number of calls.
fn warm_budget(limiter: &Limiter, key: &str) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    let mut calls = 1;
    while limiter.check(key, [100, 1]).expect("a decision").source != Source::Lease {
        assert!(Instant::now() < deadline, "no budget came");
        sleep(Duration::from_millis(1));
        calls += 1;
    }
    calls
}

/// Four limiters, each with a budget of its own as four processes have: most calls need no round trip,
/// and when all is given back the bucket owes what was spent, to the token.
#[test]
fn a_cost_for_each_limit_is_paid_by_a_budget() {
    const LONG_TTL: Duration = Duration::from_secs(4);
    let server = RedisServer::start();
    let fleet: Vec<Limiter> = (0..4).map(|_| apart(&server, &APART, Some(LONG_TTL))).collect();
    let direct = apart(&server, &APART, None);
    let (deadline, mut connection) = (Instant::now() + DEADLINE, server.connect());
    let (mut spent, mut number) = (0, 0_u64);
    // Calls until budgets have paid for so many of each limiter, and answers the number of calls, and of
    // those that were paid by budgets.
    let mut call = |wanted: u64| {
        let (mut calls, mut local) = (0_u64, [0_u64; 4]);
        while local.iter().any(|local| *local < wanted) {
            assert!(Instant::now() < deadline, "{local:?} of {calls} calls were paid by budgets");
            for (limiter, local) in fleet.iter().zip(&mut local) {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Both kinds of calls on one key.
                let (tokens, count) = (number >> 33 & 1023, 1 + (number >> 50 & 3));
                let decision = match number >> 60 {
                    0..4 => limiter.check("k", count),
                    _ => limiter.check("k", [tokens, count]),
                };
                let decision = decision.expect("a decision");
                assert!(decision.allowed && decision.retry_after == 0, "{decision:?}");
                (calls, spent) = (calls + 1, spent + count);
                *local += u64::from(decision.source == Source::Lease);
            }
            sleep(Duration::from_micros(500));
        }
        (calls, local.iter().sum::<u64>())
    };
    // Budgets are small at first.
    call(100);
    let before = scripts_run(&mut connection);
    let (calls, leased) = call(1_000);
    let round_trips = scripts_run(&mut connection) - before;
    assert!(leased * 4 > calls * 3, "{leased} of {calls} calls were paid by budgets");
    assert!(round_trips < calls / 3, "{round_trips} round trips for {calls} calls");
    let peeked = fleet.first().expect("one").peek("k", [1, 1]).expect("a decision");
    assert!(peeked.allowed);
    for limiter in &fleet {
        limiter.close();
    }
    let left = direct.peek_tiers("k", 0).expect("a look");
    let counted = left.tiers().get(1).expect("the second limit").remaining;
    assert_eq!(counted, 100_000_000_000 - spent, "the bucket owes what was spent");
}

/// More calls than the limit allows: the fleet spends no more than the bound, and is refused by the
/// bucket, not by budgets.
#[test]
fn budgets_keep_the_bound_at_overload() {
    const LIMITS: [&str; 2] = ["20000/s burst 20000", "4000/s burst 4000"];
    let server = RedisServer::start();
    let fleet: Vec<Limiter> = (0..4).map(|_| apart(&server, &LIMITS, Some(TTL))).collect();
    let started = Instant::now();
    let (mut spent, mut refused, mut number) = ([0_u64; 2], 0, 0_u64);
    while started.elapsed() < 5 * TTL || refused < 20 {
        assert!(started.elapsed() < DEADLINE, "{refused} refused");
        for limiter in &fleet {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let cost = [1 + (number >> 33 & 1023), 1 + (number >> 50 & 7)];
            let decision = limiter.check("k", cost).expect("a decision");
            if decision.allowed {
                spent.iter_mut().zip(cost).for_each(|(spent, cost)| *spent += cost);
            } else {
                refused += 1;
                assert_eq!(decision.source, Source::Redis, "a budget refuses nobody");
                assert!(decision.retry_after > 0);
            }
        }
    }
    let time = (started.elapsed() + TTL).as_millis() as u64 + 1;
    assert!(spent[0] <= 20_000 + 20 * time, "{spent:?} in {time} ms");
    assert!(spent[1] <= 4_000 + 4 * time, "{spent:?} in {time} ms");
}

/// A hold reaches the process that makes it at once, and others when they next look at the bucket. What
/// they then have left does not shorten it.
#[test]
fn a_hold_ends_budgets_and_is_not_shortened() {
    const HOLD: u64 = 60_000_000_000;
    let server = RedisServer::start();
    let (own, other) = (apart(&server, &APART, Some(TTL)), apart(&server, &APART, Some(TTL)));
    let direct = apart(&server, &APART, None);
    warm_budget(&own, "k");
    warm_budget(&other, "k");
    own.hold("k", Duration::from_nanos(HOLD)).expect("a hold");
    let started = Instant::now();
    let refused = own.check("k", [1, 1]).expect("a decision");
    assert!(!refused.allowed && refused.source == Source::Redis, "{refused:?}");
    while other.check("k", [1, 1]).expect("a decision").allowed {
        assert!(started.elapsed() < DEADLINE, "the hold was not obeyed");
        sleep(Duration::from_millis(1));
    }
    other.close();
    own.close();
    let left = direct.peek("k", [1, 1]).expect("a look").retry_after;
    let passed = started.elapsed().as_nanos() as u64;
    assert!(left + passed >= HOLD - 1_000_000, "{left} ns are left after {passed} ns");
}

#[test]
fn costs_of_budgets_are_checked_as_without_leases() {
    let server = RedisServer::start();
    let limiter = apart(&server, &APART, Some(TTL));
    warm_budget(&limiter, "k");
    let error = limiter.check("k", [100_000_001, 1]);
    assert_eq!(error, Err(Error::CostTooLarge { cost: 100_000_001, burst: 100_000_000 }));
    assert!(matches!(limiter.check("k", [1, 1, 1]), Err(Error::InvalidArgument { .. })));
    // More than the budget has is the bucket's to decide.
    let large = limiter.check("k", [90_000_000, 1]).expect("a decision");
    assert_eq!((large.allowed, large.source), (true, Source::Redis));
    // Other limits have no budget, and their calls use none.
    let plan =
        Limits::parse(&["2000000/s burst 100000000", "100000000000/100d window"]).expect("limits");
    let with_plan = limiter.with_limits(&plan).expect("a limiter");
    for _ in 0..50 {
        assert_eq!(with_plan.check("k", [1, 1]).expect("a decision").source, Source::Redis);
    }
    let many = || limiter.check_many([("k", [1, 1]), ("cold", [1, 1])]).expect("decisions");
    let deadline = Instant::now() + DEADLINE;
    while many().iter().map(|decision| decision.source).ne([Source::Lease, Source::Redis]) {
        assert!(Instant::now() < deadline, "no budget paid");
        warm_budget(&limiter, "k");
    }
    let deadline = Instant::now() + DEADLINE;
    while limiter.acquire("k", [1, 1], None).expect("tokens").source != Source::Lease {
        assert!(Instant::now() < deadline, "no budget paid");
        warm_budget(&limiter, "k");
    }
    // With one limit a cost for each is a cost for all.
    let other_server = RedisServer::start();
    let single = leased(&other_server, "1000/s");
    let deadline = Instant::now() + DEADLINE;
    while single.check("single", [1]).expect("a decision").source != Source::Lease {
        assert!(Instant::now() < deadline, "no slice came");
        sleep(Duration::from_millis(1));
    }
}

/// An acquire is paid by the slice while that has tokens, and then waits for those of the bucket.
#[test]
fn an_acquire_spends_the_slice_first_and_is_never_refused_by_it() {
    let server = RedisServer::start();
    let build = |limits: &[&str]| {
        let builder = limits.iter().fold(Limiter::builder(), |builder, limit| builder.limit(limit));
        let builder = builder.store_url(&server.url()).store_timeout(Duration::from_secs(5));
        builder.lease(LeaseOptions::new(TTL)).build().expect("a limiter")
    };
    for (key, limits) in [("k", &["1000/s"][..]), ("mixed", &["unlimited", "1000/s"])] {
        let limiter = build(limits);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let deadline = Instant::now() + DEADLINE;
        let mut sources = [0, 0];
        // A hundred calls at once are more than the slice spends at once.
        while sources.contains(&0) {
            assert!(Instant::now() < deadline, "paid by slice and bucket: {sources:?}");
            let calls: Vec<_> = (0..100).map(|_| limiter.acquire_async(key, 1, None)).collect();
            for call in calls {
                let decision = runtime.block_on(call).expect("tokens");
                assert!(decision.allowed, "{decision:?}");
                assert_eq!(usize::from(decision.tier), limits.len() - 1);
                sources[usize::from(decision.source == Source::Redis)] += 1;
            }
        }
    }
}

#[test]
fn many_checks_are_taken_from_the_slice_too() {
    let server = RedisServer::start();
    let limiter = leased(&server, "100000/s");
    let deadline = Instant::now() + DEADLINE;
    loop {
        warm(&limiter, "k");
        let decisions = limiter.check_many([("k", 1), ("cold", 1), ("k", 1)]).expect("decisions");
        let sources: Vec<Source> = decisions.iter().map(|decision| decision.source).collect();
        if sources == [Source::Lease, Source::Redis, Source::Lease] {
            break;
        }
        // On a busy machine the slice may have lapsed meanwhile.
        assert!(Instant::now() < deadline, "{sources:?}");
    }
}

#[test]
fn options_out_of_bounds_are_named() {
    let build = |limit: &str, store: &str, options: LeaseOptions| {
        let built = Limiter::builder().limit(limit).store_url(store).lease(options).build();
        match built {
            Err(Error::InvalidArgument { name: "lease", message }) => message,
            other => panic!("built, or refused otherwise: {other:?}"),
        }
    };
    let second = LeaseOptions::new(Duration::from_secs(1));
    let redis = "redis://127.0.0.1:1/";
    for store in [redis, "memory://", "shm://leases"] {
        let short = LeaseOptions::new(Duration::from_millis(99));
        assert!(build("100/s", store, short).contains("100 ms"));
    }
    assert!(build("100/s", redis, LeaseOptions::new(Duration::from_secs(61))).contains("60 s"));
    assert!(
        build("100/s", redis, LeaseOptions::new(Duration::from_micros(150_500))).contains("ms")
    );
    assert!(build("100/s", redis, second.max_share(0.0)).contains("0.001"));
    assert!(build("100/s", redis, second.max_share(1.1)).contains("0.001"));
    assert!(build("100/s", redis, second.max_share(f64::NAN)).contains("0.001"));
    assert!(build("9/s", redis, second).contains("10 tokens"));
    assert!(build("200000000/s burst 10", redis, second).contains("100000000"));
}
