//! Keeps the slices and budgets of one limiter's buckets: spends them, renews them, and gives them
//! back.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use tidegate_core::{Cost, Decision, Grant, LeaseAsk, Next, Operation, Outcome, TieredDecision};

use super::leased::{Leased, OnDrop};
use super::{LeaseCall, LeasePlan};
use crate::error::Error;
use crate::fallback::{CallAttempt, GuardedStore};
use crate::keys::RedisKeys;
use crate::lock::{Mutex, RwLock};
use crate::store::{Host, Route};
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

/// A call for a slice or a budget, and the key that its answer is for; none where nothing follows from
/// the answer.
struct Question {
    call: QuestionCall,
    leased: Option<Arc<Leased>>,
    closing: Option<Arc<OnDrop>>,
}

enum QuestionCall {
    /// A slice is taken, renewed or given back.
    Slice(LeaseCall),
    /// A budget is taken, looked after or given back.
    Budget(RedisKeys, Operation),
}

impl QuestionCall {
    fn keys(&self) -> &[Vec<u8>] {
        match self {
            Self::Slice(call) => &call.keys,
            Self::Budget(keys, _) => keys,
        }
    }
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

    /// The decision of a check, if a slice decides it or a budget pays for it. `None` where the bucket
    /// must be asked: without either, for a cost that a slice never spends at once, and for one that
    /// the budget has not.
    pub fn spend(&self, key: &[u8], cost: &Cost) -> Option<Decision> {
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
        let (decision, is_urgent) = leased.state.lock().spend(&self.plan, now, cost);
        if is_urgent {
            self.hurry(leased);
        }
        decision
    }

    /// [`spend`](Self::spend) for a caller that waits for its tokens: `None` also where the slice
    /// refuses, because the caller then joins the line of the bucket. A host calls this only while
    /// nobody waits for the key.
    pub fn acquire(&self, key: &[u8], cost: &Cost) -> Option<Decision> {
        self.spend(key, cost).filter(|decision| decision.allowed)
    }

    /// What [`spend`](Self::spend) would answer. Nothing is spent, and the key does not become one
    /// that is asked for.
    pub fn peek(&self, key: &[u8], cost: &Cost) -> Option<Decision> {
        if !self.plan.covers(cost) {
            return None;
        }
        let leased = self.slices.read().get(key).map(Arc::clone)?;
        let state = leased.state.lock();
        state.peek(&self.plan, (self.clock)(), cost)
    }

    /// Notes the bucket's own answer to a check that no slice decided and no budget paid; `None` if it
    /// gave none.
    pub fn answered_directly(&self, key: &[u8], cost: &Cost, answer: Option<&TieredDecision>) {
        if let Some(leased) = self.slices.read().get(key) {
            let now = (self.clock)();
            leased.state.lock().answered_directly(&self.plan, now, cost, answer);
        }
    }

    /// Drops the budget of a key whose bucket is held or reset by this process, whose tokens were taken
    /// before. A host calls this before it asks the store for that, and when the store has answered.
    pub fn discard_budget(&self, key: &[u8]) {
        if let Some(leased) = self.slices.read().get(key)
            && let Some(budget) = &mut leased.state.lock().budget
        {
            budget.discard();
        }
    }

