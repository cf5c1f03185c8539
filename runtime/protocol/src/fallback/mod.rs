//! What a limiter does while its store fails: calls are kept from it by its breaker, and the
//! policy's answers are given instead.

mod fixed;
mod health;
mod leases;
mod policy;
mod share;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Attempt, BreakerState, Charge, Decision, Limit, Operation, Outcome, Source};

use crate::breaker::StoreBreaker;
use crate::deny_cache::forgetting;
use crate::error::Error;
use crate::keys::RedisKeys;
use crate::per_process::PerProcess;
use crate::request::Request;
use crate::store::{Ask, Host as _, Ready, Store, Way};
pub use health::StoreHealth;
pub use leases::LeaseAttempt;
pub use policy::OnStoreError;
use share::LocalShare;

/// A store, and what all who share it know of its failures.
#[derive(Clone)]
pub struct GuardedStore<S> {
    store: S,
    /// How long a refused key may be refused again without asking.
    keep_refusals: Duration,
    timeout: Duration,
    /// A forked child finds out for itself.
    known: Arc<PerProcess<Known>>,
}

struct Known {
    /// Of a store that is one server; the nodes of a cluster each have their own.
    breaker: StoreBreaker,
    failures: AtomicU64,
}

/// The breaker of the node that a call goes to; none where the store is one server.
type OfNode = Option<Arc<StoreBreaker>>;

impl<S: Store> GuardedStore<S> {
    /// A store whose calls each end within `timeout`.
    pub fn new(store: S, timeout: Duration) -> Self {
        let known = Arc::new(PerProcess::new(S::Host::process));
        Self { store, keep_refusals: Duration::ZERO, timeout, known }
    }

    /// The same store, for a limiter that may be refused so long without asking.
    #[must_use]
    pub fn keeping_refusals(self, keep_refusals: Duration) -> Self {
        Self { keep_refusals, ..self }
    }

    /// The store itself.
    pub const fn store(&self) -> &S {
        &self.store
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| Known {
            breaker: StoreBreaker::new(self.timeout),
            failures: AtomicU64::new(0),
        })
    }

    fn breaker<'a>(&'a self, of_node: &'a OfNode) -> &'a StoreBreaker {
        of_node.as_deref().unwrap_or_else(|| &self.known().breaker)
    }

    fn failed(&self, of_node: &OfNode, attempt: Attempt, error: &Error) {
        self.known().failures.fetch_add(1, Ordering::Relaxed);
        let (now, random) = (S::Host::now(), S::Host::random());
        self.breaker(of_node).failed(attempt, error, now, random);
    }

    /// The worst that a breaker of it does, and how many calls have failed.
    fn health(&self) -> (BreakerState, u64) {
        let nodes = self.store.breakers_of_nodes();
        let states = nodes.iter().map(|node| node.state()).chain([self.known().breaker.state()]);
        let worst = states.max_by_key(|state| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        let state = worst.unwrap_or(BreakerState::Closed);
        (state, self.known().failures.load(Ordering::Relaxed))
    }
}

/// One limiter's buckets in a store, and what it does when the store fails.
pub struct Guarded<S>(Arc<Inner<S>>);

impl<S> Clone for Guarded<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S> {
    store: GuardedStore<S>,
    limits: Arc<[Limit]>,
    policy: Policy,
    fallbacks: AtomicU64,
}

enum Policy {
    Raise,
    Allow,
    Deny,
    Local(LocalShare),
}

impl<S: Store> Guarded<S> {
    /// The buckets of a limiter with these limits.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number of peers out of bounds, or among whom the
    /// limits cannot be shared.
    pub fn new(
        store: GuardedStore<S>,
        limits: Arc<[Limit]>,
        on_store_error: OnStoreError,
    ) -> Result<Self, Error> {
        let policy = match on_store_error {
            OnStoreError::Raise => Policy::Raise,
            OnStoreError::Allow => Policy::Allow,
            OnStoreError::Deny => Policy::Deny,
            OnStoreError::Local { peers } => {
                Policy::Local(LocalShare::new(&limits, peers, S::Host::process)?)
            }
        };
        Ok(Self(Arc::new(Inner { store, limits, policy, fallbacks: AtomicU64::new(0) })))
    }

