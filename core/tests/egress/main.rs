//! The egress machine in random histories, with crashes, redeliveries, rebalances and outages, against
//! worlds that keep their own books. Each assertion names the invariant that it shows.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "mod.rs"]
mod world;

use core::panic::AssertUnwindSafe;
use std::collections::BTreeMap;
use std::panic::catch_unwind;

use world::log::Log;
use world::queue::Queue;

fn histories() -> u64 {
    if std::env::var_os("TIDEGATE_TEST_LONG").is_some() { 100_000 } else { 5_000 }
}

/// Runs histories and counts in how many each thing happened.
fn run(history: impl Fn(u64) -> Vec<&'static str>) -> BTreeMap<&'static str, u64> {
    let mut seen = BTreeMap::new();
    for seed in 0..histories() {
        match catch_unwind(AssertUnwindSafe(|| history(seed))) {
            Ok(found) => found.into_iter().for_each(|each| *seen.entry(each).or_default() += 1),
            Err(_) => panic!("the history of seed {seed}"),
        }
    }
    seen
}

#[test]
fn a_queue_keeps_its_promises_in_every_history() {
    let seen = run(|seed| {
        let mut queue = Queue::new(seed);
        queue.run();
        queue.seen.into_iter().collect()
    });
    assert_seen(
        &seen,
        &[
            "a crash",
            "a pause of the process",
            "dispatched",
            "dropped",
            "exhausted",
            "extended",
            "in order",
            "kept",
            "not taken",
            "permanent",
            "retried",
            "returned: busy",
            "returned: failed",
            "returned: held",
            "returned: unsent",
            "stale",
        ],
    );
}

#[test]
fn a_log_keeps_its_promises_in_every_history() {
    let seen = run(|seed| {
        let mut log = Log::new(seed);
        log.run();
        log.seen.into_iter().collect()
    });
    assert_seen(
        &seen,
        &[
            "a crash",
            "a duplicate",
            "a rebalance",
            "a seek",
            "committed",
            "dropped",
            "exhausted",
            "not taken",
            "permanent",
            "resumed",
            "stale",
        ],
    );
}

fn assert_seen(seen: &BTreeMap<&'static str, u64>, expected: &[&str]) {
    for each in expected {
        let count = seen.get(each).copied().unwrap_or(0);
        assert!(count > histories() / 1_000, "{each}: {count} of {}", histories());
    }
}
