//! Buckets by key, in the memory of the module: a table of the core for each limit.

use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use tidegate_core::{
    Clock, Cost, Decision, Error, Limit, MAX_TIERS, OnFull, Operation, Outcome, Table,
    apply_tables, check_table,
};

use crate::border::Border;
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
    border: &'static Border,
}

/// The random key of the hash. Bucket keys come from outside, and the hash is keyed so that nobody
/// can choose keys that share a bucket or crowd a window.
pub(crate) struct Seed {
    shared: SharedSeed,
    own: u64,
}

/// The time of a call, as a clock.
struct At(u64);

impl Buckets {
    pub(crate) fn new(limits: &[Limit], max_keys: usize, on_full: OnFull) -> Self {
        let rooms = limits.iter().map(|_| Room::new(max_keys)).collect();
        Self { limits: limits.into(), rooms, on_full, border: Border::of_the_module() }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.rooms.iter().map(Room::evicted).sum()
    }

    pub(crate) fn denied(&self) -> u64 {
        self.rooms.iter().map(Room::denied).sum()
    }

    /// Checks one key.
    // Only the check of one limit is written out. Others go by the path of all operations, which keeps
    // the module small.
    #[inline]
    pub(crate) fn check(&self, key: &[u8], now: u64, cost: Cost) -> Result<Decision, Error> {
        let ([room], [limit], Some(cost)) = (&*self.rooms, &*self.limits, cost.uniform()) else {
            return match self.apply(&Keys::One(key), now, Operation::Check { cost })? {
                Outcome::Decision(decision) => Ok(decision),
                Outcome::Reserved(_) | Outcome::Cancelled(_) => {
                    Err(Error::TierCount { count: self.limits.len() })
                }
            };
        };
        let fingerprint = self.border.seed.borrow().fingerprint(key);
        check_table(&self.table(room), limit, fingerprint, now, cost)
    }

    /// Runs any operation.
    #[inline(never)]
    pub(crate) fn apply(
        &self,
        keys: &Keys<'_>,
        now: u64,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        let seed = self.border.seed.borrow();
        let fingerprints = match keys {
            Keys::One(key) => [seed.fingerprint(key); MAX_TIERS],
            // The rotation keeps these buckets apart from those under one key.
            Keys::Each(keys) => keys.map(|key| seed.fingerprint(key).rotate_left(32)),
        };
        let Some(first) = self.rooms.first() else {
            return Err(Error::TierCount { count: 0 });
        };
        let count = self.rooms.len().min(MAX_TIERS);
        let tables: [_; MAX_TIERS] =
            core::array::from_fn(|tier| self.table(self.rooms.get(tier).unwrap_or(first)));
        apply_tables(&tables[..count], &self.limits, &fingerprints[..count], &At(now), operation)
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

impl Default for Seed {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Clock for At {
    fn now(&self) -> u64 {
        self.0
    }
}
