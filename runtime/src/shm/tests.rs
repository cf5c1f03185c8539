use std::fs;

use tidegate_core::{Clock as _, Decision};

use super::*;
use crate::keys::Keys;

/// A directory of its own for each test, gone when the test ends.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self, query: &str, limits: &[&str]) -> SharedTables {
        let url = format!("test?dir={}&{query}", self.0.display());
        let limits: Vec<_> = limits.iter().map(|text| Limit::parse(text).unwrap()).collect();
        let options = ShmOptions::parse(&url).unwrap();
        SharedTables::open(&options, "tidegate", &limits).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn check(tables: &SharedTables, key: &[u8], cost: u64) -> Decision {
    tables.check(Keys::One(key), cost).unwrap()
}

#[test]
fn a_new_key_without_room_is_refused_under_deny() {
    let directory = Directory::new("deny");
    let tables = directory.open("max_keys=1&on_full=deny", &["5/h"]);
    let answers: Vec<_> = (0..20u8).map(|key| check(&tables, &[key], 1)).collect();
    let allowed = answers.iter().filter(|decision| decision.allowed).count();
    // One window holds eight.
    assert_eq!(allowed, 8);
    assert_eq!(tables.pressure(), Pressure { evicted: 0, denied: 12 });
    let refused = answers.iter().find(|decision| !decision.allowed).unwrap();
    assert_eq!((refused.remaining, refused.source), (0, Source::Shm));
    assert!(refused.retry_after > 0);
}

#[test]
fn a_new_key_without_room_drops_the_idlest_under_evict() {
    let directory = Directory::new("evict");
    let tables = directory.open("max_keys=1", &["5/h"]);
    for key in 0..20u8 {
        assert!(check(&tables, &[key], 1).allowed);
    }
    // Another process, as it were, sees the same.
    let again = directory.open("max_keys=1", &["5/h"]);
    assert_eq!(again.pressure(), Pressure { evicted: 12, denied: 0 });
}

/// What `max_keys` promises: so many buckets owe something at one time, and none was refused
/// or dropped for it.
#[test]
fn there_is_room_for_max_keys() {
    let directory = Directory::new("room");
    for max_keys in [100u32, 30_000] {
        let query = format!("max_keys={max_keys}&on_full=deny");
        let tables = directory.open(&query, &["5/h"]);
        for key in 0..max_keys {
            assert!(check(&tables, &key.to_ne_bytes(), 1).allowed, "{key}");
        }
    }
}

#[test]
fn all_tiers_are_charged_or_none() {
    let directory = Directory::new("tiers");
    let tables = directory.open("", &["3/h", "100/h", "2/h", "5/h"]);
    let spend = || check(&tables, b"key", 1);
    assert!(spend().allowed && spend().allowed);
    let refused = spend();
    assert_eq!((refused.allowed, refused.tier), (false, 2));
    assert_eq!(check(&tables, b"other", 2).remaining, 0);
}

/// The clock of one file is the wall clock's of its making, whoever reads it.
#[test]
fn the_files_clock_counts_from_the_unix_epoch() {
    let directory = Directory::new("clock");
    let tables = directory.open("", &["5/h"]);
    let again = directory.open("", &["5/h"]);
    let wall = crate::WallClock.now();
    assert!(tables.clock.now().abs_diff(wall) < 60_000_000_000);
    assert!(tables.clock.now().abs_diff(again.clock.now()) < 10_000_000);
}
