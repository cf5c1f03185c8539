//! Buckets by key, in the memory of the module.

use core::hash::{BuildHasher, Hasher};

use indexmap::IndexMap;
use siphasher::sip::SipHasher13;
use tidegate_core::{Cells, Limit};

use crate::key_room::Keys;

/// The number of old keys that are looked at for each new one.
const SWEPT_PER_INSERT: usize = 2;

/// The buckets of one limiter, by key.
pub(crate) struct Buckets {
    limits: Box<[Limit]>,
    /// The buckets of calls with one key for all tiers.
    whole: CellTable,
    /// The buckets of calls with one key per tier: a key and a tier name a cell.
    split: CellTable,
}

/// A table of cells by key.
///
/// The insertion of each new key looks at two old keys and forgets those whose buckets are full
/// again, which loses nothing. So the table has never more than about twice as many keys as owe
/// something, no call pays for a sweep of all keys, and no timer is needed.
struct CellTable {
    cells: IndexMap<Box<[u8]>, Cells, Seed>,
    next_swept: usize,
}

/// The random key of the hash. Bucket keys come from outside, and the hash is keyed so that nobody
/// can choose them to collide.
#[derive(Clone, Copy)]
pub(crate) struct Seed(pub(crate) u64, pub(crate) u64);

impl Buckets {
    pub(crate) fn new(limits: &[Limit], seed: Seed) -> Self {
        Self { limits: limits.into(), whole: CellTable::new(seed), split: CellTable::new(seed) }
    }

    /// The number of keys that have cells.
    pub(crate) fn len(&self) -> usize {
        self.whole.cells.len() + self.split.cells.len()
    }

    /// Runs `step` on the cells of one key, which are zero when the key is new, and keeps the cells
    /// as `step` leaves them.
    pub(crate) fn update<R>(
        &mut self,
        key: &[u8],
        now: u64,
        step: impl FnOnce(&mut Cells) -> R,
    ) -> R {
        self.whole.update(&self.limits, key, now, step)
    }

    /// The cells of the keys of a call, zero where a key is new.
    pub(crate) fn load(&self, keys: &Keys<'_>) -> Cells {
        match keys {
            Keys::One(key) => self.whole.load(key),
            Keys::Each(keys) => {
                let mut cells = Cells::default();
                for (tier, (cell, key)) in cells.iter_mut().zip(keys).enumerate() {
                    *cell = self.split.load(key)[tier];
                }
                cells
            }
        }
    }

    /// Stores the cells that have changed since they were [`load`](Self::load)ed.
    pub(crate) fn store(&mut self, keys: &Keys<'_>, now: u64, before: &Cells, after: &Cells) {
        match keys {
            _ if before == after => {}
            Keys::One(key) => self.update(key, now, |held| *held = *after),
            Keys::Each(keys) => {
                for (tier, key) in keys.iter().enumerate() {
                    if before[tier] != after[tier] {
                        self.split.update(&self.limits, key, now, |held| held[tier] = after[tier]);
                    }
                }
            }
        }
    }
}

impl CellTable {
    fn new(seed: Seed) -> Self {
        Self { cells: IndexMap::with_hasher(seed), next_swept: 0 }
    }

    fn load(&self, key: &[u8]) -> Cells {
        self.cells.get(key).copied().unwrap_or_default()
    }

    fn update<R>(
        &mut self,
        limits: &[Limit],
        key: &[u8],
        now: u64,
        step: impl FnOnce(&mut Cells) -> R,
    ) -> R {
        if let Some(cells) = self.cells.get_mut(key) {
            return step(cells);
        }
        let mut cells = Cells::default();
        let answer = step(&mut cells);
        if cells != Cells::default() {
            self.sweep(limits, now);
            self.cells.insert(key.into(), cells);
        }
        answer
    }

    fn sweep(&mut self, limits: &[Limit], now: u64) {
        for _ in 0..SWEPT_PER_INSERT {
            if self.next_swept >= self.cells.len() {
                self.next_swept = 0;
            }
            match self.cells.get_index(self.next_swept) {
                None => return,
                Some((_, cells)) if owes(limits, cells, now) => self.next_swept += 1,
                // The last key takes the place of the forgotten one and is looked at next.
                Some(_) => drop(self.cells.swap_remove_index(self.next_swept)),
            }
        }
    }
}

fn owes(limits: &[Limit], cells: &Cells, now: u64) -> bool {
    limits.iter().zip(cells).any(|(limit, cell)| *cell > limit.timeline().position(now))
}

impl BuildHasher for Seed {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(SipHasher13::new_with_keys(self.0, self.1))
    }
}

/// Hashes one key. It leaves out the length that Rust hashes before a slice, which only matters
/// where several slices are hashed in a row.
pub(crate) struct KeyHasher(SipHasher13);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
