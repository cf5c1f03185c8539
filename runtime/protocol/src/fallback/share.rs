//! A process's own share of its limits, in its own memory, for as long as the store fails.
//!
//! A bucket of the share is empty when the failure begins, as that of the store may have
//! been. What it still owes of what was spent from it is charged to the store with the key's
//! first call after: had the store been there, it would owe that too.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::Arc;

use tidegate_core::{
    Cells, Charge, Cost, Decision, Limit, MAX_TIERS, Operation, Outcome, Reserved, Source,
    TieredDecision, apply,
};

use super::Guarded;
use super::policy::checked_peers;
use crate::breaker::{Outage, StoreBreaker};
use crate::error::Error;
use crate::keys::RedisKeys;
use crate::lock::Mutex;
use crate::per_process::PerProcess;
use crate::store::Host;

/// How many keys a share has room for, of which each takes about 200 bytes: those that
/// were used while the store failed, and have not refilled since.
const MAX_KEYS: usize = 100_000;
/// How often a share without room looks again whether buckets are full.
const SWEEP_INTERVAL: u64 = 100_000_000;

pub(super) struct LocalShare {
    limits: Box<[Limit]>,
    pub(super) max_keys: usize,
    /// A forked child begins with none, as its parent charges the store for its own.
    spent: PerProcess<SpentHere>,
}

/// What this process has spent from its share.
#[derive(Default)]
struct SpentHere {
    buckets: Mutex<Buckets>,
    /// When all buckets are full again, and nothing is left to be charged to the store; 0
    /// when there are none.
    full_at: AtomicU64,
}

#[derive(Default)]
struct Buckets {
    by_key: HashMap<Box<[u8]>, Bucket>,
    swept: u64,
}

/// What belongs to one key of the store: cells of all tiers, or that of one, in its place.
#[derive(Clone, Copy, Default)]
struct Bucket {
    cells: Cells,
    /// Tokens that the cells owe and the store has not been charged for.
    uncharged: [u64; MAX_TIERS],
    held_until: u64,
    /// When the failure began in which it was last used.
    outage: u64,
}

impl Buckets {
    /// Copies of the keys' buckets; those of keys that have none are full.
    fn of(&self, keys: &[Vec<u8>]) -> KeyBuckets {
        let mut own = KeyBuckets { buckets: Default::default(), shared: keys.len() == 1 };
        for (bucket, key) in own.buckets.iter_mut().zip(keys) {
            *bucket = self.by_key.get(key.as_slice()).copied().unwrap_or_default();
        }
        own
    }
}

/// The buckets of one call's keys: of one key that holds all tiers, or of one key for each tier.
struct KeyBuckets {
    buckets: [Bucket; MAX_TIERS],
    shared: bool,
}

impl KeyBuckets {
    fn of_tier(&mut self, tier: usize) -> &mut Bucket {
        &mut self.buckets[if self.shared { 0 } else { tier }]
    }

    fn cells(&mut self) -> Cells {
        core::array::from_fn(|tier| self.of_tier(tier).cells[tier])
    }
}

impl LocalShare {
    pub(super) fn new(limits: &[Limit], peers: u32, process: fn() -> u32) -> Result<Self, Error> {
        let count = checked_peers(peers)?;
        let share = |limit: &Limit| {
            limit.share(count).map_err(|bound| {
                let message = format!("\"{limit}\" cannot be shared among {peers}: {bound}");
                Error::argument("peers", message)
            })
        };
        Ok(Self {
            limits: limits.iter().map(share).collect::<Result<_, _>>()?,
            max_keys: MAX_KEYS,
            spent: PerProcess::new(process),
        })
    }

