//! Buckets in this process's memory, for calls that may bring limits of their own.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tidegate_core::{Clock as _, Cost, Limit, OnFull, Operation, Outcome};
use tidegate_protocol::{BucketMap, Host as _, OwedUnder, PerProcess};

use super::MemoryTables;
use crate::answer::{Answer, answer_as};
use crate::clock::ProcessClock;
use crate::fingerprint::Fingerprinter;
use crate::host::NativeHost;
use crate::pressure::Pressure;
use crate::{Error, Keys};

/// The buckets of a limiter in memory.
///
/// The buckets are in tables until a call brings limits of its own. From then on they are in a map, where
/// each bucket knows its limits. The first call on a key moves what the tables have of it. A call
/// that another thread makes while the very first limits are brought may still be decided by the
/// tables.
pub(crate) struct MemoryBuckets {
    tables: MemoryTables,
    limits: Arc<[Limit]>,
    /// Whether a call has brought limits of its own.
    has_plans: AtomicBool,
    plans: Arc<PlanBuckets>,
}

/// The buckets of calls that may bring limits of their own.
pub(crate) struct PlanBuckets {
    /// A forked child begins with full buckets: a lock of its parent's may be held for good.
    map: PerProcess<BucketMap>,
    max_keys: usize,
    on_full: OnFull,
    fingerprinter: Fingerprinter,
    clock: ProcessClock,
}

impl MemoryBuckets {
    pub(crate) fn new(
        limits: &Arc<[Limit]>,
        max_keys: usize,
        on_full: OnFull,
        clock: ProcessClock,
    ) -> Result<Self, Error> {
        let tables = MemoryTables::new(limits, max_keys, on_full, clock.clone())?;
        let fingerprinter = tables.fingerprinter.clone();
        let plans = Arc::new(PlanBuckets::new(max_keys, on_full, clock, fingerprinter));
        let has_plans = AtomicBool::new(false);
        Ok(Self { tables, limits: Arc::clone(limits), has_plans, plans })
    }

    /// The buckets of calls that bring limits.
    pub(crate) const fn plans(&self) -> &Arc<PlanBuckets> {
        &self.plans
    }

    /// Moves the buckets from the tables to the map, where those of other limits are.
    pub(crate) fn use_plans(&self) {
        self.has_plans.store(true, Ordering::Release);
    }

    /// [`KeyedTables::check_affordable`](crate::tables::KeyedTables::check_affordable). `None`, and
    /// nothing done, when calls bring limits.
    #[inline(always)]
    pub(crate) fn check_affordable<A: Answer>(&self, key: &[u8], cost: u64) -> Option<A> {
        if self.has_plans.load(Ordering::Acquire) {
            return None;
        }
        self.tables.check_affordable(key, cost)
    }

    /// Checks a key under any number of limits.
    pub(crate) fn check<A: Answer>(&self, keys: Keys<'_>, cost: Cost) -> Result<A, Error> {
        if self.has_plans.load(Ordering::Acquire) {
            return answer_as(self.run(keys, Operation::Check { cost }));
        }
        self.tables.check(keys, cost)
    }

    /// Runs any operation.
    pub(crate) fn run(&self, keys: Keys<'_>, operation: Operation) -> Result<Outcome, Error> {
        if self.has_plans.load(Ordering::Acquire) {
            return self.plans.run(keys, &self.limits, operation, Some(self));
        }
        self.tables.run(keys, operation)
    }

    /// Makes many checks, in order.
    pub(crate) fn check_many<A: Answer>(
        &self,
        checks: &[(Keys<'_>, Cost)],
    ) -> Result<Vec<A>, Error> {
        if self.has_plans.load(Ordering::Acquire) {
            return self.plans.check_many(checks, &self.limits, Some(self));
        }
        self.tables.check_many(checks)
    }

    pub(crate) fn pressure(&self) -> Pressure {
        [self.tables.pressure(), self.plans.pressure()].into_iter().sum()
    }

    /// Takes what a key owes out of the tables.
    fn take(&self, fingerprint: u64, tier: Option<usize>, now: u64) -> Option<OwedUnder> {
        let tiers = tier.map_or(0..self.limits.len(), |tier| tier..tier + 1);
        let cells = self.tables.take(fingerprint, tiers, now)?;
        let tier = tier.and_then(|tier| u8::try_from(tier).ok());
        Some(OwedUnder { limits: Arc::clone(&self.limits), tier, cells })
    }
}

impl PlanBuckets {
    pub(crate) fn new(
        max_keys: usize,
        on_full: OnFull,
        clock: ProcessClock,
        fingerprinter: Fingerprinter,
    ) -> Self {
        let map = PerProcess::new(NativeHost::process);
        Self { map, max_keys, on_full, fingerprinter, clock }
    }

    /// Runs any operation under these limits. What a key owes in `tables` is moved first.
    pub(crate) fn run(
        &self,
        keys: Keys<'_>,
        limits: &Arc<[Limit]>,
        operation: Operation,
        tables: Option<&MemoryBuckets>,
    ) -> Result<Outcome, Error> {
        let map = self.map.get_or_init(|| BucketMap::new(self.max_keys, self.on_full));
        let fingerprints = self.fingerprinter.of_keys(keys);
        let (count, is_each) = match keys {
            Keys::One(_) => (1, false),
            Keys::Each(keys) => (keys.len().min(limits.len()), true),
        };
        let now = self.clock.now();
        let take = |place: usize| tables?.take(fingerprints[place], is_each.then_some(place), now);
        let outcome =
            map.run(fingerprints.get(..count).unwrap_or_default(), limits, now, operation, take);
        outcome.map_err(Error::from_engine)
    }

    /// Makes many checks under these limits, in order.
    pub(crate) fn check_many<A: Answer>(
        &self,
        checks: &[(Keys<'_>, Cost)],
        limits: &Arc<[Limit]>,
        tables: Option<&MemoryBuckets>,
    ) -> Result<Vec<A>, Error> {
        let check = |&(keys, cost): &(Keys<'_>, Cost)| {
            answer_as(self.run(keys, limits, Operation::Check { cost }, tables))
        };
        checks.iter().map(check).collect()
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.map.get().map_or_else(Pressure::default, |map| Pressure {
            evicted: map.evicted(),
            denied: map.denied(),
        })
    }
}
