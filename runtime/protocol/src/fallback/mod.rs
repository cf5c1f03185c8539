//! What a limiter does while its store fails: the breaker keeps calls from it, and the policy
//! answers them instead.

mod fixed;
mod guarded_store;
mod health;
mod open_call;
mod policy;
mod share;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tidegate_core::{Attempt, Charge, Cost, Limit, Operation, Outcome, Source, TieredDecision};

use crate::breaker::StoreBreaker;
use crate::error::Error;
use crate::keys::RedisKeys;
use crate::request::Request;
use crate::store::{Host, Route, Store};
use crate::work::{Addressed, Work};
pub(crate) use guarded_store::CallAttempt;
pub use guarded_store::GuardedStore;
use guarded_store::NodeBreaker;
pub use health::{StoreChange, StoreHealth, StoreNotice};
pub(crate) use open_call::OpenCall;
pub use policy::OnStoreError;
use share::LocalShare;

/// One limiter's buckets in a store, and what it does when the store fails.
pub struct Guarded<H>(Arc<Inner<H>>);

/// An operation on the buckets of `keys`, and the callback for its outcome.
pub struct Ask<D> {
    /// The keys in Redis.
    pub keys: RedisKeys,
    /// The operation.
    pub operation: Operation,
    /// Gets the outcome.
    pub done: D,
}

impl<H> Clone for Guarded<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<H> {
    store: GuardedStore<H>,
    limits: Arc<[Limit]>,
    on_store_error: OnStoreError,
    policy: Policy,
    /// One count for the limiter and for its calls with limits of their own.
    fallbacks: Arc<AtomicU64>,
}

enum Policy {
    Raise,
    Allow,
    Deny,
    Local(LocalShare),
}

impl<H: Host> Guarded<H> {
    /// The buckets of a limiter with these limits.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number of peers out of bounds, or among whom the
    /// limits cannot be shared.
    pub fn new(
        store: GuardedStore<H>,
        limits: Arc<[Limit]>,
        on_store_error: OnStoreError,
    ) -> Result<Self, Error> {
        Self::counting(store, limits, on_store_error, Arc::default())
    }

    /// The same buckets under other limits, with a local share of its own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_limits(&self, limits: Arc<[Limit]>) -> Result<Self, Error> {
        let Inner { store, on_store_error, fallbacks, .. } = &*self.0;
        Self::counting(store.clone(), limits, *on_store_error, Arc::clone(fallbacks))
    }

    /// Whether nothing is lost when this is dropped: no local share owes the store anything.
    pub fn is_idle(&self) -> bool {
        match &self.0.policy {
            Policy::Local(share) => share.is_idle(H::now()),
            Policy::Raise | Policy::Allow | Policy::Deny => true,
        }
    }

    fn counting(
        store: GuardedStore<H>,
        limits: Arc<[Limit]>,
        on_store_error: OnStoreError,
        fallbacks: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let policy = match on_store_error {
            OnStoreError::Raise => Policy::Raise,
            OnStoreError::Allow => Policy::Allow,
            OnStoreError::Deny => Policy::Deny,
            OnStoreError::Local { peers } => {
                Policy::Local(LocalShare::new(&limits, peers, H::process)?)
            }
        };
        Ok(Self(Arc::new(Inner { store, limits, on_store_error, policy, fallbacks })))
    }

    /// Runs an operation on the buckets of `keys`, and calls `done` when the store has answered;
    /// at once where it is not asked.
    pub fn run(
        &self,
        keys: RedisKeys,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        let route = self.store().route();
        let mut ready = self.ready(&route, Ask { keys, operation, done });
        send(&route, &mut core::iter::from_fn(|| ready.take()));
    }

    /// Runs operations one after the other, in as few batches as possible.
    pub fn run_all<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        asked: impl IntoIterator<Item = Ask<D>>,
    ) {
        let route = self.store().route();
        let ready = asked.into_iter().filter_map(|ask| self.ready(&route, ask));
        // Whatever is not sent is answered before anything is handed over.
        let ready: Vec<_> = ready.collect();
        send(&route, &mut ready.into_iter());
    }

    /// The work of an operation that is to be sent; any other is answered.
    fn ready<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        route: &Result<&dyn Route, Error>,
        ask: Ask<D>,
    ) -> Option<Addressed> {
        let Ask { keys, operation, done: sent } = self.guard(route, ask)?;
        let done = move |outcome| sent.answered(outcome);
        prepare(route, &self.0.limits, Ask { keys, operation, done })
    }

    /// Answers what the store is not to be asked. Anything else comes back, with a callback that
    /// tells the breaker and applies the policy.
    ///
    /// The probe that finds out whether the store is back is a caller's own call: a server might
    /// answer a request of another kind and still refuse the caller's.
    fn guard<D: FnOnce(Result<Outcome, Error>)>(
        &self,
        route: &Result<&dyn Route, Error>,
        Ask { keys, operation, done }: Ask<D>,
    ) -> Option<Ask<Sent<H, D>>> {
        match operation {
            Operation::Cancel(charge) if charge.source == Source::Fallback => {
                let all = self.0.policy.cancel(&keys, &charge, H::now());
                done(Ok(Outcome::Cancelled(all)));
                return None;
            }
            _ => {}
        }
        // Before the breaker: it would take this for an answer of the store.
        if let Some(decision) = self.refuse(route, &keys, &operation) {
            done(Ok(Outcome::Decision(decision)));
            return None;
        }
        let node = route.as_ref().ok().and_then(|route| route.node_breaker(&keys));
        let breaker = self.0.store.breaker(&node);
        let attempt = match breaker.attempt(H::now) {
            Ok(attempt) => attempt,
            Err(error) => {
                done(self.0.answer(&keys, operation, error, breaker));
                return None;
            }
        };
        let mut kept = RedisKeys::NONE;
        if let Policy::Local(share) = &self.0.policy {
            share.charge_deferred(&keys, self, breaker);
            kept.clone_from(&keys);
        }
        let inner = Arc::clone(&self.0);
        let done = Sent { inner, node, attempt, operation, keys: kept, done };
        Some(Ask { keys, operation, done })
    }

    /// The refusal of a check or a peek that needs no asking.
    fn refuse(
        &self,
        route: &Result<&dyn Route, Error>,
        keys: &[Vec<u8>],
        operation: &Operation,
    ) -> Option<TieredDecision> {
        let keep = self.0.store.keep_refusals;
        match (operation, keys, route) {
            _ if keep.is_zero() => None,
            (&(Operation::Check { cost } | Operation::Peek { cost }), [key], Ok(route))
                if !cost.is_zero() =>
            {
                route.server().refused.refuse(key, &self.0.limits, cost, keep, H::now)
            }
            _ => None,
        }
    }

    /// The store behind its breaker.
    pub fn guarded_store(&self) -> &GuardedStore<H> {
        &self.0.store
    }

    /// The store itself.
    pub fn store(&self) -> &dyn Store {
        self.0.store.store()
    }

    /// How the store has done so far.
    pub fn health(&self) -> StoreHealth {
        let fallbacks = self.0.fallbacks.load(Ordering::Relaxed);
        StoreHealth { fallbacks, ..self.0.store.health() }
    }

    /// Asks the store once whether it serves this limiter, by a script that reads the bucket of
    /// `keys` and writes nothing. A `PING` would prove less: a server may answer it and still refuse
    /// the script. Neither the breaker nor the policy has a part in it.
    pub fn ping(&self, keys: RedisKeys, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        let done = |outcome: Result<Outcome, Error>| {
            done(match outcome {
                // The server has answered, whatever the key holds.
                Ok(_) | Err(Error::CorruptBucket { .. }) => Ok(()),
                Err(error) => Err(error),
            });
        };
        let operation = Operation::Peek { cost: Cost::default() };
        let route = self.store().route();
        let mut ready = prepare(&route, &self.0.limits, Ask { keys, operation, done });
        send(&route, &mut core::iter::from_fn(|| ready.take()));
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
        let route = self.store().route();
        let mut ready = prepare(&route, limits, Ask { keys, operation, done });
        send(&route, &mut core::iter::from_fn(|| ready.take()));
    }
}