    /// Whether nothing was spent here that the store may have to be charged for.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        now >= self.spent().full_at.load(Ordering::Acquire)
    }

    fn spent(&self) -> &SpentHere {
        self.spent.get_or_default()
    }

    /// The share's answer to any operation but a cancel or a reset.
    pub(super) fn run(&self, keys: &[Vec<u8>], operation: Operation, outage: Outage) -> Outcome {
        let now = outage.now;
        let spent = match operation {
            Operation::Check { cost }
            | Operation::Peek { cost }
            | Operation::Reserve { cost, .. } => Spent::Taken(cost),
            Operation::Settle { charged, actual } => Spent::Settled { charged, actual },
            Operation::Credit { tokens } => {
                Spent::Settled { charged: tokens, actual: Cost::default() }
            }
            Operation::Hold { wait } => Spent::Held(wait),
            Operation::Reset | Operation::Cancel(_) => return Outcome::Cancelled(false),
        };
        let mut buckets = self.spent().buckets.lock();
        let mut own = buckets.of(keys);
        own.buckets.iter_mut().for_each(|bucket| self.begin(bucket, outage.began));
        let before = own.cells();
        let mut cells = before;
        // A peek is a check whose charge is not kept.
        let (step, is_peek) = match operation {
            Operation::Peek { cost } => (Operation::Check { cost }, true),
            other => (other, false),
        };
        // The cost is above the share's burst. It may be within the store's, so this is a refusal
        // and not an error.
        let Ok(outcome) = apply(&self.limits, &mut cells, now, step) else {
            return refused(operation, self.look(&before, now), outage.retry_in);
        };
        let outcome = outcome.from_source(Source::Fallback);
        if cells == before {
            return outcome;
        }
        if !self.make_room(&mut buckets, keys, now) {
            return refused(operation, self.look(&before, now), outage.retry_in);
        }
        if is_peek {
            return outcome;
        }
        for (tier, limit) in self.limits.iter().enumerate() {
            let bucket = own.of_tier(tier);
            let was = bucket.uncharged[tier].min(tokens_owed(limit, before[tier], now));
            bucket.uncharged[tier] = match spent {
                Spent::Taken(cost) => was.saturating_add(cost.of_tier(tier)),
                Spent::Settled { charged, actual } => {
                    was.saturating_add(actual.of_tier(tier)).saturating_sub(charged.of_tier(tier))
                }
                Spent::Held(wait) => {
                    bucket.held_until = bucket.held_until.max(now.saturating_add(wait));
                    was
                }
            };
        }
        self.keep(&mut buckets, keys, own, &cells, now);
        outcome
    }

    /// Gives an unused slot back, if the store has not been charged for it already.
    pub(super) fn cancel(&self, keys: &[Vec<u8>], charge: &Charge, now: u64) -> bool {
        let mut buckets = self.spent().buckets.lock();
        let mut own = buckets.of(keys);
        let mut cells = own.cells();
        for (tier, limit) in self.limits.iter().enumerate() {
            let bucket = own.of_tier(tier);
            let owed = tokens_owed(limit, cells[tier], now);
            bucket.uncharged[tier] = bucket.uncharged[tier].min(owed);
            let cost = charge.cost.of_tier(tier);
            if bucket.uncharged[tier] < cost {
                return false;
            }
            bucket.uncharged[tier] -= cost;
        }
        let all = tidegate_core::cancel(charge, &mut cells);
        if all {
            self.keep(&mut buckets, keys, own, &cells, now);
        }
        all
    }

    /// Charges the store for what was spent of these keys while it failed, ahead of a call on
    /// them that is about to be sent.
    pub(super) fn charge_deferred<H: Host>(
        &self,
        keys: &[Vec<u8>],
        to: &Guarded<H>,
        breaker: &StoreBreaker,
    ) {
        if self.spent().full_at.load(Ordering::Acquire) == 0 || breaker.is_failing() {
            return;
        }
        for charge in self.take_deferred(keys, &to.0.limits, H::now()) {
            charge.send(to);
        }
    }

    pub(super) fn take_deferred(
        &self,
        keys: &[Vec<u8>],
        limits: &Arc<[Limit]>,
        now: u64,
    ) -> Vec<DeferredCharge> {
        let mut buckets = self.spent().buckets.lock();
        if now >= self.spent().full_at.load(Ordering::Acquire) {
            self.spent().full_at.store(0, Ordering::Release);
            buckets.by_key = HashMap::new();
        }
        let mut deferred = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let Some(bucket) = buckets.by_key.get_mut(key.as_slice()) else { continue };
            let tiers = if keys.len() == 1 { 0..self.limits.len() } else { index..index + 1 };
            let owed = tiers.clone().map(|tier| {
                let limit = &self.limits[tier];
                bucket.uncharged[tier].min(tokens_owed(limit, bucket.cells[tier], now))
            });
            let tokens = Cost::each(&owed.collect::<Vec<_>>()).unwrap_or_default();
            let hold = bucket.held_until.saturating_sub(now);
            (bucket.uncharged, bucket.held_until) = Default::default();
            if !tokens.is_zero() || hold > 0 {
                let first_tier = tiers.start;
                let limits = limits.get(tiers).map_or_else(|| Arc::clone(limits), Arc::from);
                deferred.push(DeferredCharge {
                    key: key.clone(),
                    limits,
                    first_tier,
                    tokens,
                    hold,
                });
            }
        }
        deferred
    }

    fn put_back(&self, charge: &DeferredCharge, now: u64) {
        let mut buckets = self.spent().buckets.lock();
        let Some(bucket) = buckets.by_key.get_mut(charge.key.as_slice()) else { return };
        for (tier, uncharged) in bucket.uncharged.iter_mut().skip(charge.first_tier).enumerate() {
            *uncharged = uncharged.saturating_add(charge.tokens.of_tier(tier));
        }
        bucket.held_until = bucket.held_until.max(now.saturating_add(charge.hold));
    }

    /// Whether there is room for the keys' buckets. Full buckets are dropped to make room, because
    /// a key without a bucket counts as full.
    fn make_room(&self, buckets: &mut Buckets, keys: &[Vec<u8>], now: u64) -> bool {
        let new = keys.iter().filter(|key| !buckets.by_key.contains_key(key.as_slice())).count();
        if new == 0 || buckets.by_key.len() + new <= self.max_keys {
            return true;
        }
        if now.saturating_sub(buckets.swept) >= SWEEP_INTERVAL {
            buckets.swept = now;
            buckets.by_key.retain(|_, bucket| {
                let tiers = self.limits.iter().zip(bucket.cells);
                tiers.into_iter().any(|(limit, cell)| cell > limit.timeline().position(now))
            });
        }
        buckets.by_key.len() + new <= self.max_keys
    }

    /// A bucket holds nothing at the beginning of a failure, and may owe more from before.
    fn begin(&self, bucket: &mut Bucket, began: u64) {
        if bucket.outage == began {
            return;
        }
        bucket.outage = began;
        for (cell, limit) in bucket.cells.iter_mut().zip(&self.limits) {
            let empty = limit.timeline().position(began).saturating_add(limit.span());
            *cell = empty.max(*cell);
        }
    }

    fn keep(
        &self,
        buckets: &mut Buckets,
        keys: &[Vec<u8>],
        mut own: KeyBuckets,
        cells: &Cells,
        now: u64,
    ) {
        let mut full_in = 0;
        for (tier, (limit, cell)) in self.limits.iter().zip(cells).enumerate() {
            own.of_tier(tier).cells[tier] = *cell;
            let timeline = limit.timeline();
            full_in = full_in.max(timeline.until(now, cell.saturating_sub(timeline.position(now))));
        }
        for (key, bucket) in keys.iter().zip(own.buckets) {
            buckets.by_key.insert(key.as_slice().into(), bucket);
        }
        self.spent().full_at.fetch_max(now.saturating_add(full_in).max(1), Ordering::AcqRel);
    }

    fn look(&self, cells: &Cells, now: u64) -> TieredDecision {
        let looked =
            apply(&self.limits, &mut { *cells }, now, Operation::Check { cost: Cost::default() });
        match looked {
            Ok(Outcome::Decision(decision)) => decision.from_source(Source::Fallback),
            // A limiter has one to four limits, and a look costs nothing.
            _ => Decision {
                allowed: false,
                limit: 0,
                remaining: 0,
                retry_after: 0,
                reset_after: 0,
                tier: 0,
                source: Source::Fallback,
            }
            .into(),
        }
    }
}

