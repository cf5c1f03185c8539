//! Leases of buckets in a cluster, and on the master of a Sentinel group.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate::{Decision, Error, LeaseOptions, Limiter, Source};
use tidegate_conformance::redis_group::{Node, RedisCluster, SentinelGroup, wait_until};

const TTL: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_secs(60);

/// The store timeout, which is above a slice's life: a process that waits this long has no slice any more.
const TIMEOUT: Duration = Duration::from_secs(2);

fn leased(url: &str) -> Limiter {
    let builder = Limiter::builder().limit("100000/s").store_url(url).store_timeout(TIMEOUT);
    builder.lease(LeaseOptions::new(TTL)).build().expect("a limiter")
}

/// Checks until a slice has answered, whatever fails meanwhile.
fn warm(limiter: &Limiter, key: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match check(limiter, key) {
            Ok(decision) if decision.source == Source::Lease => return,
            answer => assert!(Instant::now() < deadline, "no slice came: {answer:?}"),
        }
        sleep(Duration::from_millis(1));
    }
}

fn check(limiter: &Limiter, key: &str) -> Result<Decision, Error> {
    let answer = limiter.check(key, 1);
    if let Err(error) = &answer {
        assert!(matches!(error.code(), "store_error" | "store_timeout"), "{error}");
    }
    answer
}

/// The share of the checks within a time that slices answer.
fn share_of_slices(limiter: &Limiter, keys: &[String], time: Duration) -> f64 {
    let (began, mut all, mut leased) = (Instant::now(), 0, 0);
    while began.elapsed() < time {
        for key in keys {
            all += 1;
            let decision = check(limiter, key).expect("a decision");
            leased += i32::from(decision.source == Source::Lease);
        }
        sleep(Duration::from_millis(2));
    }
    f64::from(leased) / f64::from(all)
}

/// The ids of the processes that hold slices of the bucket.
fn holders(server: &Node, key: &str) -> Vec<Vec<u8>> {
    server.ask(redis::cmd("HKEYS").arg(format!("tidegate:{{{key}}}:leases")))
}

#[test]
fn records_of_leases_are_in_the_slot_of_the_bucket() {
    let cluster = RedisCluster::start();
    let limiter = leased(&cluster.url());
    // These keys have braces, and parts that look like another hash tag.
    for key in ["k", "{org:7}user:1", "}{", "a{b}c"] {
        warm(&limiter, key);
        let escaped = key.replace('{', "%7B").replace('}', "%7D");
        let owner = cluster.owner(cluster.slot(&format!("tidegate:{{{escaped}}}")));
        assert_eq!(holders(&cluster.nodes[owner], &escaped).len(), 1, "{key}");
    }
    limiter.close();
    for (key, node) in ["k", "%7Borg:7%7Duser:1"].iter().flat_map(|key| {
        let owner = cluster.owner(cluster.slot(&format!("tidegate:{{{key}}}")));
        [(key, &cluster.nodes[owner])]
    }) {
        assert!(holders(node, key).is_empty(), "{key} was given back");
    }
}

/// A new lease needs both keys, and no node has both while they move: until then checks go to the
/// bucket.
#[test]
fn a_lease_follows_its_slot() {
    let cluster = RedisCluster::start();
    let (limiter, late) = (leased(&cluster.url()), leased(&cluster.url()));
    warm(&limiter, "k");
    let slot = cluster.slot("{k}");
    let (from, to) = (cluster.owner(slot), cluster.other_master(slot));
    let goes_on = |limiter: &Limiter, what: &str| {
        for _ in 0..(2 * TTL).as_millis() / 4 {
            check(limiter, "k").unwrap_or_else(|error| panic!("{what}: {error}"));
            sleep(Duration::from_millis(4));
        }
    };
    cluster.set_slot(to, slot, "IMPORTING", from);
    cluster.set_slot(from, slot, "MIGRATING", to);
    goes_on(&limiter, "the slot begins to move");
    cluster.migrate_keys(slot, from, to);
    goes_on(&limiter, "the keys have moved");
    goes_on(&late, "a new client comes");
    for node in [to, from] {
        cluster.set_slot(node, slot, "NODE", to);
    }
    goes_on(&limiter, "the slot has moved");
    for limiter in [&limiter, &late] {
        warm(limiter, "k");
    }
    assert_eq!(holders(&cluster.nodes[to], "k").len(), 2);
}

/// Renewals of slices on other nodes do not wait for a node that hangs.
#[test]
fn a_node_that_hangs_costs_others_no_slice_and_its_successor_grants_new_ones() {
    let cluster = RedisCluster::start();
    cluster.serve_covered_slots();
    let limiter = leased(&cluster.url());
    let owner = cluster.owner(cluster.slot("{k}"));
    let others = cluster.keys_elsewhere(owner, 8);
    // All keys are leased at about the same time, so that their renewals are due together.
    wait_until("slices", || {
        let all = others.iter().map(String::as_str).chain(["k"]);
        let leased =
            all.filter(|key| check(&limiter, key).is_ok_and(|it| it.source == Source::Lease));
        leased.count() == others.len() + 1
    });
    cluster.nodes[owner].freeze();
    let share = share_of_slices(&limiter, &others, 4 * TTL);
    assert!(share > 0.9, "{share} of the other nodes' checks were their slices'");
    warm(&limiter, "k");
    assert_ne!(cluster.owner(cluster.slot("{k}")), owner, "another grants now");
    cluster.nodes[owner].thaw();
}

#[test]
fn a_lease_outlives_its_master() {
    let mut group = SentinelGroup::start();
    let limiter = leased(&group.url());
    warm(&limiter, "k");
    let old = group.master();
    group.servers[old].stop();
    // The slice was debited before, so it is still spent.
    assert_eq!(check(&limiter, "k").map(|it| it.source), Ok(Source::Lease));
    wait_until("a failover", || group.master() != old);
    warm(&limiter, "k");
    assert_eq!(holders(&group.servers[group.master()], "k").len(), 1);
}

/// A client notices too if its slice answers all checks.
#[test]
fn a_lease_is_not_renewed_by_a_master_that_has_been_replaced() {
    let group = SentinelGroup::start();
    let limiter = leased(&group.url());
    warm(&limiter, "k");
    let old = group.master();
    let () = group.sentinels[0].ask(redis::cmd("SENTINEL").arg("FAILOVER").arg("gate"));
    wait_until("a failover", || group.master() != old);
    // The client looks for the master every second, and the slice has to lapse.
    share_of_slices(&limiter, &["k".to_owned()], Duration::from_secs(2));
    let lapses = |server: usize| -> Vec<Vec<u8>> {
        group.servers[server].ask(redis::cmd("HVALS").arg("tidegate:{k}:leases"))
    };
    let (before, on_old) = (lapses(group.master()), lapses(old));
    share_of_slices(&limiter, &["k".to_owned()], 3 * TTL);
    assert_ne!(lapses(group.master()), before, "the new master renews");
    let on_old_now = lapses(old);
    assert!(on_old_now == on_old || on_old_now.is_empty(), "the old one grants no more");
}
