//! Limits of the call: the buckets of a limiter under other limits.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tidegate_core::{Cost, Limit, Operation, Outcome};
use tidegate_protocol::{Host as _, PerProcess};

use super::without_unlimited::WithoutUnlimited;
use super::{Buckets, Inner, Limiter, Parts, RedisBuckets};
use crate::answer::Answer;
use crate::host::NativeHost;
use crate::limits::{Decider, Limits};
use crate::lock::Mutex;
use crate::memory::{MemoryBuckets, PlanBuckets};
use crate::pressure::Pressure;
use crate::{Error, Keys, NamedLimit};

/// How many limiters for limits of calls are kept ready. More are made anew at each call.
const MAX_KEPT: usize = 1024;

/// The limiters for limits of calls, by those limits.
///
/// A limiter is made when it is first needed, and kept while it has a waiting line, owes the store
/// something, or is among the latest.
pub(super) struct Plans {
    /// Whether there has been any, so that a limiter without plans need not look.
    is_used: AtomicBool,
    /// A forked child makes its own: a lock of its parent's may be held for good.
    kept: PerProcess<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    by_limits: HashMap<Limits, Limiter, foldhash::fast::RandomState>,
    /// At this number, those that are not in use are dropped: twice as many as were in use the last
    /// time, so that a new one costs the same however many are in use.
    most: usize,
}

/// Where the buckets of calls with limits of their own are.
#[derive(Clone)]
pub(super) enum PlanStore {
    Memory(MemoryPlan),
    /// The tables of shared memory keep no limits.
    Shm,
    Redis(RedisBuckets),
}

/// The buckets in memory of calls with limits of their own.
#[derive(Clone)]
pub(super) struct MemoryPlan {
    pub(super) buckets: Arc<PlanBuckets>,
    /// The limiter in whose tables the buckets are until a call brings limits.
    tables: Weak<Inner>,
}

impl Limiter {
    /// The same buckets under other limits: those of a call, such as the plan of a customer. Prefix,
    /// key and store tell which bucket it is, so one key has one bucket under all limits. When a
    /// key's limits change, what it owes stays the same in whole tokens, rounded up: nothing is
    /// minted. A hold is such a debt: under a tenth of the rate it lasts ten times as long, so hold a
    /// key under the limits that its calls bring.
    ///
    /// This is cheap enough for every call, and needs no limiter for each customer. Calls under the
    /// same limits share batches and waiting lines. A hold reaches those who wait under any limits
    /// of this limiter; tokens that come back move up those who wait under the same limits.
    ///
    /// The limits have no lease: each call asks the bucket. Under [`OnStoreError::Local`] each has a
    /// share of its own. Closing either limiter closes both.
    ///
    /// ```
    /// use tidegate::{Limiter, Limits};
    /// let limiter = Limiter::builder().limit("10/min").build()?;
    /// let (free, paid) = (Limits::parse(&["10/min"])?, Limits::parse(&["1000/min"])?);
    /// assert_eq!(limiter.with_limits(&free)?.check("user:42", 4)?.remaining, 6);
    /// // The same bucket: four tokens are owed under the other plan, too.
    /// assert_eq!(limiter.with_limits(&paid)?.check("user:42", 1)?.remaining, 995);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a limiter on `shm://`, whose buckets have the limits of their
    /// file, and for limits that cannot be shared among the peers of [`OnStoreError::Local`];
    /// [`Error::Store`] when the limiter is closed.
    ///
    /// [`OnStoreError::Local`]: crate::OnStoreError::Local
    pub fn with_limits(&self, limits: &Limits) -> Result<Self, Error> {
        let base = self.base()?;
        if base.is_closed() {
            return Err(closed());
        }
        base.0.plans.is_used.store(true, Ordering::Release);
        let plans = base.0.plans.kept.get_or_default();
        if let Some(limiter) = plans.lock().by_limits.get(limits) {
            return Ok(limiter.clone());
        }
        // The limiter is made without the lock, because that may need another limiter of these.
        let made = base.make_plan(limits)?;
        let mut kept = plans.lock();
        if kept.by_limits.len() >= kept.most.max(MAX_KEPT) {
            kept.by_limits.retain(|_, limiter| limiter.is_in_use());
            kept.most = 2 * kept.by_limits.len();
        }
        let limiter = kept.by_limits.entry(limits.clone()).or_insert(made).clone();
        drop(kept);
        if base.is_closed() {
            limiter.close_lines();
        }
        Ok(limiter)
    }

    /// The limiter whose plans these are: itself, unless it is a plan.
    pub(super) fn base(&self) -> Result<Self, Error> {
        match &self.0.base {
            None => Ok(self.clone()),
            Some(base) => base.upgrade().map(Self).ok_or_else(closed),
        }
    }