    /// Asks for all slices and budgets that are due, and answers when to call this again; `None` while no key
    /// is watched.
    pub fn renew(self: &Arc<Self>) -> Option<Duration> {
        let now = (self.clock)();
        let mut due = core::mem::take(&mut *self.urgent.lock());
        if now >= self.next_round() {
            self.last_round.store(now, Ordering::Relaxed);
            due = self.slices.read().values().map(Arc::clone).collect();
        }
        let questions = due.into_iter().flat_map(|leased| {
            let of_budget = self.next_of_budget(&leased, now);
            of_budget.into_iter().chain(self.next(leased, now))
        });
        self.send(questions);
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

    /// Gives all slices and budgets back, and calls `done` when the store has answered or its timeout is over.
    /// Later checks are not leased.
    pub fn give_back(self: &Arc<Self>, done: impl FnOnce() + Send + Sync + 'static) {
        self.is_closed.store(true, Ordering::Release);
        let closing = Arc::new(OnDrop(Some(Box::new(done))));
        let slices = core::mem::take(&mut *self.slices.write());
        let now = (self.clock)();
        let leave = |leased: Arc<Leased>| {
            let mut state = leased.state.lock();
            let of_budget = state
                .close_budget(now, &closing)
                .map(|operation| self.asking(&leased, operation, Some(Arc::clone(&closing))));
            let of_slice = if state.slice.is_asking() {
                state.closing = Some(Arc::clone(&closing));
                None
            } else {
                state.slice.has_asked().then(|| state.slice.leave(now))
            };
            drop(state);
            let of_slice = of_slice
                .map(|returned| self.leaving(&leased.key, returned, Some(Arc::clone(&closing))));
            of_budget.into_iter().chain(of_slice)
        };
        self.send(slices.into_values().flat_map(leave));
    }

    /// Watches a key that was not known and has just been asked for.
    #[cold]
    fn watch(&self, key: &[u8], cost: &Cost) {
        let now = (self.clock)();
        let mut slices = self.slices.write();
        let is_full = slices.len() >= LeasePlan::MAX_KEYS && !slices.contains_key(key);
        if is_full || self.is_closed.load(Ordering::Acquire) {
            return;
        }
        let is_first = slices.is_empty();
        let new = || Arc::new(Leased::new(key, &self.plan, now));
        let leased = slices.entry(key.into()).or_insert_with(new);
        leased.state.lock().spend(&self.plan, now, cost);
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

    /// The call to send for a budget, if any.
    fn next_of_budget(&self, leased: &Arc<Leased>, now: u64) -> Option<Question> {
        let operation = leased.state.lock().next_of_budget(now)?;
        Some(self.asking(leased, operation, None))
    }

    /// The call to send for a slice, if any.
    fn next(&self, leased: Arc<Leased>, now: u64) -> Option<Question> {
        let mut state = leased.state.lock();
        match state.next(now) {
            Next::Nothing => None,
            Next::Ask => {
                let ask = state.slice.ask(now);
                drop(state);
                let call = QuestionCall::Slice(self.plan.call(self.id(), &leased.key, &ask));
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

    fn asking(
        &self,
        leased: &Arc<Leased>,
        operation: Operation,
        closing: Option<Arc<OnDrop>>,
    ) -> Question {
        let call = QuestionCall::Budget(self.plan.stored(&leased.key), operation);
        Question { call, leased: Some(Arc::clone(leased)), closing }
    }

    fn leaving(&self, key: &[u8], returned: u64, closing: Option<Arc<OnDrop>>) -> Question {
        let ask = LeaseAsk { returned, ..LeaseAsk::default() };
        let call = QuestionCall::Slice(self.plan.call(self.id(), key, &ask));
        Question { call, leased: None, closing }
    }

    /// Sends calls, those of one hash slot together: no slot waits for another one's server.
    fn send(self: &Arc<Self>, questions: impl Iterator<Item = Question>) {
        let mut by_slot: BTreeMap<u16, Vec<Question>> = BTreeMap::new();
        let route = self.store.store().route();
        for question in questions {
            let keys = question.call.keys();
            let slot = route.as_ref().map_or(0, |route| route.slot(keys).unwrap_or(0));
            by_slot.entry(slot).or_default().push(question);
        }
        for (slot, questions) in by_slot {
            let Some(first) = questions.first() else { continue };
            let round = self.store.attempt_lease(first.call.keys()).map(|attempt| {
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
                    let work = |question| self.work(*route, question, &round);
                    let work = questions.into_iter().filter_map(work);
                    route.send(&mut work.map(|work| Addressed { slot, work }));
                }
                _ => questions.into_iter().for_each(Question::failed),
            }
        }
    }

    /// The work of a question; `None` if it is never sent.
    fn work(
        self: &Arc<Self>,
        route: &dyn Route,
        Question { call, leased, closing }: Question,
        round: &Arc<Round<H>>,
    ) -> Option<Work> {
        // While the limiter closes, its owner may drop it before the last answer comes.
        let closing = closing.map(|closing| (closing, Arc::clone(self)));
        let (keeper, round) = (Arc::downgrade(self), Arc::clone(round));
        match call {
            QuestionCall::Slice(call) => {
                let asked = Asked { keeper, leased, round, closing, failed: Leased::slice_failed };
                let done: GrantDone = Box::new(move |grant| {
                    asked.answered(grant, |keeper, leased, grant, _| keeper.take(leased, &grant));
                });
                Some(Work::Lease { call: Box::new(call), done })
            }
            QuestionCall::Budget(keys, operation) => {
                let asked = Asked { keeper, leased, round, closing, failed: Leased::budget_failed };
                let done = move |outcome| {
                    asked.answered(outcome, |keeper, leased, outcome, closing| {
                        keeper.take_budget(leased, &outcome, closing);
                    });
                };
                // An error drops it without a call, which counts as a failure.
                let done = route.server().forgetting(&keys, &operation, done);
                let request = self.plan.request(keys, operation).ok()?;
                Some(Work::Operation { request, done })
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

    /// Takes the answer to a budget's request, and gives back what the budget does not keep.
    fn take_budget(
        self: &Arc<Self>,
        leased: &Leased,
        outcome: &Result<Outcome, Error>,
        closing: Option<Arc<OnDrop>>,
    ) {
        let now = (self.clock)();
        let answer = match outcome {
            Ok(Outcome::Decision(decision)) => Some(decision),
            _ => None,
        };
        let (surplus, closing) = leased.state.lock().take_budget(now, answer, closing);
        if let Some(tokens) = surplus {
            let call =
                QuestionCall::Budget(self.plan.stored(&leased.key), Operation::Credit { tokens });
            self.send(core::iter::once(Question { call, leased: None, closing }));
        }
    }
}

impl Question {
    /// The question is not sent.
    fn failed(self) {
        if let Some(leased) = self.leased {
            match self.call {
                QuestionCall::Slice(_) => leased.slice_failed(),
                QuestionCall::Budget(..) => leased.budget_failed(),
            }
        }
    }
}

/// The callback of a question. One that is dropped unanswered counts as failed, so that its slice or
/// budget asks again.
struct Asked<H: Host> {
    keeper: Weak<LeaseKeeper<H>>,
    leased: Option<Arc<Leased>>,
    round: Arc<Round<H>>,
    closing: Option<(Arc<OnDrop>, Arc<LeaseKeeper<H>>)>,
    failed: fn(&Leased),
}

impl<H: Host> Asked<H> {
    fn answered<T>(
        mut self,
        answer: Result<T, Error>,
        take: impl FnOnce(&Arc<LeaseKeeper<H>>, &Leased, Result<T, Error>, Option<Arc<OnDrop>>),
    ) {
        self.round.note(&answer);
        if let Some((leased, keeper)) = self.leased.take().zip(self.keeper.upgrade()) {
            let closing = self.closing.as_ref().map(|(closing, _)| Arc::clone(closing));
            take(&keeper, &leased, answer, closing);
        }
        drop(self.closing.take());
    }
}

impl<H: Host> Drop for Asked<H> {
    fn drop(&mut self) {
        if let Some(leased) = self.leased.take() {
            (self.failed)(&leased);
        }
    }
}

/// Calls that were sent together: the breaker is told once how they ended.
struct Round<H: Host> {
    store: GuardedStore<H>,
    attempt: Option<CallAttempt>,
    answered: AtomicBool,
    failure: OnceLock<Error>,
}

impl<H: Host> Round<H> {
    fn note<T>(&self, answer: &Result<T, Error>) {
        self.answered.store(true, Ordering::Relaxed);
        if let Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) = answer {
            // The first failure stays.
            let _ = self.failure.set(error.clone());
        }
    }
}

impl<H: Host> Drop for Round<H> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.store.ended(attempt, self.failure.get(), self.answered.load(Ordering::Relaxed));
        }
    }
}
