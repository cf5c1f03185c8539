//! Buckets by key, in the memory of the module: a table of the core for each limit.

use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use tidegate_core::{
    Clock, Cost, Decision, Error, Limit, MAX_TIERS, OnFull, Operation, Outcome, Table,
    apply_tables, check_tables,
};

use crate::key_room::Keys;
use crate::room::Room;

/// The buckets of one limiter, by key.
///
/// A bucket that is full again gives its slot to the next new key that wants it, so memory is
/// bounded by the buckets that owe something, and by the largest number of keys.
pub(crate) struct Buckets {
    limits: Box<[Limit]>,
    /// The slots of one table for each limit.
    rooms: Box<[Room]>,
    on_full: OnFull,
    seed: Seed,
}

/// The random key of the hash. Bucket keys come from outside, and the hash is keyed so that nobody
/// can choose keys that share a bucket or crowd a window.
#[derive(Clone)]
pub(crate) struct Seed {
    shared: SharedSeed,
    own: u64,
}

/// The time of a call, as a clock.
struct At(u64);

impl Buckets {
    pub(crate) fn new(limits: &[Limit], max_keys: usize, on_full: OnFull) -> Self {
        let rooms = limits.iter().map(|_| Room::new(max_keys)).collect();
        Self { limits: limits.into(), rooms, on_full, seed: Seed::new(0, 0) }
    }

    /// Sets the key of the hash. Buckets that exist are not found any more.
    pub(crate) fn seed(&mut self, seed: Seed) {
        self.seed = seed;
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.rooms.iter().map(Room::evicted).sum()
    }

    pub(crate) fn denied(&self) -> u64 {
        self.rooms.iter().map(Room::denied).sum()
    }

    /// Checks one key.
    #[inline]
    pub(crate) fn check(&self, key: &[u8], now: u64, cost: Cost) -> Result<Decision, Error> {
        let fingerprints = [self.seed.fingerprint(key); MAX_TIERS];
        self.with_tables(&fingerprints, |tables, fingerprints| {
            check_tables(tables, &self.limits, fingerprints, &At(now), cost)
        })
    }

    /// Runs any operation.
    #[inline(never)]
    pub(crate) fn apply(
        &self,
        keys: &Keys<'_>,
        now: u64,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        let fingerprints = match keys {
            Keys::One(key) => [self.seed.fingerprint(key); MAX_TIERS],
            // The rotation keeps these buckets apart from those under one key.
            Keys::Each(keys) => keys.map(|key| self.seed.fingerprint(key).rotate_left(32)),
        };
        self.with_tables(&fingerprints, |tables, fingerprints| {
            apply_tables(tables, &self.limits, fingerprints, &At(now), operation)
        })
    }

    #[inline(always)]
    fn with_tables<R>(
        &self,
        fingerprints: &[u64; MAX_TIERS],
        run: impl FnOnce(&[Table<'_, Room>], &[u64]) -> R,
    ) -> R {
        let fingerprints = fingerprints.get(..self.rooms.len()).unwrap_or(fingerprints);
        match &*self.rooms {
            [a] => run(&[self.table(a)], fingerprints),
            [a, b] => run(&[a, b].map(|room| self.table(room)), fingerprints),
            [a, b, c] => run(&[a, b, c].map(|room| self.table(room)), fingerprints),
            [a, b, c, d] => run(&[a, b, c, d].map(|room| self.table(room)), fingerprints),
            _ => run(&[], fingerprints),
        }
    }

    #[inline]
    fn table<'r>(&self, room: &'r Room) -> Table<'r, Room> {
        Table::new(room).on_full(self.on_full)
    }
}

impl Seed {
    pub(crate) fn new(shared: u64, own: u64) -> Self {
        Self { shared: SharedSeed::from_u64(shared), own }
    }

    #[inline]
    fn fingerprint(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.shared);
        hasher.write(key);
        hasher.finish()
    }
}

impl Clock for At {
    fn now(&self) -> u64 {
        self.0
    }
}
