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
use std::time::Instant;

use tidegate_core::{Attempt, BreakerState, Limit, Operation, Outcome, Source};

use crate::answer::Awaited;
use crate::breaker::{self, StoreBreaker};
use crate::error::Error;
use crate::keys::RedisKeys;
use crate::redis::{Ask, RedisStore, Way};
pub use health::StoreHealth;
pub use policy::OnStoreError;
use share::LocalShare;

/// A store, and what all who share it know of its failures.
#[derive(Clone)]
pub(crate) struct GuardedStore {
    store: RedisStore,
    known: Arc<Known>,
}

struct Known {
    /// Of a store that is one server; the nodes of a cluster each have their own.
    breaker: StoreBreaker,
    failures: AtomicU64,
}

/// The breaker of the node that a call goes to; none where the store is one server.
type OfNode = Option<Arc<StoreBreaker>>;

impl GuardedStore {
    pub(crate) fn new(store: RedisStore, timeout: Duration) -> Self {
        let known = Known { breaker: StoreBreaker::new(timeout), failures: AtomicU64::new(0) };
        Self { store, known: Arc::new(known) }
    }

    /// The same store, for a limiter that may be refused so long without asking.
    pub(crate) fn keeping_refusals(mut self, keep_refusals: Duration) -> Self {
        self.store = self.store.keeping_refusals(keep_refusals);
        self
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.store.ping().await
    }

    fn breaker<'a>(&'a self, of_node: &'a OfNode) -> &'a StoreBreaker {
        of_node.as_deref().unwrap_or(&self.known.breaker)
    }

    fn failed(&self, of_node: &OfNode, attempt: Attempt, error: &Error) {
        self.known.failures.fetch_add(1, Ordering::Relaxed);
        self.breaker(of_node).failed(attempt, error);
    }

    /// The worst that a breaker of it does, and how many calls have failed.
    fn health(&self) -> (BreakerState, u64) {
        let nodes = self.store.breakers_of_nodes();
        let states = nodes.iter().map(|node| node.state()).chain([self.known.breaker.state()]);
        let worst = states.max_by_key(|state| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        let state = worst.unwrap_or(BreakerState::Closed);
        (state, self.known.failures.load(Ordering::Relaxed))
    }
}

/// One limiter's buckets in a store, and what it does when the store fails.
#[derive(Clone)]
pub(crate) struct Guarded(Arc<Inner>);

struct Inner {
    store: GuardedStore,
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

impl Guarded {
    /// # Errors
    /// [`Error::InvalidArgument`] for a number of peers out of bounds, or among whom the
    /// limits cannot be shared.
    pub(crate) fn new(
        store: GuardedStore,
        limits: Arc<[Limit]>,
        on_store_error: OnStoreError,
    ) -> Result<Self, Error> {
        let policy = match on_store_error {
            OnStoreError::Raise => Policy::Raise,
            OnStoreError::Allow => Policy::Allow,
            OnStoreError::Deny => Policy::Deny,
            OnStoreError::Local { peers } => Policy::Local(LocalShare::new(&limits, peers)?),
        };
        Ok(Self(Arc::new(Inner { store, limits, policy, fallbacks: AtomicU64::new(0) })))
    }

    /// Runs an operation on the buckets of `keys`, and calls `done` on the I/O thread; at once
    /// where the store is not asked.
    pub(crate) fn run(
        &self,
        keys: RedisKeys,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        let way = self.0.store.store.way();
        if let Some((keys, operation, sent)) = self.guard(&way, (keys, operation, done)) {
            way.run(keys, &self.0.limits, operation, move |outcome| sent.answered(outcome));
        }
    }

    /// Runs operations one after the other, in as few trips as can be.
    pub(crate) fn run_all<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        asked: impl IntoIterator<Item = Ask<D>>,
    ) {
        let way = self.0.store.store.way();
        let to_send = asked.into_iter().filter_map(|ask| {
            let (keys, operation, sent) = self.guard(&way, ask)?;
            Some((keys, operation, move |outcome| sent.answered(outcome)))
        });
        way.run_all(&self.0.limits, to_send);
    }

