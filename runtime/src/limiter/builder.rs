//! `LimiterBuilder`: collects the parts of a limiter and checks them.

use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{AnyLimit, BucketTiers, Clock, Fixed, Limit, OnFull};
use tidegate_protocol::{LeasePlan, check_prefix};

use super::plans::{MemoryPlan, PlanStore};
use super::without_unlimited::WithoutUnlimited;
use super::{Buckets, Limiter, NamedLimit, Parts, RedisBuckets};
use crate::bounds::{check_deny_cache, check_max_keys, check_max_waiting};
use crate::clock::{FastClock, ProcessClock};
use crate::fingerprint::Fingerprinter;
use crate::host::Guarded;
use crate::lease::Leases;
use crate::memory::{DEFAULT_MAX_KEYS, MemoryBuckets, PlanBuckets};
use crate::shm::SharedTables;
use crate::store::{Backend, DEFAULT_TIMEOUT, Store};
use crate::{Error, LeaseOptions, OnStoreError};

/// How many callers may wait for one key unless another number is given.
const DEFAULT_MAX_WAITING: usize = 10_000;
const DEFAULT_DENY_CACHE: Duration = Duration::from_millis(100);

/// Collects the parts of a [`Limiter`]. Mistakes are reported by [`build`](Self::build).
///
/// One program can run on `memory://` here and on a Redis there with the same options. What concerns
/// failures, leases, timeouts and caches has no effect on memory, shared or not, and the room for keys
/// none on a Redis. Their values are checked all the same.
#[derive(Default)]
pub struct LimiterBuilder {
    limits: Vec<Result<NamedLimit, Error>>,
    store: Option<StoreChoice>,
    prefix: Option<String>,
    timeout: Option<Duration>,
    clock: Option<Arc<dyn Clock + Send + Sync>>,
    max_keys: Option<usize>,
    on_full: Option<OnFull>,
    deny_cache: Option<Duration>,
    lease: Option<LeaseOptions>,
    on_store_error: OnStoreError,
    max_waiting: Option<usize>,
}

enum StoreChoice {
    Url(String),
    Open(Store),
}

impl LimiterBuilder {
    /// Adds a limit by its text, such as `"100/min burst 20"`; one to four of them,
    /// all of which must allow.
    #[must_use]
    pub fn limit(mut self, text: &str) -> Self {
        self.limits.push(NamedLimit::parse(text, None));
        self
    }

    /// Adds a limit that decisions report as `name`.
    #[must_use]
    pub fn named_limit(mut self, name: &str, text: &str) -> Self {
        self.limits.push(NamedLimit::parse(text, Some(name)));
        self
    }

    /// Adds a limit that has been built before.
    #[must_use]
    pub fn add_limit(mut self, limit: NamedLimit) -> Self {
        self.limits.push(Ok(limit));
        self
    }

    /// Where buckets live; `memory://` unless given. See [`Store`].
    #[must_use]
    pub fn store_url(mut self, url: &str) -> Self {
        self.store = Some(StoreChoice::Url(url.to_owned()));
        self
    }

