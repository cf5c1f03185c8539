//! `Permit`: the right to run, until it is dropped or expires.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::oneshot as future;

use super::{Inner, desks};
use crate::oneshot::oneshot;
use crate::{Source, generation};

/// The right to run that a [`Concurrency`](super::Concurrency) has given. Dropping it gives it back
/// without waiting for the store; [`release`](Self::release) waits until the store has heard of it.
///
/// A forked child inherits no permit: what it drops stays its parent's.
pub struct Permit {
    inner: Arc<Inner>,
    key: Arc<[u8]>,
    /// The caller at the desk; `None` for a permit that is not counted.
    id: Option<u64>,
    term: Arc<Term>,
    process: u32,
    is_released: AtomicBool,
}

/// How long a permit lasts.
#[derive(Default)]
pub(super) struct Term {
    pub(super) until: AtomicU64,
    pub(super) is_lost: AtomicBool,
}

impl Permit {
    pub(super) fn new(inner: Arc<Inner>, key: Arc<[u8]>, id: Option<u64>, term: Arc<Term>) -> Self {
        let is_released = AtomicBool::new(false);
        Self { inner, key, id, term, process: generation(), is_released }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether the permit has expired before it could be renewed, because the store or this process
    /// stood still for a ttl, or was given back by [`Concurrency::close`](super::Concurrency::close). Somebody else may hold it
    /// by now. It does not come back.
    pub fn is_lost(&self) -> bool {
        if self.id.is_none() || self.is_released.load(Ordering::Acquire) {
            return false;
        }
        // Closing gives every permit back.
        if self.process != generation() || self.inner.is_closed.load(Ordering::Acquire) {
            return true;
        }
        let until = self.term.until.load(Ordering::Acquire);
        if until < u64::MAX && self.inner.now() >= until {
            self.term.is_lost.store(true, Ordering::Release);
        }
        self.term.is_lost.load(Ordering::Acquire)
    }

    /// Where the permit was counted; [`Source::Fallback`] if the store failed and the policy let the
    /// caller in uncounted.
    pub fn source(&self) -> Source {
        if self.id.is_some() { self.inner.source() } else { Source::Fallback }
    }

    /// Gives the permit back, and waits until the store has heard of it, or its timeout is over: a
    /// process that ends at once leaves nothing behind. Does not wait on a Tokio runtime, where
    /// [`release_async`](Self::release_async) does.
    pub fn release(self) {
        let (sender, receiver) = oneshot();
        self.leave_then(move || sender.send(Ok(())));
        if tokio::runtime::Handle::try_current().is_err() {
            _ = receiver.wait();
        }
    }

    /// [`release`](Self::release) as a future.
    pub fn release_async(self) -> impl Future<Output = ()> + Send + 'static {
        let (sender, receiver) = future::channel();
        self.leave_then(move || _ = sender.send(()));
        async move { _ = receiver.await }
    }

    /// Gives the permit back once, and calls `done` when the store has heard of it.
    pub(super) fn leave_then(&self, done: impl FnOnce() + Send + 'static) {
        let first = !self.is_released.swap(true, Ordering::AcqRel);
        match self.id.filter(|_| first && self.process == generation()) {
            Some(id) => desks::leave(&self.inner, &self.key, id, Some(Box::new(done))),
            None => done(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let first = !self.is_released.swap(true, Ordering::AcqRel);
        if let Some(id) = self.id.filter(|_| first && self.process == generation()) {
            desks::leave(&self.inner, &self.key, id, None);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("is_lost", &self.is_lost())
            .field("source", &self.source())
            .finish()
    }
}