    /// Answers what the store is not to be asked; what it is, with who waits for the answer.
    ///
    /// A call that finds out whether the store is back is a caller's own: a request of another
    /// kind could be answered by a server that refuses the caller's.
    fn guard<D: FnOnce(Result<Outcome, Error>)>(
        &self,
        way: &Way<'_>,
        (keys, operation, done): Ask<D>,
    ) -> Option<Ask<Sent<D>>> {
        let operation = match operation {
            Operation::Cancel(slot) if slot.decision.source == Source::Fallback => {
                let all = self.0.policy.cancel(&keys, slot, breaker::now());
                done(Ok(Outcome::Cancelled(all)));
                return None;
            }
            operation => operation,
        };
        // Before the breaker: it would take this for an answer of the store.
        if let Some(decision) = way.refuse(&keys, &self.0.limits, &operation) {
            done(Ok(Outcome::Decision(decision)));
            return None;
        }
        let asked = Asked::of(&operation);
        let of_node = self.0.store.store.breaker_of_node(&keys);
        let breaker = self.0.store.breaker(&of_node);
        let attempt = match breaker.attempt() {
            Ok(attempt) => attempt,
            Err(error) => {
                done(self.0.answer(&keys, asked, error, breaker));
                return None;
            }
        };
        let mut kept = RedisKeys::NONE;
        if let Policy::Local(share) = &self.0.policy {
            share.post(&keys, self, breaker);
            kept.clone_from(&keys);
        }
        let sent = Sent { inner: Arc::clone(&self.0), of_node, attempt, asked, keys: kept, done };
        Some((keys, operation, sent))
    }

    /// Waits for an answer of the store; not for ever, where the waiting thread may be the one
    /// that is to do the I/O.
    pub(crate) fn wait<T>(&self, awaited: Awaited<T>) -> Result<T, Error> {
        /// For a thread that is busy, and answers late.
        const SPARE: Duration = Duration::from_secs(1);
        let Some(longest) = self.0.store.store.longest_wait() else { return awaited.wait() };
        let deadline = Instant::now() + longest + SPARE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match awaited.within(left) {
                Some(answer) => return answer,
                None if left.is_zero() => return Err(Error::StoreTimeout { after: longest }),
                None => {}
            }
        }
    }

    pub(crate) fn health(&self) -> StoreHealth {
        let (state, failures) = self.0.store.health();
        StoreHealth { state, failures, fallbacks: self.0.fallbacks.load(Ordering::Relaxed) }
    }

    /// Whether what the policy grants is nowhere charged.
    pub(crate) fn grants_uncharged(&self) -> bool {
        matches!(self.0.policy, Policy::Allow)
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
        self.0.store.store.way().run(keys, limits, operation, move |outcome| {
            if let (Err(_), Policy::Local(share)) = (outcome, &inner.policy) {
                failed(share);
            }
        });
    }
}

/// A call that the store is asked, and who waits for the answer.
struct Sent<D> {
    inner: Arc<Inner>,
    of_node: OfNode,
    attempt: Attempt,
    asked: Asked,
    /// For the share; none where there is none.
    keys: RedisKeys,
    done: D,
}

impl<D: FnOnce(Result<Outcome, Error>)> Sent<D> {
    /// Tells the breaker what came of it, and the caller; of a failure, what the policy says.
    fn answered(self, outcome: Result<Outcome, Error>) {
        let Self { inner, of_node, attempt, asked, keys, done } = self;
        let breaker = inner.store.breaker(&of_node);
        done(match outcome {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => {
                inner.store.failed(&of_node, attempt, &error);
                inner.answer(&keys, asked, error, breaker)
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

impl Inner {
    /// The policy's answer to what the store has not done.
    fn answer(
        &self,
        keys: &[Vec<u8>],
        asked: Asked,
        error: Error,
        breaker: &StoreBreaker,
    ) -> Result<Outcome, Error> {
        let outcome = match (&self.policy, asked) {
            (Policy::Raise, _) => Err(error),
            // Nothing has come back, which is the truth whatever the policy.
            (_, Asked::Cancel) => Ok(Outcome::Cancelled(false)),
            // What cannot be kept is not answered as though it had been.
            (_, Asked::Reset) => Err(error),
            (Policy::Local(share), asked) => Ok(share.run(keys, asked, breaker.outage())),
            (Policy::Allow, asked) => fixed::allow(&self.limits, asked, breaker::now(), error),
            (Policy::Deny, asked) => fixed::deny(&self.limits, asked, breaker.outage(), error),
        };
        if outcome.is_ok() {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

impl Policy {
    fn cancel(&self, keys: &[Vec<u8>], slot: tidegate_core::Reservation, now: u64) -> bool {
        match self {
            Self::Local(share) => share.cancel(keys, slot, now),
            // Nothing was charged.
            _ => true,
        }
    }
}

/// What is left of an operation once the store has taken it.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Check { cost: u64 },
    Reserve { cost: u64, max_wait: u64 },
    Settle { charged: u64, actual: u64 },
    Hold { wait: u64 },
    Reset,
    Cancel,
}

impl Asked {
    fn of(operation: &Operation) -> Self {
        match *operation {
            Operation::Check { cost } => Self::Check { cost },
            Operation::Reserve { cost, max_wait } => Self::Reserve { cost, max_wait },
            Operation::Settle { charged, actual } => Self::Settle { charged, actual },
            Operation::Credit { tokens } => Self::Settle { charged: tokens, actual: 0 },
            Operation::Hold { wait } => Self::Hold { wait },
            Operation::Cancel(_) => Self::Cancel,
            // Also of operations yet to come: they are refused, not made up.
            _ => Self::Reset,
        }
    }
}
