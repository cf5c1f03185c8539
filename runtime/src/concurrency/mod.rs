//! `Concurrency`: a limited number of permits that expire, for a process or a whole fleet.

#[cfg(feature = "__bindings")]
mod bindings;
mod builder;
mod desks;
mod permit;

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tidegate_protocol::{Host as _, OnStoreError, PerProcess, PermitReply};
use tokio::sync::oneshot as future;

use crate::answer::lost;
use crate::clock::saturating_nanos;
use crate::host::{GuardedStore, NativeHost};
use crate::oneshot::oneshot;
use crate::shared_store::StoreUse;
use crate::{Clock, Error, Source};
use desks::Desks;
#[cfg(not(feature = "__bindings"))]
use desks::PermitWaiter;

pub use builder::ConcurrencyBuilder;
#[cfg(feature = "__bindings")]
pub use desks::PermitWaiter;
pub use permit::Permit;

/// The largest number of permits.
pub(crate) const MAX_PERMITS: u64 = 1_000_000;

/// Lets a limited number of callers run at the same time, over all processes that use the same store,
/// prefix and key. Others wait in one line, first come, first served.
///
/// A permit lasts for a ttl, and the process that holds it renews it in the background every third of
/// that. The permits of a process that dies come free within the ttl. So do those of one that cannot
/// reach the store for a ttl: it is told by [`Permit::is_lost`], and until it looks it may run beside
/// its successor. A stalled process cannot be stopped from outside.
///
/// Cloning is cheap and shares the permits. In memory, each `Concurrency` has permits of its own.
///
/// ```
/// use tidegate::Concurrency;
/// let vendor = Concurrency::builder().limit(1).build()?;
/// let permit = vendor.acquire("vendor", None)?;
/// assert!(vendor.try_acquire("vendor")?.is_none());
/// drop(permit);
/// assert!(vendor.try_acquire("vendor")?.is_some());
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone)]
pub struct Concurrency(Arc<Inner>);

struct Inner {
    limit: AtomicU64,
    ttl: Duration,
    /// How long a place in the line lasts without being heard of.
    wait: Duration,
    max_waiting: usize,
    prefix: String,
    backend: Backend,
    on_store_error: OnStoreError,
    /// The callers of this process. A forked child has none: they are threads and tasks of its parent.
    desks: PerProcess<Desks>,
    is_closed: AtomicBool,
}

enum Backend {
    /// Permits of this process. They expire only by a clock that the program moves: nobody else could
    /// be waiting for what a dead process held.
    Memory(Option<Arc<dyn Clock + Send + Sync>>),
    Redis(GuardedStore, StoreUse),
}

impl Concurrency {
    /// Starts a `Concurrency`: give it a limit.
    pub fn builder() -> ConcurrencyBuilder {
        ConcurrencyBuilder::default()
    }

    /// Blocks the thread until the caller holds a permit of `key`, at most for `timeout`; `None` waits
    /// for as long as it takes. The permit is given back when it is dropped.
    ///
    /// Callers stand in one line over all processes. One that dies in it is passed over after 5 s. While a caller of this process waits, the
    /// process asks Redis at most 20 times a second for each key, with one call for all of its callers.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tidegate::{Concurrency, Error};
    /// let vendor = Concurrency::builder().limit(1).build()?;
    /// let _permit = vendor.acquire("vendor", None)?;
    /// let refused = vendor.acquire("vendor", Some(Duration::from_millis(5)));
    /// assert!(matches!(refused, Err(Error::NoPermit { limit: 1, .. })));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoPermit`] if none comes free in time, or if
    /// [`max_waiting`](ConcurrencyBuilder::max_waiting) callers wait already; [`Error::Store`] or
    /// [`Error::StoreTimeout`] if the store fails and the policy is
    /// [`OnStoreError::Raise`], or when it is closed; [`Error::CorruptBucket`].
    pub fn acquire(
        &self,
        key: impl AsRef<[u8]>,
        timeout: Option<Duration>,
    ) -> Result<Permit, Error> {
        self.wait_for(key.as_ref(), timeout)?.ok_or_else(|| self.refusal(timeout))
    }