    fn make_plan(&self, limits: &Limits) -> Result<Self, Error> {
        let named: Box<[NamedLimit]> = limits.named().into();
        let (buckets, limits) = match limits.decider()? {
            Decider::Fixed(fixed) => (Buckets::Fixed(fixed), [].into()),
            Decider::Some(rates, tiers) => {
                let limiter = self.with_limits(&rates)?;
                let limits = Arc::clone(&limiter.0.limits);
                (Buckets::WithoutUnlimited(WithoutUnlimited::new(limiter, tiers)), limits)
            }
            Decider::Buckets(limits) => {
                let buckets = match &self.0.plan_store {
                    PlanStore::Shm => return Err(Error::argument("limits", SHM)),
                    PlanStore::Redis(redis) => Buckets::Redis(RedisBuckets {
                        guarded: redis.guarded.with_limits(Arc::clone(&limits))?,
                        store: Arc::clone(&redis.store),
                    }),
                    PlanStore::Memory(memory) => {
                        memory.begin();
                        Buckets::Plan(memory.clone())
                    }
                };
                (buckets, limits)
            }
        };
        Ok(Self::new(Parts {
            named,
            limits,
            prefix: self.0.prefix.clone(),
            buckets,
            leases: None,
            max_waiting: self.0.lines.max_waiting(),
            plan_store: Some(self.0.plan_store.clone()),
            base: Some(Arc::downgrade(&self.0)),
        }))
    }

    /// This limiter, and all others on the same buckets that come from the same limiter.
    pub(super) fn relatives(&self) -> Vec<Self> {
        let Ok(base) = self.base() else { return vec![self.clone()] };
        let mut relatives = match base.0.plans.kept() {
            None => Vec::new(),
            Some(kept) => kept.lock().by_limits.values().cloned().collect(),
        };
        relatives.push(base);
        relatives
    }

    /// Whether somebody may wait under any limits of this limiter.
    pub(super) fn has_lines(&self) -> bool {
        !self.0.lines.is_empty()
            || (self.0.base.is_some() || self.0.plans.kept().is_some())
                && self.relatives().iter().any(|limiter| !limiter.0.lines.is_empty())
    }

    /// Whether dropping it would lose something.
    fn is_in_use(&self) -> bool {
        let owes = matches!(&self.0.buckets, Buckets::Redis(redis) if !redis.guarded.is_idle());
        owes || Arc::strong_count(&self.0) > 1 || !self.0.lines.is_empty()
    }
}

const SHM: &str = "a limiter on shm:// takes none, because its buckets have the limits of their \
                   file; make a limiter for each plan, or use memory:// or a Redis";

fn closed() -> Error {
    Error::Store("the limiter is closed".into())
}

impl Plans {
    pub(super) const fn new() -> Self {
        Self { is_used: AtomicBool::new(false), kept: PerProcess::new(NativeHost::process) }
    }

    fn kept(&self) -> Option<&Mutex<Kept>> {
        if self.is_used.load(Ordering::Acquire) { self.kept.get() } else { None }
    }
}

impl PlanStore {
    /// The store of a limiter with these buckets.
    pub(super) fn of(buckets: &Buckets, limiter: &Weak<Inner>) -> Self {
        match buckets {
            Buckets::Memory(memory) => {
                let (buckets, tables) = (Arc::clone(memory.plans()), Weak::clone(limiter));
                Self::Memory(MemoryPlan { buckets, tables })
            }
            Buckets::Plan(plan) => Self::Memory(plan.clone()),
            Buckets::Redis(redis) => Self::Redis(redis.clone()),
            Buckets::WithoutUnlimited(rest) => rest.limiter().0.plan_store.clone(),
            // Without buckets there is no store; the builder says where they would be.
            Buckets::Shm(_) | Buckets::Fixed(_) => Self::Shm,
        }
    }
}

impl MemoryPlan {
    /// The buckets of a limiter that has none in tables.
    pub(super) const fn without_tables(buckets: Arc<PlanBuckets>) -> Self {
        Self { buckets, tables: Weak::new() }
    }

    /// A call brings limits of its own from now on.
    fn begin(&self) {
        self.with_tables(|tables| {
            if let Some(tables) = tables {
                tables.use_plans();
            }
        });
    }

    pub(super) fn run(
        &self,
        keys: Keys<'_>,
        limits: &Arc<[Limit]>,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        self.with_tables(|tables| self.buckets.run(keys, limits, operation, tables))
    }

    pub(super) fn check_many<A: Answer>(
        &self,
        checks: &[(Keys<'_>, Cost)],
        limits: &Arc<[Limit]>,
    ) -> Result<Vec<A>, Error> {
        self.with_tables(|tables| self.buckets.check_many(checks, limits, tables))
    }

    pub(super) fn pressure(&self) -> Pressure {
        self.buckets.pressure()
    }

    fn with_tables<R>(&self, call: impl FnOnce(Option<&MemoryBuckets>) -> R) -> R {
        let limiter = self.tables.upgrade();
        call(match limiter.as_deref().map(|limiter| &limiter.buckets) {
            Some(Buckets::Memory(memory)) => Some(memory),
            _ => None,
        })
    }
}
