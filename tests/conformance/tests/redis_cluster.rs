//! Shared buckets in a cluster: slots that move are followed, slots that no node serves are an
//! error, and no bucket is ever in two places.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tidegate::{BreakerState, Error, Limiter};
use tidegate_conformance::redis_group::{RedisCluster, wait_until};
use tidegate_conformance::redis_server::RedisServer;

const TIMEOUT: Duration = Duration::from_secs(2);

/// After this many failures in a row the breaker of a node opens.
const FAILURES: u64 = 3;

/// How late a thread may run on a busy machine. A call that hangs takes far longer.
const SLACK: Duration = Duration::from_secs(10);

fn limiter(url: &str, limits: &[&str]) -> Limiter {
    let builder = Limiter::builder().store_url(url).store_timeout(TIMEOUT);
    let builder = limits.iter().fold(builder, |builder, limit| builder.limit(limit));
    builder.build().expect("a limiter")
}

fn charge(limiter: &Limiter, key: &str) -> Result<u64, Error> {
    let before = Instant::now();
    let decision = limiter.check(key, 1);
    assert!(before.elapsed() < TIMEOUT + SLACK, "took {:?}", before.elapsed());
    let decision = decision?;
    assert!(decision.allowed, "{key}: {decision:?}");
    Ok(decision.remaining)
}

/// Charges until that succeeds again, within a generous time for the cluster to elect a master.
fn recovers(limiter: &Limiter, key: &str) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match charge(limiter, key) {
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
fn every_slot_is_reached_from_one_seed() {
    let cluster = RedisCluster::start();
    let seed = format!("redis+cluster://127.0.0.1:{}", cluster.nodes[5].port);
    let (one, two) = (limiter(&seed, &["1/d burst 2"]), limiter(&cluster.url(), &["1/d burst 2"]));
    for key in (0..60).map(|number| format!("key {number}")) {
        assert_eq!(charge(&one, &key), Ok(1));
        assert_eq!(charge(&two, &key), Ok(0));
        assert!(!one.check(&key, 1).expect("a decision").allowed);
    }
}

#[test]
fn keys_of_different_slots_are_refused_and_a_hash_tag_joins_them() {
    let cluster = RedisCluster::start();
    let limiter = limiter(&cluster.url(), &["1/d burst 2", "1/d burst 3"]);
    let error = limiter.check(&[b"user:1".as_slice(), b"org:7"], 1).expect_err("two slots");
    assert_eq!(error.code(), "invalid_argument");
    assert!(error.to_string().contains("hash tag"), "{error}");
    let check = |user: &str| limiter.check(&[user.as_bytes(), b"{org:7}"], 2);
    assert!(check("{org:7}user:1").expect("a decision").allowed);
    let refused = check("{org:7}user:2").expect("a decision");
    assert!(!refused.allowed && refused.tier == 1, "the organisation has one left: {refused:?}");
}

/// The buckets of a slot that moves are charged where they are, before, during and after the move.
#[test]
fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start();
    let limiter = limiter(&cluster.url(), &["1/d burst 10"]);
    let slot = cluster.slot("{k}");
    let (from, to) = (cluster.owner(slot), cluster.other_master(slot));
    assert_eq!(charge(&limiter, "k"), Ok(9));

    cluster.set_slot(to, slot, "IMPORTING", from);
    cluster.set_slot(from, slot, "MIGRATING", to);
    assert_eq!(charge(&limiter, "k"), Ok(8), "it is still there");
    cluster.migrate_keys(slot, from, to);
    assert_eq!(charge(&limiter, "k"), Ok(7), "it is asked for at the importing node");
    for node in [to, from] {
        cluster.set_slot(node, slot, "NODE", to);
    }
    assert_eq!(charge(&limiter, "k"), Ok(6), "it has moved");
    assert_eq!(charge(&limiter, "k"), Ok(5));
}

/// A node that has only some keys of a moving slot cannot know the others, so calls with several
/// keys fail until the slot has moved.
#[test]
fn several_keys_of_a_moving_slot_are_an_error_until_it_has_moved() {
    let cluster = RedisCluster::start();
    let limiter = limiter(&cluster.url(), &["1/d burst 10", "1/d burst 10"]);
    let check = || limiter.check(&[b"{k}user".as_slice(), b"{k}"], 1);
    assert_eq!(check().expect("nothing moves").remaining, 9);
    let slot = cluster.slot("{k}");
    let (from, to) = (cluster.owner(slot), cluster.other_master(slot));
    cluster.set_slot(to, slot, "IMPORTING", from);
    cluster.set_slot(from, slot, "MIGRATING", to);
    assert_eq!(check().expect("both are still there").remaining, 8);
    let _: i64 = cluster.nodes[from].ask(redis::cmd("DEL").arg("tidegate:{k}:%7Bk%7D:1"));
    let error = check().expect_err("one may have moved");
    assert!(error.code() == "store_error" && error.to_string().contains("TryAgain"), "{error}");
    cluster.migrate_keys(slot, from, to);
    for node in [to, from] {
        cluster.set_slot(node, slot, "NODE", to);
    }
    assert_eq!(check().expect("both are where the slot is").remaining, 7);
}