    /// [`acquire`](Self::acquire) as a future. A caller that drops it leaves the line.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_async(
        &self,
        key: impl AsRef<[u8]>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Permit, Error>> + Send + 'static {
        let (this, entered) = (self.clone(), self.start(key.as_ref(), timeout));
        async move { entered.await?.ok_or_else(|| this.refusal(timeout)) }
    }

    /// A permit of `key` if one is free and nobody waits for it, and otherwise none.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), except [`Error::NoPermit`].
    pub fn try_acquire(&self, key: impl AsRef<[u8]>) -> Result<Option<Permit>, Error> {
        self.wait_for(key.as_ref(), Some(Duration::ZERO))
    }

    /// [`try_acquire`](Self::try_acquire) as a future.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_async(
        &self,
        key: impl AsRef<[u8]>,
    ) -> impl Future<Output = Result<Option<Permit>, Error>> + Send + 'static {
        self.start(key.as_ref(), Some(Duration::ZERO))
    }

    /// The number of permits of `key` that are held, over all processes.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::StoreTimeout`] or [`Error::CorruptBucket`], whatever the policy.
    pub fn in_flight(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        let (sender, receiver) = oneshot();
        self.look(key.as_ref(), |reply| sender.send(reply.map(|reply| reply.live)));
        receiver.wait()
    }

    /// [`in_flight`](Self::in_flight) as a future.
    ///
    /// # Errors
    /// As [`in_flight`](Self::in_flight).
    pub fn in_flight_async(
        &self,
        key: impl AsRef<[u8]>,
    ) -> impl Future<Output = Result<u64, Error>> + Send + 'static {
        let (sender, receiver) = future::channel();
        self.look(key.as_ref(), |reply| _ = sender.send(reply.map(|reply| reply.live)));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// The number of callers of this process that wait for a permit of `key`.
    pub fn waiting(&self, key: impl AsRef<[u8]>) -> usize {
        self.0.desks().waiting(key.as_ref())
    }

    /// The number of permits.
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Changes the number of permits, for this process: 0, which lets nobody in, to 1,000,000. A lower
    /// number takes no permit away; nobody enters until enough have left.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number out of bounds.
    pub fn set_limit(&self, limit: u64) -> Result<(), Error> {
        if limit > MAX_PERMITS {
            return Err(Error::argument(
                "limit",
                format!("it must be 0 to {MAX_PERMITS}, but is {limit}"),
            ));
        }
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.set_limit(limit);
        Ok(())
    }

    /// How long a permit lasts unless it is renewed.
    pub fn ttl(&self) -> Duration {
        self.0.ttl
    }

    /// Closes it: later calls, on any clone, answer [`Error::Store`], and so do those that wait. The
    /// permits of this process are given back.
    pub fn close(&self) {
        if !self.0.is_closed.swap(true, Ordering::AcqRel) {
            self.0.close();
        }
    }

    /// Whether calls cross a network.
    pub fn is_remote(&self) -> bool {
        matches!(self.0.backend, Backend::Redis(..))
    }

    /// The error of a caller that got none.
    fn refusal(&self, timeout: Option<Duration>) -> Error {
        Error::NoPermit { limit: self.limit(), timeout: timeout.unwrap_or(Duration::MAX) }
    }

    /// Asks for a permit, and calls `done` once, at once or on any thread.
    fn enter(
        &self,
        key: &[u8],
        timeout: Option<Duration>,
        done: impl FnOnce(Result<Option<Permit>, Error>) + Send + 'static,
    ) -> PermitWaiter {
        let max_wait = timeout.map_or(u64::MAX, saturating_nanos);
        desks::enter(&self.0, key, max_wait, Box::new(done))
    }

    fn look(&self, key: &[u8], done: impl FnOnce(Result<PermitReply, Error>) + Send + 'static) {
        if self.0.is_closed.load(Ordering::Acquire) {
            return done(Err(closed()));
        }
        desks::look(&self.0, key, Box::new(done));
    }

    fn wait_for(&self, key: &[u8], timeout: Option<Duration>) -> Result<Option<Permit>, Error> {
        let (sender, receiver) = oneshot();
        let waiter = self.enter(key, timeout, |answer| sender.send(answer));
        let Some(bound) = self.longest_wait() else { return receiver.wait() };
        // Nobody knows whether the program's own runtime still does its I/O.
        loop {
            if let Some(answer) = receiver.wait_for(bound) {
                return answer;
            }
            if waiter.is_unanswered_for(bound) {
                waiter.leave();
                return receiver.try_recv().unwrap_or_else(|| Err(Error::timeout(bound)));
            }
        }
    }

    fn longest_wait(&self) -> Option<Duration> {
        match &self.0.backend {
            Backend::Memory(_) => None,
            Backend::Redis(_, store) => {
                store.longest_wait().map(|timeout| timeout + Duration::from_secs(1))
            }
        }
    }

    fn start(
        &self,
        key: &[u8],
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Option<Permit>, Error>> + Send + 'static + use<> {
        let (sender, receiver) = future::channel();
        // A permit that nobody receives is dropped, which gives it back.
        let waiter = self.enter(key, timeout, |answer| _ = sender.send(answer));
        async move {
            let _waiter = LeaveOnDrop(waiter);
            receiver.await.unwrap_or_else(|_| Err(lost()))
        }
    }
}

impl fmt::Debug for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Concurrency")
            .field("limit", &self.limit())
            .field("ttl", &self.0.ttl)
            .field("prefix", &self.0.prefix)
            .field("remote", &self.is_remote())
            .finish()
    }
}

struct LeaveOnDrop(PermitWaiter);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Inner {
    /// The time by which permits expire in this process.
    fn now(&self) -> u64 {
        match &self.backend {
            Backend::Memory(Some(clock)) => clock.now(),
            Backend::Memory(None) | Backend::Redis(..) => NativeHost::now(),
        }
    }

    fn source(&self) -> Source {
        match self.backend {
            Backend::Memory(_) => Source::Memory,
            Backend::Redis(..) => Source::Redis,
        }
    }
}

fn closed() -> Error {
    Error::Store("the concurrency limit is closed".into())
}
