//! Clusters and Sentinel groups that require certificates and passwords.

use std::time::{Duration, Instant};

use tidegate::{LeaseOptions, Limiter, Source};
use tidegate_conformance::redis_group::{RedisCluster, Secured, SentinelGroup, wait_until};

/// The timeout of calls that must fail.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of calls that must succeed: TLS takes its time on a busy machine.
const PATIENT: Duration = Duration::from_secs(20);
/// How late a thread may run on a busy machine.
const SLACK: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(120);

const USER: &str = "gate%3Auser:p%40ss%2Fw%3Frd";
const WATCHER: &str = "sentinel_username=watcher&sentinel_password=w%40tch";

fn limiter(url: &str, timeout: Duration) -> Limiter {
    let builder =
        Limiter::builder().store_url(url).store_timeout(timeout).limit("100/s burst 1000");
    builder.deny_cache(Duration::ZERO).build().expect("a limiter")
}

/// Adds a user and options to `scheme://hosts/rest`, and makes it a URL with TLS.
fn with(url: &str, user: &str, options: &str) -> String {
    format!("{}?{options}", url.replacen("://", &format!("://{user}@"), 1))
        .replacen("redis+", "rediss+", 1)
}

/// Calls every operation, to show that the rights that the docs name suffice.
fn uses_all(limiter: &Limiter) {
    // The look-up of the servers has a timeout of its own, which TLS exceeds on a busy machine.
    recovers(limiter, "warm");
    for key in (0..30).map(|number| format!("key {number}")) {
        assert!(limiter.check(&key, 1).expect("a decision").allowed);
        assert_eq!(limiter.check(&key, 0).expect("a decision").limit, 1000);
    }
    let slot = limiter.reserve("k", 5, Some(TIMEOUT)).expect("a reservation");
    assert_eq!(slot.cancel(), Ok(true));
    limiter.credit("k", 1).expect("given back");
    limiter.hold("k", Duration::from_millis(1)).expect("a pause");
    limiter.reset("k").expect("forgotten");
}

fn recovers(limiter: &Limiter, key: &str) {
    let end = Instant::now() + DEADLINE;
    while let Err(error) = limiter.check(key, 1) {
        assert!(Instant::now() < end, "still {error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn leases(url: &str) {
    let builder = Limiter::builder().store_url(url).store_timeout(PATIENT).limit("1000/s");
    let lease = LeaseOptions::new(Duration::from_millis(400));
    let limiter = builder.lease(lease).build().expect("a limiter");
    recovers(&limiter, "warm");
    let end = Instant::now() + DEADLINE;
    while limiter.check("leased", 1).expect("a decision").source != Source::Lease {
        assert!(Instant::now() < end, "no slice came");
        std::thread::sleep(Duration::from_millis(1));
    }
    limiter.close();
}

/// Asserts that the URL gives an error in time, and that the error contains no secrets.
fn is_refused(url: &str) {
    let began = Instant::now();
    let error = limiter(url, TIMEOUT).check("k", 1).expect_err("nobody is let in so");
    assert!(began.elapsed() < TIMEOUT + SLACK, "took {:?}", began.elapsed());
    assert!(matches!(error.code(), "store_error" | "store_timeout"), "{error}");
    let message = error.to_string();
    for secret in [Secured::USER, Secured::PASSWORD, Secured::WATCHERS_PASSWORD, "wrong"] {
        assert!(!message.contains(secret), "{message}");
    }
}

#[test]
fn a_cluster_is_reached_over_tls_with_a_user() {
    let secured = Secured::new();
    let mut cluster = RedisCluster::start_secured(Some(&secured));
    let (plain, options) = (cluster.url(), secured.options());
    let url = with(&plain, USER, &options);
    let limiter = limiter(&url, PATIENT);
    uses_all(&limiter);
    leases(&format!("{url}&protocol=resp3"));

    is_refused(&with(&plain, "gate%3Auser:wrong", &options));
    let authority = options.split('&').next().expect("the authority");
    is_refused(&with(&plain, USER, authority));
    is_refused(&with(&plain, USER, ""));
    is_refused(&plain);

    // A redirect names the other node as the cluster knows it; it is reached over TLS as well.
    let slot = cluster.slot("{k}");
    let (from, to) = (cluster.owner(slot), cluster.other_master(slot));
    cluster.set_slot(to, slot, "IMPORTING", from);
    cluster.set_slot(from, slot, "MIGRATING", to);
    assert!(limiter.check("k", 1).expect("asked for at the other node").allowed);
    for node in [to, from] {
        cluster.set_slot(node, slot, "NODE", to);
    }
    assert!(limiter.check("k", 1).expect("moved").allowed);
    cluster.nodes[to].stop();
    recovers(&limiter, "k");
}

#[test]
fn a_master_is_found_and_reached_over_tls_each_with_a_user() {
    let secured = Secured::new();
    let mut group = SentinelGroup::start_secured(Some(&secured));
    let (plain, options) = (group.url(), secured.options());
    let all = format!("{options}&{WATCHER}");
    let url = with(&plain, USER, &all);
    let limiter = limiter(&url, PATIENT);
    uses_all(&limiter);
    leases(&format!("{url}&protocol=resp3"));

    is_refused(&with(&plain, "gate%3Auser:wrong", &all));
    is_refused(&with(&plain, USER, &format!("{options}&{}", WATCHER.replace("w%40tch", "wrong"))));
    is_refused(&with(&plain, USER, &options));
    is_refused(&with(&plain, USER, WATCHER));
    is_refused(&plain);

    let first = group.master();
    group.servers[first].stop();
    recovers(&limiter, "k");
    wait_until("another master", || group.master() != first);
}