    /// Runs an operation on the buckets of `keys`, and calls `done` when the store has answered;
    /// at once where it is not asked.
    pub fn run(
        &self,
        keys: RedisKeys,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        let way = self.store().way();
        if let Some((keys, operation, sent)) = self.guard(&way, (keys, operation, done)) {
            let done = move |outcome| sent.answered(outcome);
            send(&way, prepare(&way, &self.0.limits, (keys, operation, done)));
        }
    }

    /// Runs operations one after the other, in as few trips as can be.
    pub fn run_all<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        asked: impl IntoIterator<Item = Ask<D>>,
    ) {
        let way = self.store().way();
        let ready = asked.into_iter().filter_map(|ask| {
            let (keys, operation, sent) = self.guard(&way, ask)?;
            let done = move |outcome| sent.answered(outcome);
            prepare(&way, &self.0.limits, (keys, operation, done))
        });
        // What is not sent is answered before anything is handed over.
        send(&way, ready.collect::<Vec<_>>());
    }

    /// Answers what the store is not to be asked; what it is, with who waits for the answer.
    ///
    /// A call that finds out whether the store is back is a caller's own: a request of another
    /// kind could be answered by a server that refuses the caller's.
    fn guard<D: FnOnce(Result<Outcome, Error>)>(
        &self,
        way: &Result<S::Way<'_>, Error>,
        (keys, operation, done): Ask<D>,
    ) -> Option<Ask<Sent<S, D>>> {
        match operation {
            Operation::Cancel(charge) if charge.source == Source::Fallback => {
                let all = self.0.policy.cancel(&keys, &charge, S::Host::now());
                done(Ok(Outcome::Cancelled(all)));
                return None;
            }
            _ => {}
        }
        // Before the breaker: it would take this for an answer of the store.
        if let Some(decision) = self.refuse(way, &keys, &operation) {
            done(Ok(Outcome::Decision(decision)));
            return None;
        }
        let of_node = way.as_ref().ok().and_then(|way| way.breaker_of_node(&keys));
        let breaker = self.0.store.breaker(&of_node);
        let attempt = match breaker.attempt(S::Host::now) {
            Ok(attempt) => attempt,
            Err(error) => {
                done(self.0.answer(&keys, operation, error, breaker));
                return None;
            }
        };
        let mut kept = RedisKeys::NONE;
        if let Policy::Local(share) = &self.0.policy {
            share.post(&keys, self, breaker);
            kept.clone_from(&keys);
        }
        let inner = Arc::clone(&self.0);
        let sent = Sent { inner, of_node, attempt, operation, keys: kept, done };
        Some((keys, operation, sent))
    }

    /// The refusal of a check that needs no asking.
    fn refuse(
        &self,
        way: &Result<S::Way<'_>, Error>,
        keys: &[Vec<u8>],
        operation: &Operation,
    ) -> Option<Decision> {
        let keep = self.0.store.keep_refusals;
        match (operation, keys, way) {
            _ if keep.is_zero() => None,
            (&Operation::Check { cost: cost @ 1.. }, [key], Ok(way)) => {
                way.refused().refuse(key, &self.0.limits, cost, keep, S::Host::now)
            }
            _ => None,
        }
    }

    /// The store itself.
    pub fn store(&self) -> &S {
        &self.0.store.store
    }

    /// How the store has done so far.
    pub fn health(&self) -> StoreHealth {
        let (state, failures) = self.0.store.health();
        StoreHealth { state, failures, fallbacks: self.0.fallbacks.load(Ordering::Relaxed) }
    }

    /// Charges the store for what was spent here while it failed; `failed` when it still does.
    fn charge(
        &self,
        keys: RedisKeys,
        limits: &Arc<[Limit]>,
        operation: Operation,
        failed: impl FnOnce(&LocalShare) + Send + 'static,
    ) {
        let inner = Arc::clone(&self.0);
        let done = move |outcome: Result<_, _>| {
            if let (Err(_), Policy::Local(share)) = (outcome, &inner.policy) {
                failed(share);
            }
        };
        let way = self.store().way();
        send(&way, prepare(&way, limits, (keys, operation, done)));
    }
}

