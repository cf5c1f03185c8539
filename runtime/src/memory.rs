use core::{convert::Infallible, hash::BuildHasher};
use std::collections::HashMap;
use std::hash::RandomState;

use parking_lot::Mutex;
use tidegate_core::{
    Cells, Clock, Decision, Limit, MAX_TIERS, Operation, Outcome, Store, apply, decide_tiers,
};

use crate::error::Error;
use crate::keys::Keys;

/// Shards are locked one at a time, so threads rarely wait for each other.
const SHARDS: usize = 64;
/// A shard looks for full buckets when it has grown to this many, then at each doubling.
const FIRST_SWEEP: usize = 64;

/// Buckets in this process's memory, for one set of limits.
///
/// A bucket that is full again is forgotten when its shard next grows, so
/// memory is bounded by the buckets that owe something.
#[derive(Debug)]
pub struct MemoryStore {
    limits: Box<[Limit]>,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// The buckets that have a key per limit, by tier; locked in the order of tiers.
    tiers: Box<[Mutex<Tier>; MAX_TIERS]>,
}

type Tier = HashMap<Box<[u8]>, u64>;

#[derive(Debug)]
struct Shard {
    buckets: HashMap<Box<[u8]>, Cells>,
    sweep_at: usize,
}

impl MemoryStore {
    /// An empty store for buckets of `limits`.
    pub fn new(limits: &[Limit]) -> Self {
        let shard = || Mutex::new(Shard { buckets: HashMap::new(), sweep_at: FIRST_SWEEP });
        Self {
            limits: limits.into(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            tiers: Default::default(),
        }
    }

    /// Checks the bucket of one key for all limits.
    ///
    /// # Errors
    /// [`Error::CostTooLarge`].
    pub fn check(&self, key: &[u8], clock: &impl Clock, cost: u64) -> Result<Decision, Error> {
        let now = clock.now();
        let step = |cells: &mut Cells| decide_tiers(&self.limits, cells, now, cost);
        let Ok(decision) = self.update(key, now, step);
        decision.map_err(Error::from_engine)
    }

    /// Runs an operation on the buckets of `keys`, at the clock's time.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn run(
        &self,
        keys: Keys<'_>,
        clock: &impl Clock,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        let now = clock.now();
        let outcome = match keys {
            Keys::One(key) => {
                let step = |cells: &mut Cells| apply(&self.limits, cells, now, operation);
                let Ok(outcome) = self.update(key, now, step);
                outcome
            }
            Keys::Each(keys) => {
                let mut tiers: Vec<_> =
                    self.tiers.iter().zip(keys).map(|(tier, _)| tier.lock()).collect();
                let mut cells = Cells::default();
                for ((cell, tier), &key) in cells.iter_mut().zip(&tiers).zip(keys) {
                    *cell = tier.get(key).copied().unwrap_or(0);
                }
                let outcome = apply(&self.limits, &mut cells, now, operation);
                for ((cell, tier), &key) in cells.iter().zip(&mut tiers).zip(keys) {
                    tier.insert(key.into(), *cell);
                }
                outcome
            }
        };
        outcome.map_err(Error::from_engine)
    }

    /// How many buckets are held, full ones not yet forgotten included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().buckets.len()).sum()
    }

    /// Whether no bucket is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

impl Store for MemoryStore {
    type Error = Infallible;

    fn update<R>(
        &self,
        key: &[u8],
        now: u64,
        step: impl FnOnce(&mut Cells) -> R,
    ) -> Result<R, Infallible> {
        let mut shard = self.shard(key).lock();
        if let Some(cells) = shard.buckets.get_mut(key) {
            return Ok(step(cells));
        }
        let mut cells = Cells::default();
        let answer = step(&mut cells);
        if cells != Cells::default() {
            if shard.buckets.len() >= shard.sweep_at {
                shard.sweep(&self.limits, now);
            }
            shard.buckets.insert(key.into(), cells);
        }
        Ok(answer)
    }
}

impl Shard {
    fn sweep(&mut self, limits: &[Limit], now: u64) {
        self.buckets.retain(|_, cells| {
            limits.iter().zip(cells).any(|(limit, cell)| *cell > limit.timeline().position(now))
        });
        self.sweep_at = (self.buckets.len() * 2).max(FIRST_SWEEP);
    }
}
