//! `ConcurrencyBuilder`: collects the parts of a `Concurrency` and checks them.

use core::sync::atomic::{AtomicBool, AtomicU64};
use core::time::Duration;
use std::sync::Arc;

use tidegate_protocol::{Host as _, OnStoreError, PerProcess, check_prefix};

use super::{Backend, Concurrency, Inner, MAX_PERMITS};
use crate::bounds::check_max_waiting;
use crate::host::NativeHost;
use crate::store::{Backend as StoreBackend, DEFAULT_TIMEOUT, Store};
use crate::{Clock, Error};

const DEFAULT_TTL: Duration = Duration::from_secs(30);
const MIN_TTL: Duration = Duration::from_millis(100);
const MAX_TTL: Duration = Duration::from_secs(86_400);
const DEFAULT_MAX_WAITING: usize = 10_000;

/// How long a place in the line lasts without being heard of: long enough for a pause of the process or
/// the store, and short enough that a crashed caller does not hold up others for long.
const PLACE: Duration = Duration::from_secs(5);

/// Collects the parts of a [`Concurrency`]. Mistakes are reported by [`build`](Self::build).
#[derive(Default)]
pub struct ConcurrencyBuilder {
    limit: Option<u64>,
    ttl: Option<Duration>,
    store: Option<StoreChoice>,
    prefix: Option<String>,
    timeout: Option<Duration>,
    clock: Option<Arc<dyn Clock + Send + Sync>>,
    on_store_error: OnStoreError,
    max_waiting: Option<usize>,
}

enum StoreChoice {
    Url(String),
    Open(Store),
}

impl ConcurrencyBuilder {
    /// The number of permits of each key: 1 to 1,000,000. It has no default.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How long a permit lasts unless it is renewed, which this process does every third of it: 100 ms
    /// to a day, 30 s unless given. A process that dies gives its permits back within this time.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Where permits live: `memory://` unless given, or a Redis. See [`Store`]; `shm://` has no permits.
    #[must_use]
    pub fn store_url(mut self, url: &str) -> Self {
        self.store = Some(StoreChoice::Url(url.to_owned()));
        self
    }

    /// A store to share with limiters; its own timeout holds.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(StoreChoice::Open(store));
        self
    }

    /// What keys in Redis begin with: 1 to 256 bytes, `"tidegate"` unless given. Whoever has the same
    /// prefix and key shares its permits. Limiters may have the same prefix: their keys differ.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// How long a call may wait for a store opened by URL: 1 ms to 60 s, 50 ms unless given.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A clock for permits in memory, which expire by it. Nobody waits or renews by it: a caller
    /// that finds no permit is refused at once, and a permit lasts for a ttl.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What callers get while a Redis store fails; [`OnStoreError::Raise`] unless given. `Allow` lets
    /// everybody in with a permit that is not counted, whose source is
    /// [`Source::Fallback`](crate::Source::Fallback); `Deny` lets nobody in. `Local` is for limiters.
    #[must_use]
    pub fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = on_store_error;
        self
    }

    /// How many callers may wait for the permits of one key: 1 to 1,000,000, 10,000 unless given. One
    /// more is refused at once. In Redis it counts for all processes.
    #[must_use]
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// Checks it all, without I/O.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for any mistake.
    pub fn build(self) -> Result<Concurrency, Error> {
        let limit = self.limit.unwrap_or(0);
        if !(1..=MAX_PERMITS).contains(&limit) {
            let message = format!("it must be 1 to {MAX_PERMITS}, but is {limit}");
            return Err(Error::argument("limit", message));
        }
        let ttl = self.ttl.unwrap_or(DEFAULT_TTL);
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            let message = format!("it must be 0.1 s to 86,400 s, but is {ttl:?}");
            return Err(Error::argument("ttl", message));
        }
        if matches!(self.on_store_error, OnStoreError::Local { .. }) {
            let message = "\"local\" is for limiters; a concurrency limit has \"raise\", \"allow\" \
                           and \"deny\"";
            return Err(Error::argument("on_store_error", message));
        }
        let prefix = check_prefix(self.prefix.as_deref().unwrap_or("tidegate"))?.to_owned();
        let max_waiting = check_max_waiting(self.max_waiting.unwrap_or(DEFAULT_MAX_WAITING))?;
        let timeout = self.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let store = match self.store {
            Some(StoreChoice::Open(store)) => store,
            Some(StoreChoice::Url(url)) => Store::open(&url, timeout)?,
            None => Store::open("memory://", timeout)?,
        };
        let backend = match store.0 {
            StoreBackend::Memory => Backend::Memory(self.clock),
            _ if self.clock.is_some() => {
                let message = "a shared store has a clock of its own; leave it out";
                return Err(Error::argument("clock", message));
            }
            StoreBackend::Shm(_) => {
                let message = "shm:// has no concurrency permits; use memory:// or a Redis";
                return Err(Error::argument("store", message));
            }
            StoreBackend::Redis(shared) if shared.native.is_none() => {
                let message =
                    "concurrency permits need a Redis by its URL, not a client of your own";
                return Err(Error::argument("store", message));
            }
            StoreBackend::Redis(shared) => {
                Backend::Redis(shared.guarded.clone(), shared.use_by_a_limiter(None))
            }
        };
        Ok(Concurrency(Arc::new(Inner {
            limit: AtomicU64::new(limit),
            ttl,
            wait: PLACE,
            max_waiting,
            prefix,
            backend,
            on_store_error: self.on_store_error,
            desks: PerProcess::new(NativeHost::process),
            is_closed: AtomicBool::new(false),
        })))
    }
}