/// What is to be sent; what cannot be is answered.
fn prepare<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
    way: &Result<impl Way, Error>,
    limits: &Arc<[Limit]>,
    (keys, operation, done): Ask<D>,
) -> Option<Ready> {
    let way = match way {
        Ok(way) => way,
        Err(error) => {
            done(Err(error.clone()));
            return None;
        }
    };
    let done = forgetting(way.refused(), &keys, &operation, done);
    let slot = way.slot(&keys);
    let request = Request::new(keys, Arc::clone(limits), operation);
    match slot.and_then(|slot| Ok((slot, request?))) {
        Ok((slot, request)) => Some((slot, request, done)),
        Err(error) => {
            done(Err(error));
            None
        }
    }
}

fn send(way: &Result<impl Way, Error>, requests: impl IntoIterator<Item = Ready>) {
    if let Ok(way) = way {
        way.send(requests);
    }
}

/// A call that the store is asked, and who waits for the answer.
struct Sent<S, D> {
    inner: Arc<Inner<S>>,
    of_node: OfNode,
    attempt: Attempt,
    operation: Operation,
    /// For the share; none where there is none.
    keys: RedisKeys,
    done: D,
}

impl<S: Store, D: FnOnce(Result<Outcome, Error>)> Sent<S, D> {
    /// Tells the breaker what came of it, and the caller; of a failure, what the policy says.
    fn answered(self, outcome: Result<Outcome, Error>) {
        let Self { inner, of_node, attempt, operation, keys, done } = self;
        let breaker = inner.store.breaker(&of_node);
        done(match outcome {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => {
                inner.store.failed(&of_node, attempt, &error);
                inner.answer(&keys, operation, error, breaker)
            }
            Ok(_) | Err(Error::CorruptBucket { .. }) => {
                breaker.succeeded(attempt);
                outcome
            }
            // A mistake in the arguments: nothing was sent.
            Err(_) => {
                breaker.abandoned(attempt);
                outcome
            }
        });
    }
}

impl<S: Store> Inner<S> {
    /// The policy's answer to what the store has not done.
    fn answer(
        &self,
        keys: &[Vec<u8>],
        operation: Operation,
        error: Error,
        breaker: &StoreBreaker,
    ) -> Result<Outcome, Error> {
        let outcome = match (&self.policy, operation) {
            (Policy::Raise, _) => Err(error),
            // Nothing has come back, which is the truth whatever the policy.
            (_, Operation::Cancel(_)) => Ok(Outcome::Cancelled(false)),
            // What cannot be kept is not answered as though it had been.
            (_, Operation::Reset) => Err(error),
            (Policy::Local(share), operation) => {
                Ok(share.run(keys, operation, breaker.outage(S::Host::now())))
            }
            (Policy::Allow, operation) => {
                fixed::allow(&self.limits, operation, S::Host::now(), error)
            }
            (Policy::Deny, operation) => {
                fixed::deny(&self.limits, operation, breaker.outage(S::Host::now()), error)
            }
        };
        if outcome.is_ok() {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

impl Policy {
    fn cancel(&self, keys: &[Vec<u8>], charge: &Charge, now: u64) -> bool {
        match self {
            Self::Local(share) => share.cancel(keys, charge, now),
            // Nothing was charged.
            _ => true,
        }
    }
}
