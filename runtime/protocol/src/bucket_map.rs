//! Buckets in memory whose limits come with each call.
//!
//! A table keeps one integer a key, because all of its keys have the same limits. Here each bucket
//! remembers the limits under which it was last changed. The first call under other limits carries
//! its debt over in whole tokens, as the scripts do for a bucket in Redis.

use core::hash::{BuildHasherDefault, Hasher};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use indexmap::IndexMap;
use indexmap::map::Entry;
use tidegate_core::{
    Cells, Decision, Error, Limit, OnFull, Operation, Outcome, Reserved, Source, TieredDecision,
    admit, apply, change_limits, decide_each_tier,
};

use crate::lock::Mutex;

/// How many parts a map has, each with a lock of its own, where many keys are expected.
const SHARDS: usize = 16;
/// With room for fewer keys than this there is one part, so that the room is what was asked for.
const MIN_KEYS_TO_SHARD: usize = 4096;
/// How many buckets a new key looks at, to drop those that are full.
const SWEPT: usize = 8;
/// A part is not made smaller while it has room for at most this many keys.
const MIN_CAPACITY: usize = 64;

/// Buckets in memory, each with the limits under which it was last changed.
///
/// A full bucket is the same as none, so each new key drops a few that it finds full. `max_keys`
/// bounds the number of buckets that owe something.
pub struct BucketMap {
    shards: Box<[Mutex<Shard>]>,
    max_keys_of_shard: usize,
    on_full: OnFull,
    evicted: AtomicU64,
    denied: AtomicU64,
}

/// What a key owes: the cells of all limits, or the cell of one.
#[derive(Clone, Debug)]
pub struct OwedUnder {
    /// The limits under which the cells were written.
    pub limits: Arc<[Limit]>,
    /// The place of the only limit that the bucket is for; `None` if it is for all of them.
    pub tier: Option<u8>,
    /// The cells, each in its limit's place.
    pub cells: Cells,
}

#[derive(Default)]
struct Shard {
    by_key: IndexMap<u64, OwedUnder, BuildHasherDefault<Hashed>>,
    /// The place of the bucket that is looked at next.
    hand: usize,
}

/// The hasher of keys that are hashes already, keyed ones that nobody outside can choose.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A key of a call, and its bucket.
struct Asked {
    shard: usize,
    key: u64,
    bucket: OwedUnder,
    /// Whether neither the map nor a table had the bucket.
    is_new: bool,
}

impl BucketMap {
    /// An empty map with room for about `max_keys` buckets that owe something.
    pub fn new(max_keys: usize, on_full: OnFull) -> Self {
        let shards = if max_keys < MIN_KEYS_TO_SHARD { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_keys_of_shard: max_keys.div_ceil(shards).max(1),
            on_full,
            evicted: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        }
    }

