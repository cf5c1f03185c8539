use core::convert::Infallible;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Cells, Clock, Decision, Limit, Operation, Outcome, Store as _, decide_tiers};

use crate::answer::awaited;
use crate::clock::MonotonicClock;
use crate::error::Error;
use crate::key::{check_key, check_prefix, redis_key};
use crate::memory::MemoryStore;
use crate::redis::RedisStore;
use crate::store::{Backend, DEFAULT_TIMEOUT, Store};

/// Decides whether a key may spend tokens, over one to four limits that all
/// must allow.
///
/// Cloning is cheap and shares the buckets. A limiter can be used from any
/// thread, and after a fork.
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
    closed: AtomicBool,
}

enum Buckets {
    Memory { store: MemoryStore, clock: Arc<dyn Clock + Send + Sync> },
    Redis(RedisStore),
}

/// A limit and the name that decisions report it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLimit {
    /// The name; the limit's canonical text unless one was given.
    pub name: String,
    /// The limit.
    pub limit: Limit,
}

impl NamedLimit {
    /// Reads a limit's text; `name` defaults to its canonical form.
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

    /// Spends `cost` tokens of `key` if every limit allows; never waits for
    /// tokens, only for a remote store. A cost of 0 looks without spending.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key that is not 1 to 1024 bytes long,
    /// [`Error::CostTooLarge`], and for a remote store its errors.
    pub fn check(&self, key: impl AsRef<[u8]>, cost: u64) -> Result<Decision, Error> {
        match &self.0.buckets {
            Buckets::Memory { .. } => self.check_memory(key.as_ref(), cost),
            Buckets::Redis(_) => {
                let (answerer, awaited) = awaited();
                self.check_then(key, cost, move |answer| answerer.answer(answer));
                awaited.wait()
            }
        }
    }

    /// [`check`](Self::check) as a future, for any executor. A remote check goes on
    /// when the future is dropped: what was asked for may still be charged.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_async(
        &self,
        key: impl AsRef<[u8]>,
        cost: u64,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.check_then(key, cost, move |answer| {
            // A dropped future wants no answer.
            let _ = sender.send(answer);
        });
        async move {
            receiver.await.unwrap_or_else(|_| Err(Error::Store("the I/O thread is gone".into())))
        }
    }

    /// [`check`](Self::check) with a callback. For memory, and for errors in the
    /// arguments, `done` runs before this returns; otherwise on Tidegate's I/O
    /// thread, where it should do little.
    pub fn check_then(
        &self,
        key: impl AsRef<[u8]>,
        cost: u64,
        done: impl FnOnce(Result<Decision, Error>) + Send + 'static,
    ) {
        match &self.0.buckets {
            Buckets::Memory { .. } => done(self.check_memory(key.as_ref(), cost)),
            Buckets::Redis(store) => match self.validate(&key, cost) {
                Err(error) => done(Err(error)),
                Ok(()) => {
                    let key = redis_key(&self.0.prefix, key.as_ref());
                    let limits = Arc::clone(&self.0.limits);
                    store.run(vec![key], limits, Operation::Check { cost }, |outcome| {
                        done(outcome.and_then(|outcome| match outcome {
                            Outcome::Decision(decision) => Ok(decision),
                            _ => Err(Error::Store("the store answered another operation".into())),
                        }));
                    });
                }
            },
        }
    }

    /// What [`check`](Self::check) would refuse to try: nothing is spent, no store is asked.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key that is not 1 to 1024 bytes long,
    /// [`Error::CostTooLarge`], and [`Error::Store`] when the limiter is closed.
    pub fn validate(&self, key: impl AsRef<[u8]>, cost: u64) -> Result<(), Error> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Store("the limiter is closed".into()));
        }
        let burst = self.0.limits.iter().map(Limit::burst).min().unwrap_or(0);
        if cost > burst {
            return Err(Error::CostTooLarge { cost, burst });
        }
        check_key(key.as_ref())
    }

    /// The limits, in the order of [`Decision::tier`].
    pub fn limits(&self) -> &[NamedLimit] {
        &self.0.named
    }

    /// The name of the limit that bound `decision`, which this limiter has taken.
    pub fn limit_name(&self, decision: &Decision) -> &str {
        self.0.named.get(usize::from(decision.tier)).map_or("", |named| &named.name)
    }

    /// Whether checks cross a network.
    pub fn is_remote(&self) -> bool {
        matches!(self.0.buckets, Buckets::Redis(_))
    }

    /// Lets go of the limiter: later checks, by any clone, answer
    /// [`Error::Store`]. A connection closes when its last limiter is gone.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    fn check_memory(&self, key: &[u8], cost: u64) -> Result<Decision, Error> {
        self.validate(key, cost)?;
        let Buckets::Memory { store, clock } = &self.0.buckets else {
            return Err(Error::Store("the buckets are not in memory".into()));
        };
        let now = clock.now();
        let step = |cells: &mut Cells| decide_tiers(&self.0.limits, cells, now, cost);
        let answered: Result<_, Infallible> = store.update(key, now, step);
        match answered {
            Ok(decision) => decision.map_err(Error::from_engine),
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

/// Collects what a [`Limiter`] is made of; mistakes are reported by
/// [`build`](Self::build).
#[derive(Default)]
pub struct LimiterBuilder {
    limits: Vec<Result<NamedLimit, Error>>,
    store: Option<StoreChoice>,
    prefix: Option<String>,
    timeout: Option<Duration>,
    clock: Option<Arc<dyn Clock + Send + Sync>>,
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
    /// given. Limiters share a bucket when prefix and key are equal.
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

    /// The clock of `memory://`; a [`MonotonicClock`] unless given. Shared stores
    /// use their server's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks it all; does no I/O.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`] for a limit that cannot be kept or a number of limits
    /// other than one to four, [`Error::InvalidArgument`] for any other mistake.
    pub fn build(self) -> Result<Limiter, Error> {
        let named = self.limits.into_iter().collect::<Result<Box<[_]>, _>>()?;
        if !(1..=tidegate_core::MAX_TIERS).contains(&named.len()) {
            let source = tidegate_core::Error::TierCount { count: named.len() };
            return Err(Error::InvalidLimit { text: None, source });
        }
        let limits: Arc<[Limit]> = named.iter().map(|named| named.limit).collect();
        let prefix = check_prefix(self.prefix.as_deref().unwrap_or("tidegate"))?.to_owned();
        let store = match self.store {
            Some(StoreChoice::Open(store)) => store,
            Some(StoreChoice::Url(url)) => {
                Store::open(&url, self.timeout.unwrap_or(DEFAULT_TIMEOUT))?
            }
            None => Store::open("memory://", self.timeout.unwrap_or(DEFAULT_TIMEOUT))?,
        };
        let buckets = match (store.0, self.clock) {
            (Backend::Memory, clock) => Buckets::Memory {
                store: MemoryStore::new(&limits),
                clock: clock.unwrap_or_else(|| Arc::new(MonotonicClock::new())),
            },
            (Backend::Redis(store), None) => Buckets::Redis(store),
            (Backend::Redis(_), Some(_)) => {
                let message = "a shared store uses its server's clock; leave it out";
                return Err(Error::argument("clock", message));
            }
        };
        let closed = AtomicBool::new(false);
        Ok(Limiter(Arc::new(Inner { named, limits, prefix, buckets, closed })))
    }
}
