//! When the file of `shm://` is replaced, kept or removed.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::processes::{Directory, eventually};

#[test]
fn a_file_nobody_uses_makes_way_for_other_settings() {
    let directory = Directory::new();
    let limiter = directory.open("", &["10/d"]).unwrap();
    assert!(limiter.check("key", 10).unwrap().allowed);
    drop(limiter);
    let limiter = directory.open("&max_keys=5&on_full=deny&mode=666", &["10/d"]).unwrap();
    assert!(limiter.check("key", 10).unwrap().allowed);
    directory.only_file();
}

/// Threads open and close the file all the time, which replaces it. All that have it open at one time
/// share it, and none holds a file that has lost its path.
#[test]
fn whoever_has_the_file_open_shares_it_while_others_replace_it() {
    let directory = Directory::new();
    let end = Instant::now() + Duration::from_secs(2);
    let shared = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..4u32 {
            let (directory, shared) = (&directory, &shared);
            scope.spawn(move || {
                let query = format!("&max_keys={}", 50_000 + number % 2);
                for round in 0.. {
                    if Instant::now() >= end {
                        return;
                    }
                    // The call is refused while the other settings are in use.
                    let Ok(one) = directory.open(&query, &["1/d"]) else { continue };
                    let key = format!("{number}.{round}");
                    assert!(one.check(&key, 1).unwrap().allowed);
                    let other = directory.open(&query, &["1/d"]).unwrap();
                    assert!(!other.check(&key, 1).unwrap().allowed, "two files in use");
                    shared.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(shared.into_inner() > 100);
}

#[test]
fn what_is_owed_outlives_the_processes() {
    let directory = Directory::new();
    let limits = ["10/d", "20/d burst 12"];
    assert!(directory.open("", &limits).unwrap().check("key", 10).unwrap().allowed);
    let refused = directory.open("", &limits).unwrap().check("key", 1).unwrap();
    assert!(!refused.allowed && refused.tier == 0);
}

#[test]
fn other_limits_and_prefixes_have_other_files() {
    let directory = Directory::new();
    let held = [
        directory.open("", &["10/d"]).unwrap(),
        directory.open("", &["11/d"]).unwrap(),
        directory.open("", &["10/d", "11/d"]).unwrap(),
    ];
    assert_eq!(directory.files().len(), 3);
    for limiter in &held {
        assert!(limiter.check("key", 10).unwrap().allowed);
    }
    // The same limit in other words has the same file.
    let same = directory.open("", &["20/2d burst 10"]).unwrap();
    assert!(!same.check("key", 1).unwrap().allowed);
}

#[test]
fn a_file_of_former_limits_goes_when_its_debts_are_paid() {
    let directory = Directory::new();
    let former = directory.open("", &["50/s burst 5"]).unwrap();
    assert!(former.check("key", 5).unwrap().allowed);
    let former_file = directory.only_file();
    let other = directory.open("", &["60/s"]).unwrap();
    thread::sleep(Duration::from_millis(150));
    drop(directory.open("", &["60/s"]).unwrap());
    assert!(former_file.exists(), "in use");
    drop(former);
    eventually("the file goes", || {
        drop(directory.open("", &["60/s"]).unwrap());
        !former_file.exists()
    });
    drop(other);
}

#[test]
fn a_file_that_is_owed_something_stays() {
    let directory = Directory::new();
    assert!(directory.open("", &["10/d"]).unwrap().check("key", 1).unwrap().allowed);
    let owed = directory.only_file();
    drop(directory.open("", &["60/s"]).unwrap());
    assert!(owed.exists());
    assert_eq!(directory.open("", &["10/d"]).unwrap().check("key", 0).unwrap().remaining, 9);
}

#[test]
fn files_that_are_not_the_names_own_are_let_be() {
    let directory = Directory::new();
    for name in ["tidegate.other.0123456789abcdef", "tidegate.test.0123456789abcdef", "test"] {
        std::fs::write(directory.0.join(name), "something of somebody's").unwrap();
    }
    drop(directory.open("", &["10/d"]).unwrap());
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 4);
}
