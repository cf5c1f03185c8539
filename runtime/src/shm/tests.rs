//! Tests of shared files within one process.

use std::fs;
use std::os::unix::fs::FileExt as _;

use tidegate_core::{Clock as _, Decision, Table};

use super::header::Header;
use super::host::Host;
use super::*;
use crate::Keys;

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
    tables.tables().check(Keys::One(key), cost.into()).unwrap()
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

/// Which slot a key takes, and what stands there, is part of the file's format: if this
/// fails, builds with and without the change must not share files. Raise the version.
#[test]
fn the_layout_is_that_of_this_version() {
    let slots: [Slot; 64] = core::array::from_fn(|_| Slot::default());
    let table = Table::new(&slots[..]);
    let taken =
        [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 7 << 60, 8, 16, 24].map(|fingerprint| {
            let before: Vec<_> = slots.iter().map(|slot| slot[0].load(Ordering::Relaxed)).collect();
            table.update(fingerprint, 1_000, |_| Some(2_000 + fingerprint % 10)).unwrap();
            let index =
                (0..64).find(|&i| slots[i][0].load(Ordering::Relaxed) != before[i]).unwrap();
            let [key, cell] = slots[index].each_ref().map(|word| word.load(Ordering::Relaxed));
            (index, key, cell)
        });
    // Live, of version 2, and 48 bits; in the window of its highest bits, at the place of its
    // lowest ones; and where that window has less room, in its second one.
    assert_eq!(taken[0], (7, 0x8002_4567_89ab_cdef, 2_005));
    assert_eq!(taken[1], (56, 0x8002_ba98_7654_3210, 2_000));
    assert_eq!(taken[2], (24, 0x8002_0000_0000_0000, 2_002));
    assert_eq!(taken[3], (0, 0x8002_0000_0000_0008, 2_008));
    assert_eq!(taken[4], (1, 0x8002_0000_0000_0010, 2_006));
    assert_eq!(taken[5], (57, 0x8002_0000_0000_0018, 2_004));
}

impl Directory {
    /// Makes a file as it would be if this host were another.
    fn make_as(&self, host: Host, clock_offset: u64) {
        let options = ShmOptions::parse(&format!("test?dir={}", self.0.display())).unwrap();
        drop(self.open("", &["5/h"]));
        let path = fs::read_dir(&self.0).unwrap().next().unwrap().unwrap().path();
        let limits = [Limit::parse("5/h").unwrap()];
        let identity = Identity::new("tidegate", &limits);
        let header = Header::new(identity, &options, host, clock_offset, [1, 2]);
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&header.encode(), 0).unwrap();
    }

    fn try_open(&self) -> Result<SharedTables, Error> {
        let options = ShmOptions::parse(&format!("test?dir={}", self.0.display())).unwrap();
        SharedTables::open(&options, "tidegate", &[Limit::parse("5/h").unwrap()])
    }
}

#[test]
fn a_file_of_another_boot_or_time_namespace_is_replaced_unless_it_is_in_use() {
    let here = Host::current();
    for host in
        [Host { boot: [1, 2], ..here }, Host { time_namespace: here.time_namespace + 1, ..here }]
    {
        let directory = Directory::new("boot");
        directory.make_as(host, ShmClock::offset_now());
        let path = fs::read_dir(&directory.0).unwrap().next().unwrap().unwrap().path();
        let holder = File::open(&path).unwrap();
        rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockShared).unwrap();
        let refused = directory.try_open().unwrap_err().to_string();
        assert!(refused.contains("another boot"), "{refused}");
        drop(holder);
        let opened = directory.try_open().unwrap();
        assert_ne!(opened.tables().fingerprinter.of(b"key"), Fingerprinter::new([1, 2]).of(b"key"));
    }
}

/// Where the system does not name its boots, a file in use is of this one, whatever the wall
/// clock has done since; one that nobody uses and whose clock is far off is of an earlier one.
#[test]
fn without_a_name_for_the_boot_the_clock_and_the_lock_tell() {
    let directory = Directory::new("nameless");
    let long_ago = ShmClock::offset_now() - 3_600_000_000_000;
    let nameless = Host { boot: [0; 2], ..Host::current() };
    directory.make_as(nameless, long_ago);
    let path = fs::read_dir(&directory.0).unwrap().next().unwrap().unwrap().path();
    let holder = File::open(&path).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockShared).unwrap();
    let of_file = Fingerprinter::new([1, 2]).of(b"key");
    assert_eq!(directory.try_open().unwrap().tables().fingerprinter.of(b"key"), of_file);
    drop(holder);
    assert_ne!(directory.try_open().unwrap().tables().fingerprinter.of(b"key"), of_file);
}

/// The clock of one file is the wall clock's of its making, whoever reads it.
#[test]
fn the_files_clock_counts_from_the_unix_epoch() {
    let directory = Directory::new("clock");
    let tables = directory.open("", &["5/h"]);
    let again = directory.open("", &["5/h"]);
    let wall = crate::WallClock.now();
    assert!(tables.tables().clock.now().abs_diff(wall) < 60_000_000_000);
    assert!(tables.tables().clock.now().abs_diff(again.tables().clock.now()) < 10_000_000);
}
