//! Shared buckets on the master of a Sentinel group, whoever that is.

use std::time::{Duration, Instant};

use tidegate::{Error, Limiter};
use tidegate_conformance::redis_group::SentinelGroup;

const TIMEOUT: Duration = Duration::from_secs(1);

/// For a thread to be scheduled on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(1);

fn limiter(url: &str) -> Limiter {
    let builder = Limiter::builder().store_url(url).store_timeout(TIMEOUT);
    builder.limit("100/s burst 100000").build().expect("a limiter")
}

fn charge(limiter: &Limiter) -> Result<u64, Error> {
    let before = Instant::now();
    let decision = limiter.check("k", 1);
    assert!(before.elapsed() < TIMEOUT + SLACK, "took {:?}", before.elapsed());
    Ok(decision?.remaining)
}

fn recovers(limiter: &Limiter) -> u64 {
    let end = Instant::now() + Duration::from_secs(20);
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
    assert_ne!(group.master(), first);
}

/// The old master lives on as a replica: it refuses to write, and nobody believes it.
#[test]
fn a_master_that_is_demoted_is_left() {
    let group = SentinelGroup::start();
    let limiter = limiter(&group.url());
    charge(&limiter).expect("a decision");
    let first = group.master();
    let () = group.sentinels[0].ask(redis::cmd("SENTINEL").arg("FAILOVER").arg("gate"));
    let end = Instant::now() + Duration::from_secs(20);
    while group.master() == first {
        assert!(Instant::now() < end, "no failover");
        recovers(&limiter);
    }
    recovers(&limiter);
    let written: Option<String> =
        group.servers[group.master()].ask(redis::cmd("GET").arg("tidegate:{k}"));
    assert!(written.is_some(), "the new master has the bucket");
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
    // Without any, the master that was known is still it.
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
