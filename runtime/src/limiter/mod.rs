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
mod run;

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tidegate_core::{Decision, Limit, Source};

use crate::host::Guarded;
use crate::lease::Leases;
use crate::line::Lines;
use crate::memory::MemoryTables;
use crate::pressure::Pressure;
use crate::shared_store::StoreUse;
use crate::shm::SharedTables;
use crate::{Error, StoreHealth};

pub use acquire::{Granted, Waiter};
pub use builder::LimiterBuilder;
pub(crate) use line::WeakLimiter;

/// Decides whether keys may spend tokens, over one to four limits that all must allow.
///
/// Cloning is cheap and shares the buckets. A limiter can be used from any thread, and in a forked
/// child.
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
    limits: Arc<[Limit]>,
    prefix: String,
    buckets: Buckets,
    leases: Option<Leases>,
    lines: Lines,
    closed: AtomicBool,
}

enum Buckets {
    Memory(MemoryTables),
    Shm(SharedTables),
    Redis(RedisBuckets),
}

struct RedisBuckets {
    guarded: Guarded,
    store: StoreUse,
}

/// A limit, and the name under which decisions report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLimit {
    /// The name: the limit's canonical text unless one was given.
    pub name: String,
    /// The limit.
    pub limit: Limit,
}

impl NamedLimit {
    /// Reads a limit from its text; `name` defaults to the canonical form of that text.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`], with the text and the bound it breaks.
    pub fn parse(text: &str, name: Option<&str>) -> Result<Self, Error> {
        let limit = Limit::parse(text)
            .map_err(|source| Error::InvalidLimit { text: Some(text.to_owned()), source })?;
        Ok(Self { name: name.map_or_else(|| limit.to_string(), str::to_owned), limit })
    }
}

impl Limiter {
    /// Starts a limiter: give it at least one limit.
    pub fn builder() -> LimiterBuilder {
        LimiterBuilder::default()
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
            Buckets::Memory(tables) => tables.pressure(),
            Buckets::Shm(shared) => shared.pressure(),
            Buckets::Redis(_) => Pressure::default(),
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
            Buckets::Memory(_) | Buckets::Shm(_) => StoreHealth::NEVER_FAILED,
            Buckets::Redis(redis) => redis.guarded.health(),
        }
    }

    /// Where the buckets live.
    pub fn source(&self) -> Source {
        match self.0.buckets {
            Buckets::Memory(_) => Source::Memory,
            Buckets::Shm(_) => Source::Shm,
            Buckets::Redis(_) => Source::Redis,
        }
    }

    /// Whether calls cross a network.
    pub fn is_remote(&self) -> bool {
        matches!(self.0.buckets, Buckets::Redis(_))
    }

    /// Closes the limiter: later calls, on any clone, answer [`Error::Store`], and so do those that
    /// wait in [`acquire`](Self::acquire), whose slots are given back. Leased tokens are
    /// given back, for which this waits at most the store's timeout. A connection closes when the
    /// last limiter that uses it is closed or dropped.
    pub fn close(&self) {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.close_lines();
        if let Some(leases) = &self.0.leases {
            leases.give_back();
        }
        if let Buckets::Redis(redis) = &self.0.buckets {
            redis.store.end();
        }
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
