//! A store behind its breaker.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Attempt, BreakerState};

use super::{StoreChange, StoreHealth};
use crate::breaker::StoreBreaker;
use crate::error::Error;
use crate::lock::Mutex;
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
    last_error: Mutex<Option<Error>>,
    /// When the store was first used.
    began: u64,
}

/// The breaker of the cluster's server that a call goes to; `None` where the store is one server.
pub(super) type NodeBreaker = Option<Arc<StoreBreaker>>;

/// A call for leases or permits that the breaker has let through.
pub(crate) struct CallAttempt {
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
            last_error: Mutex::default(),
            began: H::now(),
        })
    }

    pub(super) fn breaker<'a>(&'a self, node: &'a NodeBreaker) -> &'a StoreBreaker {
        node.as_deref().unwrap_or_else(|| &self.known().breaker)
    }

    pub(super) fn failed(&self, node: &NodeBreaker, attempt: Attempt, error: &Error) {
        let known = self.known();
        known.failures.fetch_add(1, Ordering::Relaxed);
        *known.last_error.lock() = Some(error.clone());
        let breaker = self.breaker(node);
        if breaker.failed(attempt, error, H::now(), H::random()) {
            self.tell(breaker, Some(error.clone()), 0);
        }
    }

    #[inline]
    pub(super) fn succeeded(&self, node: &NodeBreaker, attempt: Attempt) {
        let breaker = self.breaker(node);
        if let Some(lasted) = breaker.succeeded(attempt, H::now) {
            self.tell(breaker, None, lasted);
        }
    }

    /// Tells the program of a change; called without a lock.
    #[cold]
    fn tell(&self, breaker: &StoreBreaker, error: Option<Error>, lasted: u64) {
        let store = breaker.node().map_or_else(|| self.store.name(), str::to_owned);
        H::store_changed(StoreChange {
            store,
            error,
            lasted: Duration::from_nanos(lasted),
            notice: None,
        });
    }

    /// The health of the store: the worst state of its breakers, and since when there is no worse.
    pub(super) fn health(&self) -> StoreHealth {
        let known = self.known();
        let nodes = self.store.node_breakers();
        let breakers = nodes.iter().map(|node| &**node).chain([&known.breaker]);
        let rank = |state| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        let mut worst = (BreakerState::Closed, known.began);
        for (state, changed) in breakers.map(StoreBreaker::state_and_change) {
            let is_worse = rank(state) > rank(worst.0);
            if is_worse {
                worst = (state, changed);
            } else if state == worst.0 {
                // Closed since the last of them is; failing since the first of them does.
                let both = [worst.1, changed];
                let since = match state {
                    BreakerState::Closed => both.into_iter().max(),
                    BreakerState::HalfOpen | BreakerState::Open => both.into_iter().min(),
                };
                worst.1 = since.unwrap_or(changed);
            }
        }
        let (state, changed) = worst;
        StoreHealth {
            state,
            failures: known.failures.load(Ordering::Relaxed),
            fallbacks: 0,
            last_error: known.last_error.lock().clone(),
            since: Duration::from_nanos(H::now().saturating_sub(changed)),
        }
    }

    /// Whether slices of the bucket under these keys may be asked for now, with others of its
    /// server. A lease call is never the probe that finds out whether a server is back: that is for
    /// a caller's own call.
    ///
    /// # Errors
    /// [`Error::Store`] if not; nothing is then to be sent.
    pub(crate) fn attempt_lease(&self, keys: &[Vec<u8>]) -> Result<CallAttempt, Error> {
        let node = self.store.route()?.node_breaker(keys);
        let breaker = self.breaker(&node);
        let attempt = breaker.attempt(H::now)?;
        if attempt.is_probe {
            breaker.abandoned(attempt);
            return Err(Error::Store("not asked before a call has found it well".into()));
        }
        Ok(CallAttempt { node, attempt })
    }

    /// Whether the permits of these keys may be asked for now. Unlike a lease call it may be the probe,
    /// because a caller waits for it.
    ///
    /// # Errors
    /// [`Error::Store`] if not; nothing is then to be sent.
    pub(crate) fn attempt_call(&self, keys: &[Vec<u8>]) -> Result<CallAttempt, Error> {
        let node = self.store.route()?.node_breaker(keys);
        let attempt = self.breaker(&node).attempt(H::now)?;
        Ok(CallAttempt { node, attempt })
    }

    /// Tells the breaker how calls that were sent together ended: with the first failure
    /// among them, with an answer, or unanswered.
    pub(crate) fn ended(&self, call: CallAttempt, failure: Option<&Error>, answered: bool) {
        let CallAttempt { node, attempt } = call;
        match failure {
            Some(error) => self.failed(&node, attempt, error),
            None if answered => self.succeeded(&node, attempt),
            None => self.breaker(&node).abandoned(attempt),
        }
    }
}
