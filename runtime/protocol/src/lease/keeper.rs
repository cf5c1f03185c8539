//! Keeps the slices of one limiter's buckets: spends them, renews them, and gives them back.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use tidegate_core::{Decision, Grant, LeaseAsk, Next, Slice, SpendResult};

use super::{LeaseCall, LeasePlan};
use crate::error::Error;
use crate::fallback::{GuardedStore, LeaseAttempt};
use crate::lock::{Mutex, RwLock};
use crate::store::Host;
use crate::work::{Addressed, GrantDone, Work};

/// The leases of one limiter in one process: a forked child makes a keeper of its own.
///
/// A host calls [`spend`](Self::spend) for each check, and [`renew`](Self::renew) when the time
/// that it last answered is over, or when `wake` was called. The keeper does no I/O of its own:
/// its calls go to the store like any other request.
pub struct LeaseKeeper<H: Host> {
    store: GuardedStore<H>,
    plan: LeasePlan,
    /// Nanoseconds on a monotonic clock, the fastest that the host has.
    clock: fn() -> u64,
    /// The name by which the bucket knows this process. It is drawn at the first use, because some
    /// hosts have no randomness before the first request.
    id: OnceLock<u64>,
    slices: RwLock<HashMap<Box<[u8]>, Arc<Leased>, foldhash::fast::RandomState>>,
    /// The slices to look at before the next round.
    urgent: Mutex<Vec<Arc<Leased>>>,
    /// When all slices were last looked at.
    last_round: AtomicU64,
    is_closed: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// A key's slice, or the wish for one.
struct Leased {
    key: Box<[u8]>,
    state: Mutex<State>,
}

struct State {
    slice: Slice,
    /// Held while the limiter is closing and a request of the slice is still unanswered. The grant
    /// goes straight back then.
    closing: Option<Arc<OnDrop>>,
}

/// A lease call, and the slice that its grant is for; none where a slice is given up.
struct Question {
    call: LeaseCall,
    leased: Option<Arc<Leased>>,
    closing: Option<Arc<OnDrop>>,
}

impl<H: Host> LeaseKeeper<H> {
    /// A keeper without slices. It calls `wake`, on any thread, when [`renew`](Self::renew) is to
    /// be called before the time that it last answered.
    pub fn new(
        store: GuardedStore<H>,
        plan: LeasePlan,
        clock: fn() -> u64,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            plan,
            clock,
            id: OnceLock::new(),
            slices: RwLock::default(),
            urgent: Mutex::default(),
            last_round: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    /// The decision of a check, if a slice decides it. `None` where the bucket must be asked:
    /// without a slice, and for a cost that it never spends at once.
    pub fn spend(&self, key: &[u8], cost: u64) -> Option<Decision> {
        if !self.plan.covers(cost) {
            return None;
        }
        let slices = self.slices.read();
        let Some(leased) = slices.get(key) else {
            drop(slices);
            self.watch(key, cost);
            return None;
        };
        let now = (self.clock)();
        let mut state = leased.state.lock();
        let spent = state.slice.spend(now, cost);
        let is_urgent = !matches!(spent, SpendResult::Allowed { .. }) && state.slice.is_urgent(now);
        drop(state);
        if is_urgent {
            self.hurry(leased);
        }
        self.plan.decision(spent)
    }

    /// [`spend`](Self::spend) for a caller that waits for its tokens: `None` also where the slice
    /// refuses, because the caller then joins the line of the bucket. A host calls this only while
    /// nobody waits for the key.
    pub fn acquire(&self, key: &[u8], cost: u64) -> Option<Decision> {
        self.spend(key, cost).filter(|decision| decision.allowed)
    }

    /// What [`spend`](Self::spend) would answer. Nothing is spent, and the key does not become one
    /// that is asked for.
    pub fn peek(&self, key: &[u8], cost: u64) -> Option<Decision> {
        if !self.plan.covers(cost) {
            return None;
        }
        let leased = self.slices.read().get(key).map(Arc::clone)?;
        let spent = leased.state.lock().slice.peek((self.clock)(), cost);
        self.plan.decision(spent)
    }

    /// Notes the bucket's own answer to a check that no slice decided.
    pub fn answered_directly(&self, key: &[u8], cost: u64, allowed: bool) {
        if let Some(leased) = self.slices.read().get(key) {
            leased.state.lock().slice.answered_directly((self.clock)(), cost, allowed);
        }
    }

    /// Asks for all slices that are due, and answers when to call this again; `None` while no key
    /// is watched.
    pub fn renew(self: &Arc<Self>) -> Option<Duration> {
        let now = (self.clock)();
        let mut due = core::mem::take(&mut *self.urgent.lock());
        if now >= self.next_round() {
            self.last_round.store(now, Ordering::Relaxed);
            due = self.slices.read().values().map(Arc::clone).collect();
        }
        self.send(due.into_iter().filter_map(|leased| self.next(leased, now)));
        self.renew_in()
    }

    /// The time until [`renew`](Self::renew) is to be called; `None` while no key is watched.
    pub fn renew_in(&self) -> Option<Duration> {
        if self.slices.read().is_empty() {
            return None;
        }
        if !self.urgent.lock().is_empty() {
            return Some(Duration::ZERO);
        }
        Some(Duration::from_nanos(self.next_round().saturating_sub((self.clock)())))
    }

    /// Gives all slices back, and calls `done` when the store has answered or its timeout is over.
    /// Later checks are not leased.
    pub fn give_back(self: &Arc<Self>, done: impl FnOnce() + Send + Sync + 'static) {
        self.is_closed.store(true, Ordering::Release);
        let closing = Arc::new(OnDrop(Some(Box::new(done))));
        let slices = core::mem::take(&mut *self.slices.write());
        let now = (self.clock)();
        let leave = |leased: Arc<Leased>| {
            let mut state = leased.state.lock();
            if state.slice.is_asking() {
                state.closing = Some(Arc::clone(&closing));
                return None;
            }
            let returned = state.slice.has_asked().then(|| state.slice.leave(now))?;
            Some(self.leaving(&leased.key, returned, Some(Arc::clone(&closing))))
        };
        self.send(slices.into_values().filter_map(leave));
    }

    /// Watches a key that was not known and has just been asked for.
    #[cold]
    fn watch(&self, key: &[u8], cost: u64) {
        let now = (self.clock)();
        let mut slices = self.slices.write();
        let is_full = slices.len() >= LeasePlan::MAX_KEYS && !slices.contains_key(key);
        if is_full || self.is_closed.load(Ordering::Acquire) {
            return;
        }
        let is_first = slices.is_empty();
        let leased = slices.entry(key.into()).or_insert_with(|| {
            let slice = Slice::new(*self.plan.terms(), now);
            Arc::new(Leased { key: key.into(), state: Mutex::new(State { slice, closing: None }) })
        });
        leased.state.lock().slice.spend(now, cost);
        drop(slices);
        if is_first {
            (self.wake)();
        }
    }

    fn hurry(&self, leased: &Arc<Leased>) {
        let mut urgent = self.urgent.lock();
        if urgent.len() < LeasePlan::MAX_KEYS {
            urgent.push(Arc::clone(leased));
        }
        drop(urgent);
        (self.wake)();
    }

    /// Each process looks at its slices at another interval, so that a fleet does not renew in
    /// step.
    fn next_round(&self) -> u64 {
        let interval = self.plan.terms().tick(self.id());
        self.last_round.load(Ordering::Relaxed).saturating_add(interval)
    }

    fn id(&self) -> u64 {
        *self.id.get_or_init(H::random)
    }

    /// The call to send for a slice, if any.
    fn next(&self, leased: Arc<Leased>, now: u64) -> Option<Question> {
        let mut state = leased.state.lock();
        match state.slice.next(now) {
            Next::Nothing => None,
            Next::Ask => {
                let ask = state.slice.ask(now);
                drop(state);
                let call = self.plan.call(self.id(), &leased.key, &ask);
                Some(Question { call, leased: Some(leased), closing: None })
            }
            Next::Leave => {
                let returned = state.slice.leave(now);
                drop(state);
                Some(self.leaving(&leased.key, returned, None))
            }
            Next::Forget => {
                drop(state);
                self.slices.write().remove(&leased.key);
                None
            }
        }
    }

    fn leaving(&self, key: &[u8], returned: u64, closing: Option<Arc<OnDrop>>) -> Question {
        let ask = LeaseAsk { returned, ..LeaseAsk::default() };
        Question { call: self.plan.call(self.id(), key, &ask), leased: None, closing }
    }

    /// Sends calls, those of one hash slot together: no slot waits for another one's server.
    fn send(self: &Arc<Self>, questions: impl Iterator<Item = Question>) {
        let mut by_slot: BTreeMap<u16, Vec<Question>> = BTreeMap::new();
        let route = self.store.store().route();
        for question in questions {
            let slot =
                route.as_ref().map_or(0, |route| route.slot(&question.call.keys).unwrap_or(0));
            by_slot.entry(slot).or_default().push(question);
        }
        for (slot, questions) in by_slot {
            let Some(first) = questions.first() else { continue };
            let round = self.store.attempt_lease(&first.call.keys).map(|attempt| {
                let (answered, failure) = (AtomicBool::new(false), OnceLock::new());
                Arc::new(Round {
                    store: self.store.clone(),
                    attempt: Some(attempt),
                    answered,
                    failure,
                })
            });
            match (&route, round) {
                (Ok(route), Ok(round)) => {
                    let work = |Question { call, leased, closing }| {
                        let keeper = Arc::downgrade(self);
                        let asked = Asked { keeper, leased, round: Arc::clone(&round), closing };
                        let done: GrantDone = Box::new(move |grant| asked.answered(grant));
                        Addressed { slot, work: Work::Lease { call: Box::new(call), done } }
                    };
                    route.send(&mut questions.into_iter().map(work));
                }
                _ => {
                    let leased = questions.into_iter().filter_map(|question| question.leased);
                    leased.for_each(|leased| leased.state.lock().slice.failed());
                }
            }
        }
    }

    /// Takes the answer to a slice's request.
    fn take(self: &Arc<Self>, leased: &Leased, grant: &Result<Grant, Error>) {
        let now = (self.clock)();
        let mut state = leased.state.lock();
        match grant {
            Ok(grant) => state.slice.granted(now, grant),
            // A check that finds no slice asks the bucket, and is told.
            Err(_) => state.slice.failed(),
        }
        if let Some(closing) = state.closing.take() {
            let returned = state.slice.leave(now);
            drop(state);
            self.send(core::iter::once(self.leaving(&leased.key, returned, Some(closing))));
        }
    }
}

/// The callback of a lease call. A slice whose call is dropped unanswered counts as failed, so that
/// it asks again.
struct Asked<H: Host> {
    keeper: Weak<LeaseKeeper<H>>,
    leased: Option<Arc<Leased>>,
    round: Arc<Round<H>>,
    closing: Option<Arc<OnDrop>>,
}

impl<H: Host> Asked<H> {
    fn answered(mut self, grant: Result<Grant, Error>) {
        self.round.note(&grant);
        if let Some((leased, keeper)) = self.leased.take().zip(self.keeper.upgrade()) {
            keeper.take(&leased, &grant);
        }
        drop(self.closing.take());
    }
}

impl<H: Host> Drop for Asked<H> {
    fn drop(&mut self) {
        if let Some(leased) = self.leased.take() {
            leased.state.lock().slice.failed();
        }
    }
}

/// Calls that were sent together: the breaker is told once how they ended.
struct Round<H: Host> {
    store: GuardedStore<H>,
    attempt: Option<LeaseAttempt>,
    answered: AtomicBool,
    failure: OnceLock<Error>,
}

impl<H: Host> Round<H> {
    fn note(&self, grant: &Result<Grant, Error>) {
        self.answered.store(true, Ordering::Relaxed);
        if let Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) = grant {
            // The first failure stays.
            let _ = self.failure.set(error.clone());
        }
    }
}

impl<H: Host> Drop for Round<H> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.store.leased(attempt, self.failure.get(), self.answered.load(Ordering::Relaxed));
        }
    }
}

/// Runs a callback when the last holder lets go.
struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}
