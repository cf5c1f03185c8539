//! A store behind its breaker.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Attempt, BreakerState};

use crate::breaker::StoreBreaker;
use crate::error::Error;
use crate::per_process::PerProcess;
use crate::store::{Host, Store};

/// A store, and what all who share it know of its failures.
pub struct GuardedStore<H> {
    store: Arc<dyn Store>,
    /// How long a refused key may be refused again without asking.
    pub(super) keep_refusals: Duration,
    timeout: Duration,
    /// A forked child finds out for itself.
    known: Arc<PerProcess<Known>>,
    host: PhantomData<fn() -> H>,
}

struct Known {
    /// The breaker of a store that is one server. The servers of a cluster have one each.
    breaker: StoreBreaker,
    failures: AtomicU64,
}

/// The breaker of the cluster's server that a call goes to; `None` where the store is one server.
pub(super) type NodeBreaker = Option<Arc<StoreBreaker>>;

/// A call for leases that the breaker has let through.
pub(crate) struct LeaseAttempt {
    node: NodeBreaker,
    attempt: Attempt,
}

impl<H> Clone for GuardedStore<H> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), known: Arc::clone(&self.known), ..*self }
    }
}

impl<H: Host> GuardedStore<H> {
    /// A store whose calls each end within `timeout`.
    pub fn new(store: Arc<dyn Store>, timeout: Duration) -> Self {
        let known = Arc::new(PerProcess::new(H::process));
        Self { store, keep_refusals: Duration::ZERO, timeout, known, host: PhantomData }
    }

    /// The same store, for a limiter whose refused keys may be refused again for `keep_refusals`
    /// without asking.
    #[must_use]
    pub fn keeping_refusals(self, keep_refusals: Duration) -> Self {
        Self { keep_refusals, ..self }
    }

    /// The store itself.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| Known {
            breaker: StoreBreaker::new(self.timeout),
            failures: AtomicU64::new(0),
        })
    }

    pub(super) fn breaker<'a>(&'a self, node: &'a NodeBreaker) -> &'a StoreBreaker {
        node.as_deref().unwrap_or_else(|| &self.known().breaker)
    }

    pub(super) fn failed(&self, node: &NodeBreaker, attempt: Attempt, error: &Error) {
        self.known().failures.fetch_add(1, Ordering::Relaxed);
        self.breaker(node).failed(attempt, error, H::now(), H::random());
    }

    /// The worst state of its breakers, and the number of calls that have failed.
    pub(super) fn health(&self) -> (BreakerState, u64) {
        let nodes = self.store.node_breakers();
        let states = nodes.iter().map(|node| node.state()).chain([self.known().breaker.state()]);
        let worst = states.max_by_key(|state| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        let state = worst.unwrap_or(BreakerState::Closed);
        (state, self.known().failures.load(Ordering::Relaxed))
    }

    /// Whether slices of the bucket under these keys may be asked for now, with others of its
    /// server. A lease call is never the probe that finds out whether a server is back: that is for
    /// a caller's own call.
    ///
    /// # Errors
    /// [`Error::Store`] if not; nothing is then to be sent.
    pub(crate) fn attempt_lease(&self, keys: &[Vec<u8>]) -> Result<LeaseAttempt, Error> {
        let node = self.store.route()?.node_breaker(keys);
        let breaker = self.breaker(&node);
        let attempt = breaker.attempt(H::now)?;
        if attempt.is_probe {
            breaker.abandoned(attempt);
            return Err(Error::Store("not asked before a call has found it well".into()));
        }
        Ok(LeaseAttempt { node, attempt })
    }

    /// Tells the breaker how lease calls that were sent together ended: with the first failure
    /// among them, with an answer, or unanswered.
    pub(crate) fn leased(&self, lease: LeaseAttempt, failure: Option<&Error>, answered: bool) {
        let LeaseAttempt { node, attempt } = lease;
        match failure {
            Some(error) => self.failed(&node, attempt, error),
            None if answered => self.breaker(&node).succeeded(attempt),
            None => self.breaker(&node).abandoned(attempt),
        }
    }
}