/// The work of an operation; one that cannot be sent is answered.
fn prepare<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
    route: &Result<&dyn Route, Error>,
    limits: &Arc<[Limit]>,
    Ask { keys, operation, done }: Ask<D>,
) -> Option<Addressed> {
    let route = match route {
        Ok(route) => route,
        Err(error) => {
            done(Err(error.clone()));
            return None;
        }
    };
    let done = route.server().forgetting(&keys, &operation, done);
    let slot = route.slot(&keys);
    let request = Request::new(keys, Arc::clone(limits), operation);
    match slot.and_then(|slot| Ok((slot, request?))) {
        Ok((slot, request)) => Some(Addressed { slot, work: Work::Operation { request, done } }),
        Err(error) => {
            done(Err(error));
            None
        }
    }
}

fn send(route: &Result<&dyn Route, Error>, work: &mut dyn Iterator<Item = Addressed>) {
    if let Ok(route) = route {
        route.send(work);
    }
}

/// An operation that was sent, and the callback for its outcome.
struct Sent<H, D> {
    inner: Arc<Inner<H>>,
    node: NodeBreaker,
    attempt: Attempt,
    operation: Operation,
    /// The keys, for the local share; none under any other policy.
    keys: RedisKeys,
    done: D,
}

impl<H: Host, D: FnOnce(Result<Outcome, Error>)> Sent<H, D> {
    /// Tells the breaker and the caller how the call ended. A failure is answered by the policy.
    fn answered(self, outcome: Result<Outcome, Error>) {
        let Self { inner, node, attempt, operation, keys, done } = self;
        let breaker = inner.store.breaker(&node);
        done(match outcome {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => {
                inner.store.failed(&node, attempt, &error);
                inner.answer(&keys, operation, error, breaker)
            }
            Ok(_) | Err(Error::CorruptBucket { .. }) => {
                inner.store.succeeded(&node, attempt);
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

impl<H: Host> Inner<H> {
    /// The policy's answer to an operation that the store has not done.
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
                Ok(share.run(keys, operation, breaker.outage(H::now())))
            }
            (Policy::Allow, operation) => fixed::allow(&self.limits, operation, H::now(), error),
            (Policy::Deny, operation) => {
                fixed::deny(&self.limits, operation, breaker.outage(H::now()), error)
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
