//! Processes that are killed at any instruction.

use core::time::Duration;
use std::fs::File;
use std::thread;
use std::time::Instant;

use tidegate::Limiter;

use crate::processes::{Directory, Process, Role, eventually, host_nanos};
use crate::sharing::{Admissions, note};

/// The table is so small that its slots pass from key to key all the time.
const QUERY: &str = "&max_keys=24&on_full=deny";
const LIMITS: &str = "10000/s burst 5000;20000/s burst 10000";
const COLD_KEYS: u64 = 200;
const KILLS: usize = 60;

/// The role: spends from one bucket, and now and then from many others.
pub(crate) fn churn(role: &Role) {
    let limiter = role.limiter().unwrap();
    let mut log = File::create_new(&role.results).unwrap();
    let mut random = u64::from(std::process::id()) | 1 << 40;
    loop {
        let before = host_nanos();
        if before >= role.until {
            return;
        }
        if limiter.check("hot", 1).unwrap().allowed {
            note(&mut log, before, host_nanos());
        }
        for _ in 0..20 {
            random = next(random);
            let key = (random % COLD_KEYS).to_ne_bytes();
            limiter.check(&key, random >> 60).unwrap();
        }
    }
}

fn next(random: u64) -> u64 {
    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// `TIDEGATE_TEST_KILLS=1000` makes the search longer.
#[test]
fn kills_at_any_moment_leave_nothing_locked_and_mint_nothing() {
    let kills = std::env::var("TIDEGATE_TEST_KILLS");
    let kills = kills.map_or(KILLS, |number| number.parse().unwrap());
    let directory = Directory::new();
    let start = |number: usize| {
        let results = directory.0.join(format!("{number}.log"));
        let (url, until) = (directory.url("test", QUERY), u64::MAX);
        Role { name: "churn", url, limits: LIMITS, results, until, ..Role::default() }.start()
    };
    let mut running: Vec<(usize, Process)> = (0..3).map(|number| (number, start(number))).collect();
    let mut random = u64::from(std::process::id());
    for kill in 0..kills {
        random = next(random);
        let (number, process) = running.remove((random >> 32) as usize % running.len());
        // The child has begun, so the kill comes in the middle of its calls.
        let log = directory.0.join(format!("{number}.log"));
        eventually("a child admits", || log.metadata().is_ok_and(|found| found.len() > 0));
        thread::sleep(Duration::from_nanos(random >> 42));
        process.kill();
        running.push((kill + 3, start(kill + 3)));
    }
    running.into_iter().for_each(|(_, process)| process.kill());

    Admissions::read(&directory.0).assert_bound();
    assert_every_bucket_works(&directory);
}

fn assert_every_bucket_works(directory: &Directory) {
    let limiter: Limiter = directory.open(QUERY, &LIMITS.split(';').collect::<Vec<_>>()).unwrap();
    for key in 0..COLD_KEYS {
        let key = key.to_ne_bytes();
        let called = Instant::now();
        limiter.check(&key, 1).unwrap();
        assert!(called.elapsed() < Duration::from_secs(1), "a call hung");
        eventually("a bucket refills", || limiter.check(&key, 2_000).unwrap().allowed);
    }
}