    /// Runs any operation at the time `now` on the bucket of one key that holds all limits, or of
    /// one key for each limit, given as keyed hashes, which has another bucket in each place. `take` takes what the key of
    /// that place owes out of where it was kept before it had a bucket here.
    ///
    /// A call that changes nothing leaves the bucket as it is, unless it carries a debt over.
    ///
    /// # Errors
    /// The errors of the operation. A call that fails has changed nothing.
    pub fn run(
        &self,
        keys: &[u64],
        limits: &Arc<[Limit]>,
        now: u64,
        operation: Operation,
        take: impl Fn(usize) -> Option<OwedUnder>,
    ) -> Result<Outcome, Error> {
        admit(limits, &operation)?;
        let is_each = keys.len() > 1;
        let own: Vec<u64> = keys
            .iter()
            .enumerate()
            .map(|(place, key)| in_place(*key, is_each.then_some(place)))
            .collect();
        let mut shards = self.lock(&own);
        let asked = own.iter().enumerate().map(|(place, key)| {
            let tier = is_each.then_some(place as u8);
            shards.ask(self.shard_of(*key), *key, limits, tier, || take(place))
        });
        let mut asked: Vec<Asked> = asked.collect();
        let unconverted: Vec<OwedUnder> = asked.iter().map(|asked| asked.bucket.clone()).collect();
        let mut cells = Cells::default();
        let mut carries = false;
        for Asked { bucket, .. } in &mut asked {
            carries |= carry(bucket, limits, now)?;
            match bucket.tier {
                Some(tier) => cells[usize::from(tier)] = bucket.cells[usize::from(tier)],
                None => cells = bucket.cells,
            }
        }
        let before = cells;
        let mut outcome = apply(limits, &mut cells, now, operation);
        asked.iter_mut().for_each(|asked| asked.bucket.cells = cells);
        if let Some(wait) = self.make_room(&mut shards, &asked, now) {
            self.denied.fetch_add(1, Ordering::Relaxed);
            cells = before;
            outcome = without_room(limits, &before, now, operation, wait);
        }
        // A reset forgets also what the bucket owes in places that these limits do not have.
        let is_reset = matches!(operation, Operation::Reset);
        let leaves = cells == before && !carries && !is_reset;
        for (Asked { shard, key, bucket, .. }, was) in asked.into_iter().zip(unconverted) {
            let bucket = if leaves { was } else { OwedUnder { cells, ..bucket } };
            shards.keep(shard, key, bucket);
        }
        outcome
    }

    /// How many buckets were dropped although they owed something.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// How many calls were refused because there was no room for a new key.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// The number of buckets.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().by_key.len()).sum()
    }

    /// Whether there is no bucket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard_of(&self, key: u64) -> usize {
        // The map itself uses the lower bits.
        (key >> 32) as usize % self.shards.len()
    }

    /// Locks the parts of these keys, in their order, so that two calls never wait for each other.
    fn lock(&self, keys: &[u64]) -> Locked<'_> {
        // A sort would make the WebAssembly modules 5 kB larger.
        let mut numbers = Vec::with_capacity(keys.len());
        for number in keys.iter().map(|key| self.shard_of(*key)) {
            if let Err(place) = numbers.binary_search(&number) {
                numbers.insert(place, number);
            }
        }
        Locked(numbers.into_iter().map(|number| (number, self.shards[number].lock())).collect())
    }

    /// Makes room for the new keys that are charged. `None` if there is; otherwise the time
    /// after which there would be.
    fn make_room(&self, shards: &mut Locked<'_>, asked: &[Asked], now: u64) -> Option<u64> {
        for Asked { shard, bucket, is_new, .. } in asked {
            if !is_new || !bucket.is_used() {
                continue;
            }
            let shard = shards.shard(*shard)?;
            let idlest = shard.sweep(now);
            if shard.by_key.len() < self.max_keys_of_shard {
                continue;
            }
            let (place, wait) = idlest?;
            match self.on_full {
                OnFull::Deny => return Some(wait),
                OnFull::EvictIdlest => {
                    shard.by_key.swap_remove_index(place);
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        None
    }
}

/// The parts of the map that a call has locked, by number.
struct Locked<'m>(Vec<(usize, MutexGuard<'m, Shard>)>);

impl Locked<'_> {
    fn shard(&mut self, number: usize) -> Option<&mut Shard> {
        self.0.iter_mut().find(|(other, _)| *other == number).map(|(_, shard)| &mut **shard)
    }

    fn ask(
        &mut self,
        shard: usize,
        key: u64,
        limits: &Arc<[Limit]>,
        tier: Option<u8>,
        take: impl FnOnce() -> Option<OwedUnder>,
    ) -> Asked {
        let known = self.shard(shard).and_then(|shard| shard.by_key.get(&key).cloned());
        let found = known.or_else(take);
        let is_new = found.is_none();
        let unused = || OwedUnder { limits: Arc::clone(limits), tier, cells: Cells::default() };
        Asked { shard, key, bucket: found.unwrap_or_else(unused), is_new }
    }

    fn keep(&mut self, shard: usize, key: u64, bucket: OwedUnder) {
        let Some(shard) = self.shard(shard) else { return };
        match shard.by_key.entry(key) {
            // Kept although it may be full, because the clock may step back. It is swept later.
            Entry::Occupied(mut entry) => *entry.get_mut() = bucket,
            Entry::Vacant(entry) if bucket.is_used() => _ = entry.insert(bucket),
            Entry::Vacant(_) => {}
        }
    }
}

