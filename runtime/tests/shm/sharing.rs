//! Processes that spend from one bucket keep its limit.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;

use crate::processes::{Directory, Process, Role, host_nanos};

const SECOND: u64 = 1_000_000_000;
pub(crate) const RATE: u64 = 10_000;
/// The tokens of half a second, because on a busy machine no process may run for that long.
pub(crate) const BURST: u64 = 5_000;
const LIMITS: &str = "10000/s burst 5000";

/// The times just before and just after each admission of the bucket.
#[derive(Default)]
pub(crate) struct Admissions {
    before: Vec<u64>,
    after: Vec<u64>,
}

impl Admissions {
    pub(crate) fn read(directory: &Path) -> Self {
        let mut admissions = Self::default();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                // The last record of a killed process may be cut off.
                for record in fs::read(path).unwrap().as_chunks::<16>().0 {
                    let (before, after) = record.split_at(8);
                    admissions.before.push(u64::from_ne_bytes(before.try_into().unwrap()));
                    admissions.after.push(u64::from_ne_bytes(after.try_into().unwrap()));
                }
            }
        }
        admissions.before.sort_unstable();
        admissions.after.sort_unstable();
        admissions
    }

    pub(crate) fn count(&self) -> u64 {
        self.before.len() as u64
    }

    /// The tokens that the bucket could give between the first admission and the last.
    pub(crate) fn possible(&self) -> u64 {
        let length = self.after.last().unwrap() - self.before.first().unwrap();
        BURST + RATE * length / SECOND
    }

    /// Asserts that every window from one admission to another holds at most burst + rate * length
    /// admissions. One more is allowed, because the clocks of two processes may differ by 100
    /// microseconds.
    ///
    /// A window holds at least the admissions that ended by its end, less the ones that began before it.
    pub(crate) fn assert_bound(&self) {
        let mut earlier = 0;
        let mut best_start = i128::MAX;
        for (ended, &after) in (1i128..).zip(&self.after) {
            while let Some(&before) = self.before.get(earlier).filter(|&&before| before <= after) {
                let start = earlier as i128 * i128::from(SECOND) - i128::from(RATE * before);
                best_start = best_start.min(start);
                earlier += 1;
            }
            let beyond = ended * i128::from(SECOND) - i128::from(RATE * after) - best_start;
            let most = i128::from((BURST + 1) * SECOND);
            assert!(beyond <= most, "{} tokens too many", (beyond - most) as f64 / SECOND as f64);
        }
    }
}

/// Records an admission with a single write, so that a kill loses one record at most.
pub(crate) fn note(log: &mut File, before: u64, after: u64) {
    let mut record = [0; 16];
    record[..8].copy_from_slice(&before.to_ne_bytes());
    record[8..].copy_from_slice(&after.to_ne_bytes());
    log.write_all(&record).unwrap();
}

/// The role: spends all that it can get of one bucket.
pub(crate) fn spend(role: &Role) {
    let limiter = role.limiter().unwrap();
    let mut log = File::create_new(&role.results).unwrap();
    role.await_start();
    loop {
        let before = host_nanos();
        if before >= role.until {
            return;
        }
        if limiter.check("hot", 1).unwrap().allowed {
            note(&mut log, before, host_nanos());
        } else {
            thread::yield_now();
        }
    }
}

fn spenders(directory: &Directory, count: usize, millis: u64) -> Vec<Process> {
    // All processes begin together, once they have started.
    let from = host_nanos() + 500_000_000;
    let until = from + millis * 1_000_000;
    let start = |number| {
        let results = directory.0.join(format!("{number}.log"));
        let url = directory.url("test", "");
        let shell = "";
        Role { name: "spend", url, limits: LIMITS, results, from, until, shell }.start()
    };
    (0..count).map(start).collect()
}

#[test]
fn processes_spend_from_one_bucket() {
    let directory = Directory::new();
    for process in spenders(&directory, 4, 2_500) {
        process.finish();
    }
    assert_shared_and_used(&directory);
}

#[test]
fn killing_half_of_them_changes_neither_the_bound_nor_the_use() {
    let directory = Directory::new();
    let mut processes = spenders(&directory, 8, 3_000);
    thread::sleep(core::time::Duration::from_millis(1_500));
    for killed in processes.drain(..4) {
        thread::sleep(core::time::Duration::from_millis(137));
        killed.kill();
    }
    for process in processes {
        process.finish();
    }
    assert_shared_and_used(&directory);
}

fn assert_shared_and_used(directory: &Directory) {
    let admissions = Admissions::read(&directory.0);
    admissions.assert_bound();
    let (count, possible) = (admissions.count(), admissions.possible());
    assert!(count * 100 >= possible * 98, "{count} of {possible}");
    assert!(possible > BURST + 2 * RATE, "{possible}");
}

/// The check of the bound can fail.
#[test]
fn two_buckets_are_found_out() {
    let directory = Directory::new();
    let until = host_nanos() + 1_000_000_000;
    let start = |name: &str| {
        let (url, results) = (directory.url(name, ""), directory.0.join(format!("{name}.log")));
        Role { name: "spend", url, limits: LIMITS, results, until, ..Role::default() }.start()
    };
    let both = [start("one"), start("other")];
    both.into_iter().for_each(Process::finish);
    let admissions = Admissions::read(&directory.0);
    assert!(std::panic::catch_unwind(|| admissions.assert_bound()).is_err());
}
