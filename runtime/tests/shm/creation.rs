//! Processes that make the file of `shm://` at the same time, or are killed while they do.

use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use crate::processes::{Directory, Process, Role, host_nanos};

const RACERS: usize = 16;

/// The role: opens the store, spends one token and says how it went.
pub(crate) fn open_and_spend_one(role: &Role) {
    role.await_start();
    let limiter = role.limiter();
    let spent = limiter.as_ref().map(|limiter| limiter.check("key", 1).unwrap().allowed);
    role.report(&format!("{spent:?}"));
    // The store stays open until all have opened it, because its file could be closed and opened again otherwise.
    while host_nanos() < role.until {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn processes_that_race_to_make_the_file_share_it() {
    let directory = Directory::in_memory();
    for round in 0..6 {
        // The last rounds find a file of another size that nobody uses, and race to replace it.
        let (name, size) = (["a", "b", "c", "d", "d", "d"][round], 100_000 + round);
        let url = directory.url(name, &format!("&max_keys={size}"));
        let from = host_nanos() + 400_000_000;
        let role = Role { name: "open", url, limits: "16/d", from, ..Role::default() };
        let results: Vec<_> =
            (0..RACERS).map(|number| directory.0.join(format!("{round}-{number}"))).collect();
        let start = |results: &std::path::PathBuf| {
            let until = from + 1_500_000_000;
            Role { results: results.clone(), until, ..role.clone() }.start()
        };
        let processes: Vec<_> = results.iter().map(start).collect();
        processes.into_iter().for_each(Process::finish);
        for result in &results {
            assert_eq!(fs::read_to_string(result).unwrap(), "Ok(true)", "round {round}");
        }
        assert!(!role.limiter().unwrap().check("key", 1).unwrap().allowed, "round {round}");
    }
    assert_eq!(directory.files().len(), 4, "{:?}", directory.files());
}

#[test]
fn a_killed_maker_is_in_nobodys_way() {
    let directory = Directory::in_memory();
    let mut unfinished = 0;
    for round in 0..40u64 {
        // The file is so large that making it takes a while.
        let url = directory.url(&format!("n{round}"), "&max_keys=1500000");
        let results = directory.0.join("results");
        let role =
            Role { name: "open", url, limits: "2/d", results, until: u64::MAX, ..Role::default() };
        let process = role.start();
        let deadline = Instant::now() + Duration::from_secs(20);
        while directory.files().is_empty() {
            assert!(Instant::now() < deadline);
        }
        thread::sleep(Duration::from_micros(round * 300));
        process.kill();
        unfinished += usize::from(directory.files()[0].ends_with(".new"));
        let opened = Instant::now();
        let limiter = role.limiter().unwrap();
        assert!(opened.elapsed() < Duration::from_secs(4), "round {round}");
        assert!(limiter.check("key", 1).unwrap().allowed, "round {round}");
        let path = directory.only_file();
        assert!(!path.ends_with(".new"));
        drop(limiter);
        fs::remove_file(path).unwrap();
    }
    assert!(unfinished > 0, "no kill met a process that was making the file");
}