/// What an operation, where it is granted, does to what is still to be charged.
#[derive(Clone, Copy)]
enum Spent {
    Taken(Cost),
    Settled { charged: Cost, actual: Cost },
    Held(u64),
}

/// A charge that was spent from the share and is yet to be sent to the store.
pub(super) struct DeferredCharge {
    pub(super) key: Vec<u8>,
    pub(super) limits: Arc<[Limit]>,
    /// The place of the first of the limits: a key of its own for each limit has one bucket.
    pub(super) first_tier: usize,
    /// What each of the limits still owes.
    pub(super) tokens: Cost,
    pub(super) hold: u64,
}

impl DeferredCharge {
    fn send<H: Host>(self, to: &Guarded<H>) {
        let keys = || RedisKeys::One(self.key.clone());
        // A charge that comes too late for the call behind it comes in time for the next.
        if self.hold > 0 {
            let hold = Self {
                key: self.key.clone(),
                limits: Arc::clone(&self.limits),
                tokens: Cost::default(),
                ..self
            };
            let operation = Operation::Hold { wait: self.hold };
            let now = H::now();
            to.charge(keys(), &self.limits, operation, move |share| {
                share.put_back(&hold, now);
            });
        }
        if !self.tokens.is_zero() {
            let operation = Operation::Settle { charged: Cost::default(), actual: self.tokens };
            let (keys, limits) = (keys(), Arc::clone(&self.limits));
            let charge = Self { hold: 0, ..self };
            to.charge(keys, &limits, operation, move |share| share.put_back(&charge, 0));
        }
    }
}

fn tokens_owed(limit: &Limit, cell: u64, now: u64) -> u64 {
    let timeline = limit.timeline();
    cell.saturating_sub(timeline.position(now)).div_ceil(timeline.width())
}

fn refused(operation: Operation, look: TieredDecision, retry_after: u64) -> Outcome {
    let decision = Decision { allowed: false, retry_after, ..*look };
    let decision = TieredDecision::new(decision, look.tiers().iter().copied());
    match operation {
        Operation::Reserve { .. } => Outcome::Reserved(Reserved::TooFar(decision)),
        _ => Outcome::Decision(decision),
    }
}