#[test]
fn a_dead_master_is_an_error_until_its_replica_takes_over() {
    let mut cluster = RedisCluster::start();
    let limiter = limiter(&cluster.url(), &["100/s burst 100000"]);
    let slot = cluster.slot("{k}");
    let owner = cluster.owner(slot);
    charge(&limiter, "k").expect("a decision");
    cluster.nodes[owner].stop();
    let before = Instant::now();
    recovers(&limiter, "k");
    assert!(before.elapsed() > Duration::from_millis(500), "the owner was the owner");
    assert_ne!(cluster.owner(slot), owner);
}

/// The breaker of a dead node opens soon, so that calls on its slots need not fail one by one.
/// Calls on the other nodes' slots never notice.
#[test]
fn a_dead_node_is_left_alone_and_the_others_are_not() {
    let mut cluster = RedisCluster::start();
    let limiter = limiter(&cluster.url(), &["100/s burst 100000"]);
    let slot = cluster.slot("{k}");
    let owner = cluster.owner(slot);
    let [other] = &cluster.keys_elsewhere(owner, 1)[..] else { panic!("a key") };
    let state = || limiter.store_health().state;
    charge(&limiter, "k").expect("a decision");
    charge(&limiter, other).expect("a decision");
    assert_eq!(state(), BreakerState::Closed);

    cluster.nodes[owner].stop();
    let was_asked = |error: &Error| !error.to_string().contains("not asked");
    for _ in 0..FAILURES {
        let error = charge(&limiter, "k").expect_err("its node is dead");
        assert!(error.code() == "store_error" && was_asked(&error), "{error}");
        assert_eq!(charge(&limiter, other).map(drop), Ok(()));
    }
    // On a busy machine its time to be asked again may have come.
    wait_until("a call that is not sent", || {
        charge(&limiter, "k").is_err_and(|it| !was_asked(&it))
    });
    assert_ne!(state(), BreakerState::Closed);
    for _ in 0..50 {
        assert_eq!(charge(&limiter, other).map(drop), Ok(()));
    }
    let counted = limiter.store_health().failures;
    assert!(counted >= FAILURES, "{counted}");

    recovers(&limiter, "k");
    assert_eq!(state(), BreakerState::Closed, "the node that took over has not failed");
    charge(&limiter, other).expect("a decision");
    assert!(limiter.store_health().failures >= counted, "what was counted stays");
}

/// The node neither closes connections nor answers, like a machine that hangs.
#[test]
fn a_master_that_hangs_is_left_for_the_one_that_takes_over() {
    let cluster = RedisCluster::start();
    let builder = Limiter::builder().store_url(&cluster.url()).limit("100/s burst 100000");
    let limiter = builder.store_timeout(Duration::from_millis(100)).build().expect("a limiter");
    let slot = cluster.slot("{k}");
    let owner = cluster.owner(slot);
    recovers(&limiter, "k");
    cluster.nodes[owner].freeze();
    recovers(&limiter, "k");
    wait_until("another owner", || {
        let others = (0..6).find(|node| *node != owner).map(|node| &cluster.nodes[node]);
        let info: Option<String> = others.map(|it| it.ask(redis::cmd("CLUSTER").arg("NODES")));
        info.is_some_and(|info| info.contains("fail"))
    });
    cluster.nodes[owner].thaw();
    recovers(&limiter, "k");
}

#[test]
fn a_cluster_that_is_not_there_is_an_error_in_time() {
    let limiter = limiter("redis+cluster://127.0.0.1:1,127.0.0.1:2", &["5/s"]);
    let before = Instant::now();
    assert_eq!(limiter.check("k", 1).expect_err("nobody listens").code(), "store_error");
    assert!(before.elapsed() < TIMEOUT + SLACK, "took {:?}", before.elapsed());
}

/// One node that serves all slots, used like a single server: it takes only keys of one slot in a
/// call, and says so once.
#[test]
fn a_node_of_a_cluster_can_be_used_like_a_single_server() {
    let file = format!("nodes-of-test-{}.conf", std::process::id());
    let options = ["--cluster-enabled", "yes", "--cluster-config-file", &file];
    let options: Vec<&'static str> = options.map(|word| &*word.to_owned().leak()).to_vec();
    let server = RedisServer::start_with(options.leak());
    let connection = RefCell::new(server.connect());
    let ask = |words: &[&str]| -> String {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut *connection.borrow_mut()).expect("an answer")
    };
    ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until("the node serves", || ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));

    let builder = Limiter::builder().store_url(&server.url()).store_timeout(TIMEOUT);
    let limiter = builder.limit("10/36500d window").build().expect("a limiter");
    let keys: Vec<String> = (0..50).map(|number| format!("user:{number}")).collect();
    for round in 1..=3 {
        let checks: Vec<(&str, u64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
        let decisions = limiter.check_many(checks).expect("decisions");
        for decision in decisions {
            assert!(decision.allowed && decision.remaining == 10 - round, "{decision:?}");
        }
    }
    let refused = ask(&["INFO", "errorstats"]);
    assert!(refused.contains("errorstat_CROSSSLOT:count=1"), "{refused}");

    let builder = Limiter::builder().store_url(&server.url()).store_timeout(TIMEOUT);
    let builder = builder.limit("10/36500d window").limit("15/36500d window").prefix("each");
    let each = builder.build().expect("a limiter");
    let error =
        each.check(&[b"user:1".as_slice(), b"org:7"][..], 1).expect_err("keys of two slots");
    assert!(error.to_string().contains("redis+cluster://"), "{error}");
    // A file that stays behind does no harm.
    let _ = std::fs::remove_file(std::env::temp_dir().join(file));
}
