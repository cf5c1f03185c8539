//! Shared buckets on the current master of a Sentinel group.

use std::time::{Duration, Instant};

use tidegate::{Error, Limiter};
use tidegate_conformance::redis_group::{SentinelGroup, wait_until};

const TIMEOUT: Duration = Duration::from_secs(4);

/// How long a client takes to notice that the sentinels have replaced a master that still runs.
const NOTICED: Duration = Duration::from_secs(2);

/// How late a thread may run on a busy machine. A call that hangs takes far longer.
const SLACK: Duration = Duration::from_secs(4);

fn limiter(url: &str) -> Limiter {
    let builder = Limiter::builder().store_url(url).store_timeout(TIMEOUT);
    // The limit is so slow that time pays no charge off during a test, and has more tokens than a test takes.
    builder.limit("1/min burst 100000").build().expect("a limiter")
}

/// The bucket as one of the servers has it.
fn bucket(group: &SentinelGroup, server: usize) -> Option<String> {
    group.servers[server].ask(redis::cmd("GET").arg("tidegate:{k}"))
}

fn charge(limiter: &Limiter) -> Result<u64, Error> {
    let before = Instant::now();
    let decision = limiter.check("k", 1);
    assert!(before.elapsed() < TIMEOUT + SLACK, "took {:?}", before.elapsed());
    Ok(decision?.remaining)
}

fn recovers(limiter: &Limiter) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match charge(limiter) {
            Ok(remaining) => return remaining,
            Err(error) => {
                assert!(matches!(error.code(), "store_error" | "store_timeout"), "{error}");
                assert!(Instant::now() < end, "still {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn the_master_is_found_and_found_again_when_it_dies() {
    let mut group = SentinelGroup::start();
    let limiter = limiter(&group.url());
    assert_eq!(charge(&limiter), Ok(99_999));
    assert_eq!(charge(&limiter), Ok(99_998));
    let first = group.master();
    group.servers[first].stop();
    recovers(&limiter);
    // The sentinel asked here may hear of the failover later than the one that told the client.
    wait_until("a new master", || group.master() != first);
}

/// The old master goes on as a replica: it refuses writes, and the client leaves it.
#[test]
fn a_master_that_is_demoted_is_left() {
    let group = SentinelGroup::start();
    let limiter = limiter(&group.url());
    charge(&limiter).expect("a decision");
    let first = group.master();
    let () = group.sentinels[0].ask(redis::cmd("SENTINEL").arg("FAILOVER").arg("gate"));
    wait_until("a failover", || {
        recovers(&limiter);
        group.master() != first
    });
    let new = group.master();
    let replicated = bucket(&group, new);
    wait_until("a charge on the new master", || {
        recovers(&limiter);
        bucket(&group, new) != replicated
    });
}

/// The old master still acts as a master for the eight seconds that sentinels wait before they tell
/// it. Charges that go there meanwhile are lost.
#[test]
fn a_master_that_does_not_know_it_is_replaced_is_left_though_a_sentinel_hangs() {
    let group = SentinelGroup::start();
    let limiter = limiter(&group.url());
    let charge = || assert!(limiter.check("k", 1).expect("one of them serves").allowed);
    charge();
    group.sentinels[1].freeze();
    let old = group.master();
    let () = group.sentinels[0].ask(redis::cmd("SENTINEL").arg("FAILOVER").arg("gate"));
    wait_until("a failover", || group.master() != old);
    let (new, replaced) = (group.master(), Instant::now());
    let replicated = bucket(&group, new);
    while bucket(&group, new) == replicated {
        charge();
        std::thread::sleep(Duration::from_millis(5));
        assert!(replaced.elapsed() < NOTICED + SLACK, "nobody has noticed");
    }
    let role: Vec<redis::Value> = group.servers[old].ask(&mut redis::cmd("ROLE"));
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()), "it was told");
    let left = bucket(&group, old);
    for _ in 0..20 {
        charge();
    }
    assert_eq!(bucket(&group, old), left, "nobody goes back");
}

#[test]
fn dead_and_hanging_sentinels_delay_nobody() {
    let mut group = SentinelGroup::start();
    group.sentinels[0].stop();
    group.sentinels[1].freeze();
    let limiter = limiter(&group.url());
    let before = Instant::now();
    charge(&limiter).expect("one sentinel is enough");
    assert!(before.elapsed() < TIMEOUT / 2, "took {:?}", before.elapsed());
    // Without any sentinel the client keeps to the master that it knows.
    group.sentinels[2].stop();
    let mut kill = redis::cmd("CLIENT");
    let _: i64 =
        group.servers[0].ask(kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes"));
    recovers(&limiter);
}

#[test]
fn a_name_that_no_sentinel_knows_is_an_error() {
    let group = SentinelGroup::start();
    let error = charge(&limiter(&group.url().replace("/gate", "/other"))).expect_err("no master");
    assert!(error.code() == "store_error" && error.to_string().contains("name"), "{error}");
}