    /// A store to share with other limiters; its own timeout holds.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(StoreChoice::Open(store));
        self
    }

    /// What keys in a shared store begin with: 1 to 256 bytes, `"tidegate"` unless
    /// given. Limiters share a bucket when prefix and key are equal. Limiters of one process that leave
    /// it out on one Redis must have the same limits.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// How long a check may wait for a store opened by URL: 1 ms to 60 s, 50 ms
    /// unless given.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The clock of `memory://`; a [`FastClock`] unless given. Shared stores
    /// have a clock of their own.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How many keys that owe something each limit of `memory://` has room for: 1 to
    /// 100,000,000, a million unless given. Room is allocated as keys come, 16 bytes a
    /// slot, 23 bytes a key when all of it is taken. Without effect on Redis, whose memory is
    /// bounded there; the URL of `shm://` has it instead.
    #[must_use]
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = Some(max_keys);
        self
    }

    /// What becomes of a new key when `memory://` has no room left for it;
    /// [`OnFull::EvictIdlest`] unless given. See [`Limiter::pressure`]. On a Redis it has no effect; for
    /// `shm://` it is part of the URL.
    #[must_use]
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = Some(on_full);
        self
    }

    /// How long a key that a shared Redis bucket has refused may be refused again without
    /// asking, until its time has come: at most 60 s, 100 ms unless given, zero to always
    /// ask. What this process gives back is known at once; what another one gives back
    /// (credit, cancel, settle, reset) or changes of the limits shows so much later.
    #[must_use]
    pub fn deny_cache(mut self, longest: Duration) -> Self {
        self.deny_cache = Some(longest);
        self
    }

    /// Leases slices of the shared Redis buckets: this process debits tokens for a while
    /// ahead, spends them at a pace without asking, and renews its slice in the background.
    /// Shares follow demand. For [`check`](Limiter::check) of one key that is asked for often;
    /// everything else goes to the bucket. The fastest limit sets the pace, and must give at
    /// least ten tokens in a ttl. In memory, shared or not, it has no effect.
    #[must_use]
    pub fn lease(mut self, options: LeaseOptions) -> Self {
        self.lease = Some(options);
        self
    }

    /// What to answer while a Redis store fails; [`OnStoreError::Raise`] unless given. Memory,
    /// shared or not, does not fail, so that it has no effect there.
    #[must_use]
    pub fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = on_store_error;
        self
    }

    /// How many callers may wait for one key in [`acquire`](Limiter::acquire) at a time: 1 to
    /// 1,000,000, 10,000 unless given. One more is refused at once, and told when a slot would come.
    #[must_use]
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// Checks it all. Opens the file of a `shm://` store, which waits while another process
    /// is making it, at most 5 s; does no other I/O.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`] for a limit that cannot be kept or a number of limits
    /// other than one to four, [`Error::InvalidArgument`] for any other mistake, also when a limiter
    /// with other limits has the default prefix of the same Redis,
    /// [`Error::Store`] when the file of a `shm://` store cannot be had.
    pub fn build(mut self) -> Result<Limiter, Error> {
        let named =
            core::mem::take(&mut self.limits).into_iter().collect::<Result<Box<[_]>, _>>()?;
        if !(1..=tidegate_core::MAX_TIERS).contains(&named.len()) {
            let source = tidegate_core::Error::TierCount { count: named.len() };
            return Err(Error::InvalidLimit { text: None, source });
        }
        let all: Vec<AnyLimit> = named.iter().map(|named| named.limit).collect();
        let fixed = Fixed::new(&all);
        let tiers = BucketTiers::new(&all).map_err(Error::from_engine)?;
        if fixed.is_none() && tiers.count() < all.len() {
            let limits = tiers.pick(&named).cloned().map(Ok).collect();
            return Self { limits, ..self }.build_without_unlimited(named, tiers);
        }
        let limits: Arc<[Limit]> = tiers.rates(&all).collect();
        let prefix = check_prefix(self.prefix.as_deref().unwrap_or("tidegate"))?.to_owned();
        let store = match self.store {
            Some(StoreChoice::Open(store)) => store,
            Some(StoreChoice::Url(url)) => {
                Store::open(&url, self.timeout.unwrap_or(DEFAULT_TIMEOUT))?
            }
            None => Store::open("memory://", self.timeout.unwrap_or(DEFAULT_TIMEOUT))?,
        };
        // Checked for every store: one program runs on memory:// here and on a Redis there.
        let deny_cache = check_deny_cache(self.deny_cache.unwrap_or(DEFAULT_DENY_CACHE))?;
        let max_keys = check_max_keys(self.max_keys.unwrap_or(DEFAULT_MAX_KEYS))?;
        self.on_store_error.check()?;
        self.lease.as_ref().map_or(Ok(()), LeaseOptions::check)?;
        let leases = match (&self.lease, &store.0) {
            (None, _) | (Some(_), Backend::Memory | Backend::Shm(_)) => None,
            // There is no bucket to lease.
            (Some(_), Backend::Redis(_)) if fixed.is_some() => None,
            (Some(lease), Backend::Redis(redis)) => {
                let terms = lease.terms(&limits)?;
                let plan = LeasePlan::new(Arc::clone(&limits), terms, prefix.clone());
                Some(Leases::new(redis.guarded.clone(), plan, redis.native.is_none()))
            }
        };
        let mut plan_store = None;
        let buckets = match store.0 {
            Backend::Memory => {
                let clock = match self.clock {
                    Some(clock) => ProcessClock::Given(clock),
                    None => ProcessClock::Fast(FastClock::new()),
                };
                let on_full = self.on_full.unwrap_or_default();
                match fixed {
                    Some(fixed) => {
                        let fingerprinter = Fingerprinter::random();
                        let plans = PlanBuckets::new(max_keys, on_full, clock, fingerprinter);
                        let memory = MemoryPlan::without_tables(Arc::new(plans));
                        plan_store = Some(PlanStore::Memory(memory));
                        Buckets::Fixed(fixed)
                    }
                    None => Buckets::Memory(MemoryBuckets::new(&limits, max_keys, on_full, clock)?),
                }
            }
            _ if self.clock.is_some() => {
                let message = "a shared store has a clock of its own; leave it out";
                return Err(Error::argument("clock", message));
            }
            // The file is shared, and has one bound for all who use it.
            Backend::Shm(_) if self.max_keys.is_some() || self.on_full.is_some() => {
                let name = if self.max_keys.is_some() { "max_keys" } else { "on_full" };
                let message = "write max_keys and on_full into the URL of shm://, which is shared";
                return Err(Error::argument(name, message));
            }
            Backend::Shm(options) => match fixed {
                Some(fixed) => Buckets::Fixed(fixed),
                None => Buckets::Shm(SharedTables::open(&options, &prefix, &limits)?),
            },
            Backend::Redis(store) => {
                let guarded = store.guarded.clone().keeping_refusals(deny_cache);
                let guarded = Guarded::new(guarded, Arc::clone(&limits), self.on_store_error)?;
                let default_prefix = match self.prefix {
                    None if fixed.is_none() => Some(store.default_prefix.hold(&limits)?),
                    _ => None,
                };
                let store = Arc::new(store.use_by_a_limiter(default_prefix));
                let redis = RedisBuckets { guarded, store };
                match fixed {
                    Some(fixed) => {
                        plan_store = Some(PlanStore::Redis(redis));
                        Buckets::Fixed(fixed)
                    }
                    None => Buckets::Redis(redis),
                }
            }
        };
        let max_waiting = check_max_waiting(self.max_waiting.unwrap_or(DEFAULT_MAX_WAITING))?;
        let base = None;
        let parts = Parts { named, limits, prefix, buckets, leases, max_waiting, plan_store, base };
        Ok(Limiter::new(parts))
    }

    /// Builds the limiter of `named`, of which this builder has the limits of `tiers`.
    fn build_without_unlimited(
        self,
        named: Box<[NamedLimit]>,
        tiers: BucketTiers,
    ) -> Result<Limiter, Error> {
        let max_waiting = self.max_waiting.unwrap_or(DEFAULT_MAX_WAITING);
        let limiter = self.build()?;
        let (limits, prefix) = (Arc::clone(&limiter.0.limits), limiter.0.prefix.clone());
        let buckets = Buckets::WithoutUnlimited(WithoutUnlimited::new(limiter, tiers));
        let (leases, plan_store, base) = (None, None, None);
        let parts = Parts { named, limits, prefix, buckets, leases, max_waiting, plan_store, base };
        Ok(Limiter::new(parts))
    }
}