impl Shard {
    /// Looks at a few buckets, and drops those that are full. Answers the place of the one among the
    /// others that will be full soonest, and in how long.
    fn sweep(&mut self, now: u64) -> Option<(usize, u64)> {
        let mut idlest: Option<(usize, u64)> = None;
        for _ in 0..SWEPT {
            if self.hand >= self.by_key.len() {
                self.hand = 0;
            }
            let (_, bucket) = self.by_key.get_index(self.hand)?;
            match full_in(bucket, now) {
                // The last bucket takes its place, which no bucket that was looked at may have.
                0 if idlest.is_none_or(|(place, _)| place != self.by_key.len() - 1) => {
                    self.by_key.swap_remove_index(self.hand);
                }
                wait => {
                    if idlest.is_none_or(|(_, least)| wait < least) {
                        idlest = Some((self.hand, wait));
                    }
                    self.hand += 1;
                }
            }
        }
        if self.by_key.capacity() > MIN_CAPACITY.max(8 * self.by_key.len()) {
            self.by_key.shrink_to(2 * self.by_key.len());
        }
        idlest
    }
}

impl OwedUnder {
    /// Whether any cell differs from that of a bucket nobody has used.
    fn is_used(&self) -> bool {
        self.cells != Cells::default()
    }
}

/// The key of a bucket for the limit in one place, or for all limits.
fn in_place(key: u64, place: Option<usize>) -> u64 {
    /// An odd number that spreads places over all bits.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    match place {
        Some(place) => key.wrapping_add((place as u64 + 1).wrapping_mul(SPREAD)),
        None => key,
    }
}

/// Carries what a bucket owes over to the limits of a call. Answers whether it owed anything under
/// other limits.
fn carry(bucket: &mut OwedUnder, to: &Arc<[Limit]>, now: u64) -> Result<bool, Error> {
    if Arc::ptr_eq(&bucket.limits, to) || bucket.limits == *to {
        return Ok(false);
    }
    change_limits(&bucket.limits, to, &mut bucket.cells, now)?;
    bucket.limits = Arc::clone(to);
    Ok(full_in(bucket, now) > 0)
}

/// How long until a bucket is full; 0 if it is.
fn full_in(bucket: &OwedUnder, now: u64) -> u64 {
    let tiers = bucket.limits.iter().zip(bucket.cells).enumerate();
    let own = tiers.filter(|(tier, _)| bucket.tier.is_none_or(|own| usize::from(own) == *tier));
    own.map(|(_, (limit, cell))| {
        let timeline = limit.timeline();
        timeline.until(now, cell.saturating_sub(timeline.position(now)))
    })
    .max()
    .unwrap_or(0)
}

/// The answer to an operation for which there is no room until `wait` has passed, on buckets that hold
/// these cells.
fn without_room(
    limits: &[Limit],
    cells: &Cells,
    now: u64,
    operation: Operation,
    wait: u64,
) -> Result<Outcome, Error> {
    let decision = Decision {
        allowed: false,
        limit: limits.first().map_or(0, Limit::burst),
        remaining: 0,
        retry_after: wait,
        reset_after: wait,
        tier: 0,
        source: Source::Memory,
    };
    let held = decide_each_tier(limits, &mut { *cells }, now, 0)?;
    let decision = TieredDecision::new(decision, held.tiers().iter().copied());
    Ok(match operation {
        Operation::Reserve { .. } => Outcome::Reserved(Reserved::TooFar(decision)),
        _ => Outcome::Decision(decision),
    })
}

#[cfg(test)]
#[path = "bucket_map_tests.rs"]
mod tests;
