//! `Limiter`: a set of limits over a store, and the operations on its buckets.

mod acquire;
#[cfg(feature = "__bindings")]
mod bindings;
mod builder;
mod check;
mod check_many;
mod leased;
mod line;
mod operations;
mod peek;
mod ping;
mod plans;
mod run;
mod slices;
mod without_unlimited;

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tidegate_core::{AnyLimit, Decision, Fixed, Limit, Source};
use tidegate_protocol::LineOptions;

use crate::host::Guarded;
use crate::lease::Leases;
use crate::line::Lines;
use crate::memory::MemoryBuckets;
use crate::pressure::Pressure;
use crate::shared_store::StoreUse;
use crate::shm::SharedTables;
use crate::{Error, StoreHealth};
use plans::{MemoryPlan, PlanStore, Plans};
use slices::SliceRecords;
use without_unlimited::WithoutUnlimited;

pub use acquire::{Granted, Waiter};
pub use builder::LimiterBuilder;

/// Decides whether keys may spend tokens, over one to four limits that all must allow.
///
/// Cloning is cheap and shares the buckets. A limiter can be used from any thread, and in a forked
/// child. A program whose `main` is Rust's must not fork while one of its threads starts or ends:
/// the standard library holds a lock then, and a child that inherits it can start no thread.
///
/// Every operation comes in two forms: one that blocks the thread while a remote store answers, and
/// one named `_async` that is a future for any executor. Where a method takes
/// [`Keys`](crate::Keys) it takes one key (`"user:42"`, `b"..."`, `&string`) or one for each limit.
/// Dropping a future takes nothing back: the operation may still be charged. Only a reservation
/// whose future is dropped is cancelled, because nobody else could cancel it.
///
/// ```
/// use tidegate::Limiter;
/// let limiter = Limiter::builder().limit("50/s burst 50").build()?;
/// let decision = limiter.check("user:42", 1)?;
/// assert!(decision.allowed && decision.remaining == 49);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    named: Box<[NamedLimit]>,
    /// The limits of the buckets: all but `unlimited` and `none`.
    limits: Arc<[Limit]>,
    prefix: String,
    buckets: Buckets,
    leases: Option<Leases>,
    lines: Lines,
    closed: AtomicBool,
    plan_store: PlanStore,
    plans: Plans,
    /// The nodes that hold slices of buckets in memory.
    slices: SliceRecords,
    /// The limiter whose buckets these are under other limits; `None` if it has buckets of its own.
    base: Option<Weak<Self>>,
}

/// What a limiter is made of.
struct Parts {
    named: Box<[NamedLimit]>,
    limits: Arc<[Limit]>,
    prefix: String,
    buckets: Buckets,
    leases: Option<Leases>,
    max_waiting: usize,
    /// `None` if the buckets tell.
    plan_store: Option<PlanStore>,
    base: Option<Weak<Inner>>,
}

enum Buckets {
    Memory(MemoryBuckets),
    Shm(SharedTables),
    Redis(RedisBuckets),
    /// The buckets of another limiter in memory, under other limits.
    Plan(MemoryPlan),
    /// No bucket could change the answers.
    Fixed(Fixed),
    WithoutUnlimited(WithoutUnlimited),
}

#[derive(Clone)]
struct RedisBuckets {
    guarded: Guarded,
    store: Arc<StoreUse>,
}

/// A limit, and the name under which decisions report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLimit {
    /// The name: the limit's text as given, unless a name was given.
    pub name: String,
    /// The limit.
    pub limit: AnyLimit,
}

impl NamedLimit {
    /// Reads a limit from its text. `name` defaults to that text without white space around it, so
    /// that decisions and messages say what the program says.
    ///
    /// ```
    /// use tidegate::NamedLimit;
    /// let limit = NamedLimit::parse("10 in any 1s jitter 50ms", None)?;
    /// assert_eq!(limit.name, "10 in any 1s jitter 50ms");
    /// assert_eq!(limit.limit.to_string(), "10/1050000001ns burst 1");
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidLimit`], with the text and the bound it breaks.
    pub fn parse(text: &str, name: Option<&str>) -> Result<Self, Error> {
        let limit = AnyLimit::parse(text)
            .map_err(|source| Error::InvalidLimit { text: Some(text.to_owned()), source })?;
        Ok(Self { name: name.unwrap_or_else(|| text.trim_ascii()).to_owned(), limit })
    }
}

impl Limiter {
    /// Starts a limiter: give it at least one limit.
    pub fn builder() -> LimiterBuilder {
        LimiterBuilder::default()
    }

    fn new(parts: Parts) -> Self {
        let Parts { named, limits, prefix, buckets, leases, max_waiting, plan_store, base } = parts;
        let all: Vec<AnyLimit> = named.iter().map(|named| named.limit).collect();
        let lines = Lines::new(LineOptions::new(&all, source_of(&buckets), max_waiting));
        let closed = AtomicBool::new(false);
        Self(Arc::new_cyclic(|this| {
            let plan_store = plan_store.unwrap_or_else(|| PlanStore::of(&buckets, this));
            let (plans, slices) = (Plans::new(), SliceRecords::default());
            Inner {
                named,
                limits,
                prefix,
                buckets,
                leases,
                lines,
                closed,
                plan_store,
                plans,
                slices,
                base,
            }
        }))
    }

    /// The limits, in the order of [`Decision::tier`].
    pub fn limits(&self) -> &[NamedLimit] {
        &self.0.named
    }

    /// The name of the limit that bound `decision`, one of this limiter's decisions.
    pub fn limit_name(&self, decision: &Decision) -> &str {
        self.0.named.get(usize::from(decision.tier)).map_or("", |named| &named.name)
    }

    /// How often the store had no room, counted over all processes that share it. Always zero for
    /// a store whose room Tidegate does not bound, such as Redis.
    ///
    /// ```
    /// use tidegate::{Limiter, OnFull};
    /// let limiter = Limiter::builder().limit("1/d").max_keys(1).on_full(OnFull::Deny).build()?;
    /// for number in 0..100 {
    ///     limiter.check(&format!("user:{number}"), 1)?;
    /// }
    /// assert!(limiter.pressure().denied > 0);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn pressure(&self) -> Pressure {
        match &self.0.buckets {
            Buckets::Memory(memory) => memory.pressure(),
            Buckets::Plan(plan) => plan.pressure(),
            Buckets::Shm(shared) => shared.pressure(),
            Buckets::Redis(_) | Buckets::Fixed(_) => Pressure::default(),
            Buckets::WithoutUnlimited(rest) => rest.limiter().pressure(),
        }
    }

    /// The health of the store: whether it is asked at present, how many calls have failed, and
    /// how many of them this limiter has answered by its
    /// [`on_store_error`](LimiterBuilder::on_store_error) policy.
    ///
    /// ```
    /// use tidegate::{BreakerState, Limiter};
    /// let limiter = Limiter::builder().limit("1/d").build()?;
    /// let health = limiter.store_health();
    /// assert_eq!((health.state, health.failures), (BreakerState::Closed, 0)); // memory cannot fail
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn store_health(&self) -> StoreHealth {
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => {
                StoreHealth::NEVER_FAILED
            }
            Buckets::Redis(redis) => redis.guarded.health(),
            Buckets::WithoutUnlimited(rest) => rest.limiter().store_health(),
        }
    }

    /// Where the buckets live; [`Source::Memory`] if `unlimited` or `none` leaves none.
    pub fn source(&self) -> Source {
        source_of(&self.0.buckets)
    }

    /// Whether calls cross a network.
    pub fn is_remote(&self) -> bool {
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => false,
            Buckets::Redis(_) => true,
            Buckets::WithoutUnlimited(rest) => rest.limiter().is_remote(),
        }
    }

    /// Closes the limiter: later calls, on any clone, answer [`Error::Store`], and so do those that
    /// wait in [`acquire`](Self::acquire), whose slots are given back. Leased tokens are
    /// given back, for which this waits at most the store's timeout. A connection closes when the
    /// last limiter that uses it is closed or dropped.
    pub fn close(&self) {
        let relatives = self.relatives();
        for limiter in &relatives {
            limiter.close_alone();
        }
    }

    fn close_alone(&self) {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.close_lines();
        if let Some(leases) = &self.0.leases {
            leases.give_back();
        }
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => {}
            Buckets::Redis(redis) => redis.store.end(),
            Buckets::WithoutUnlimited(rest) => rest.limiter().close(),
        }
        if let PlanStore::Redis(redis) = &self.0.plan_store {
            redis.store.end();
        }
    }
}

fn source_of(buckets: &Buckets) -> Source {
    match buckets {
        Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Fixed(_) => Source::Memory,
        Buckets::Shm(_) => Source::Shm,
        Buckets::Redis(_) => Source::Redis,
        Buckets::WithoutUnlimited(rest) => rest.limiter().source(),
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("limits", &self.0.named)
            .field("prefix", &self.0.prefix)
            .field("remote", &self.is_remote())
            .finish()
    }
}
