//! Drives the desks of one `Concurrency`, one for each key that somebody holds or waits for.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tidegate_core::PermitAsk;
use tidegate_protocol::{
    DeskOptions, Host as _, OnStoreError, PermitAction, PermitCall, PermitDesk, PermitReply,
    PermitSet, PermitStep, PermitTerms, call_permits,
};

use super::permit::{Permit, Term};
use super::{Backend, Inner, closed};
use crate::Error;
use crate::clock::saturating_nanos;
use crate::host::NativeHost;
use crate::line::timer;
use crate::lock::Mutex;

/// A callback for the answer to a caller that wants a permit.
pub(super) type Entered = Box<dyn FnOnce(Result<Option<Permit>, Error>) + Send>;

/// A callback for a caller that has left.
pub(super) type Gone = Box<dyn FnOnce() + Send>;

/// The desks of this process.
pub(super) struct Desks {
    /// Tells the callers of this process from all others in the store.
    name: String,
    keys: Mutex<KeyDesks>,
}

#[derive(Default)]
struct KeyDesks {
    by_key: HashMap<Arc<[u8]>, KeyDesk>,
    /// The greatest number of a caller at a desk that is forgotten.
    last_id: u64,
}

struct KeyDesk {
    desk: PermitDesk,
    /// The permits of the key in memory.
    set: PermitSet,
    callers: BTreeMap<u64, Entered>,
    leaving: BTreeMap<u64, Gone>,
    terms: BTreeMap<u64, Arc<Term>>,
    /// The nearest time at which the timer will call the desk.
    alarm: Option<u64>,
}

/// What is to be done once no lock is held.
enum Task {
    Tell(Entered, Result<Option<Permit>, Error>),
    TellGone(Gone),
    Ask(u64, PermitCall),
    WakeAt(u64),
}

/// A caller that may wait, by which it can leave.
#[doc(hidden)]
pub struct PermitWaiter {
    inner: Arc<Inner>,
    key: Arc<[u8]>,
    id: u64,
}

impl PermitWaiter {
    /// Stops waiting. Does nothing once the caller has been answered.
    pub fn leave(&self) {
        if self.id != 0 {
            leave_unanswered(&self.inner, &self.key, self.id);
        }
    }

    /// Whether the store has owed this process an answer for longer than that.
    pub(super) fn is_unanswered_for(&self, bound: Duration) -> bool {
        let keys = self.inner.desks().keys.lock();
        let since = keys.by_key.get(&self.key).and_then(|desk| desk.desk.asking_since());
        since.is_some_and(|at| self.inner.now().saturating_sub(at) > saturating_nanos(bound))
    }
}

/// A caller wants a permit. `done` is called once, perhaps at once.
pub(super) fn enter(inner: &Arc<Inner>, key: &[u8], max_wait: u64, done: Entered) -> PermitWaiter {
    let key: Arc<[u8]> = key.into();
    if inner.is_closed.load(Ordering::Acquire) {
        done(Err(closed()));
        return PermitWaiter { inner: Arc::clone(inner), key, id: 0 };
    }
    // By a clock that the program moves nobody can wait.
    let max_wait = if matches!(inner.backend, Backend::Memory(Some(_))) { 0 } else { max_wait };
    let id = feed(inner, &key, |desk, now| {
        let id = desk.desk.enter(now, max_wait);
        desk.callers.insert(id, done);
        id
    });
    if inner.is_closed.load(Ordering::Acquire) {
        // It was closed meanwhile, and its desks with it.
        inner.close_desks();
    }
    PermitWaiter { inner: Arc::clone(inner), key, id }
}

/// A caller gives its permit back; `gone` is called when the store has heard of it.
pub(super) fn leave(inner: &Arc<Inner>, key: &Arc<[u8]>, id: u64, gone: Option<Gone>) {
    let left = feed(inner, key, |desk, now| {
        desk.terms.remove(&id);
        let was_here = desk.desk.leave(now, id);
        match gone {
            Some(gone) if was_here => {
                desk.leaving.insert(id, gone);
                None
            }
            gone => gone,
        }
    });
    if let Some(gone) = left {
        gone();
    }
}

fn leave_unanswered(inner: &Arc<Inner>, key: &Arc<[u8]>, id: u64) {
    let left = feed(inner, key, |desk, now| {
        let left = desk.callers.remove(&id);
        if left.is_some() {
            desk.desk.leave(now, id);
        }
        left
    });
    // It is dropped here, without a lock.
    drop(left);
}

/// Asks what the permits of a key are, without a desk.
pub(super) fn look(
    inner: &Arc<Inner>,
    key: &[u8],
    done: Box<dyn FnOnce(Result<PermitReply, Error>) + Send>,
) {
    match &inner.backend {
        Backend::Memory(_) => {
            let now = inner.now();
            let mut keys = inner.desks().keys.lock();
            let reply = keys
                .by_key
                .get_mut(key)
                .map_or_else(PermitReply::default, |desk| desk.set.run(&inner.terms(), &[], now));
            drop(keys);
            done(Ok(reply));
        }
        Backend::Redis(store, _) => {
            call_permits(store, PermitCall::new(&inner.prefix, key, &inner.terms(), &[]), done);
        }
    }
}

/// Gives an input to the desk of a key, and does what follows.
fn feed<R>(inner: &Arc<Inner>, key: &Arc<[u8]>, input: impl FnOnce(&mut KeyDesk, u64) -> R) -> R {
    let mut tasks = VecDeque::new();
    let mut keys = inner.desks().keys.lock();
    let KeyDesks { by_key, last_id } = &mut *keys;
    let desk = by_key
        .entry(Arc::clone(key))
        .or_insert_with(|| KeyDesk::new(inner.desk_options(), *last_id));
    let answer = input(desk, inner.now());
    desk.collect(inner, key, &mut tasks);
    if desk.desk.is_idle() && desk.leaving.is_empty() {
        *last_id = (*last_id).max(desk.desk.last_id());
        if desk.set.is_empty() {
            by_key.remove(key);
        }
    }
    drop(keys);
    for task in tasks {
        inner.carry_out(key, task);
    }
    answer
}

impl Desks {
    fn new() -> Self {
        let name = format!("{:016x}{:08x}", NativeHost::random(), NativeHost::random() >> 32);
        Self { name, keys: Mutex::default() }
    }

    /// The number of callers that wait for a permit of this key.
    pub(super) fn waiting(&self, key: &[u8]) -> usize {
        self.keys.lock().by_key.get(key).map_or(0, |desk| desk.desk.waiting())
    }
}

impl KeyDesk {
    fn new(options: DeskOptions, last_id: u64) -> Self {
        Self {
            desk: PermitDesk::new(options).numbered_after(last_id),
            set: PermitSet::default(),
            callers: BTreeMap::new(),
            leaving: BTreeMap::new(),
            terms: BTreeMap::new(),
            alarm: None,
        }
    }

    /// Carries out what can be done under the lock, and collects the rest.
    fn collect(&mut self, inner: &Arc<Inner>, key: &Arc<[u8]>, tasks: &mut VecDeque<Task>) {
        while let Some(action) = self.desk.next_action() {
            match action {
                PermitAction::Call { call, steps } => {
                    let steps: Vec<_> = steps.iter().map(|step| inner.step(*step)).collect();
                    let terms = inner.terms();
                    match &inner.backend {
                        Backend::Memory(_) => {
                            let now = inner.now();
                            let reply = self.set.run(&terms, &steps, now);
                            self.desk.answered(now, call, Ok(reply));
                        }
                        Backend::Redis(..) => {
                            let sent = PermitCall::new(&inner.prefix, key, &terms, &steps);
                            tasks.push_back(Task::Ask(call, sent));
                        }
                    }
                }
                PermitAction::Answer { id, answer } => {
                    let answer = inner.answer(
                        answer,
                        || {
                            let term = self.terms.entry(id).or_default();
                            Permit::new(
                                Arc::clone(inner),
                                Arc::clone(key),
                                Some(id),
                                Arc::clone(term),
                            )
                        },
                        key,
                    );
                    match self.callers.remove(&id) {
                        Some(caller) => tasks.push_back(Task::Tell(caller, answer)),
                        // It has gone meanwhile, and has told the desk.
                        None => tasks.push_back(Task::Tell(Box::new(drop), answer)),
                    }
                }
                PermitAction::Lasts { id, until } => {
                    self.terms.entry(id).or_default().until.store(until, Ordering::Release);
                }
                PermitAction::Lost { id } => {
                    if let Some(term) = self.terms.remove(&id) {
                        term.is_lost.store(true, Ordering::Release);
                    }
                }
                PermitAction::Left { id } => {
                    tasks.extend(self.leaving.remove(&id).map(Task::TellGone));
                }
            }
        }
        if let Some(due) = self.desk.due()
            && self.alarm.is_none_or(|alarm| due < alarm)
        {
            self.alarm = Some(due);
            tasks.push_back(Task::WakeAt(due));
        }
    }
}

impl Inner {
    pub(super) fn desks(&self) -> &Desks {
        self.desks.get_or_init(Desks::new)
    }

    pub(super) fn set_limit(self: &Arc<Self>, limit: u64) {
        for key in self.keys() {
            feed(self, &key, |desk, now| desk.desk.set_limit(now, limit));
        }
    }

    /// Ends all waits, gives all permits back, and ends the use of the store.
    pub(super) fn close(self: &Arc<Self>) {
        self.close_desks();
        if let Backend::Redis(_, store) = &self.backend {
            store.end();
        }
    }

    fn close_desks(self: &Arc<Self>) {
        for key in self.keys() {
            feed(self, &key, |desk, now| desk.desk.close(now, &closed()));
        }
    }

    fn keys(&self) -> Vec<Arc<[u8]>> {
        self.desks().keys.lock().by_key.keys().cloned().collect()
    }

    fn desk_options(&self) -> DeskOptions {
        let PermitTerms { limit, ttl, wait, .. } = self.terms();
        DeskOptions { ttl, wait, limit, is_shared: matches!(self.backend, Backend::Redis(..)) }
    }

    fn terms(&self) -> PermitTerms {
        let ttl = match self.backend {
            Backend::Memory(None) => u64::MAX,
            Backend::Memory(Some(_)) | Backend::Redis(..) => saturating_nanos(self.ttl),
        };
        let wait = match self.backend {
            Backend::Memory(_) => u64::MAX,
            Backend::Redis(..) => saturating_nanos(self.wait),
        };
        let limit = self.limit.load(Ordering::Relaxed);
        PermitTerms { limit, ttl, wait, max_line: self.max_waiting as u64 }
    }

    fn step(&self, (ask, id): (PermitAsk, u64)) -> PermitStep {
        PermitStep { ask, id: format!("{}-{id:x}", self.desks().name) }
    }

    /// The answer to a caller: the store's, or while the store fails that of the policy.
    fn answer(
        self: &Arc<Self>,
        answer: Result<bool, Error>,
        entered: impl FnOnce() -> Permit,
        key: &Arc<[u8]>,
    ) -> Result<Option<Permit>, Error> {
        let error = match answer {
            Ok(true) => return Ok(Some(entered())),
            Ok(false) => return Ok(None),
            Err(error) => error,
        };
        let is_failure = matches!(error, Error::Store(_) | Error::StoreTimeout { .. });
        if !is_failure || self.is_closed.load(Ordering::Acquire) {
            return Err(error);
        }
        match self.on_store_error {
            OnStoreError::Allow => {
                Ok(Some(Permit::new(Arc::clone(self), Arc::clone(key), None, Arc::default())))
            }
            OnStoreError::Deny => Ok(None),
            _ => Err(error),
        }
    }

    fn carry_out(self: &Arc<Self>, key: &Arc<[u8]>, task: Task) {
        match task {
            Task::Tell(caller, answer) => caller(answer),
            Task::TellGone(gone) => gone(),
            Task::Ask(call, sent) => {
                let Backend::Redis(store, _) = &self.backend else { return };
                let answer =
                    AnswerOnce { inner: Arc::clone(self), key: Arc::clone(key), call: Some(call) };
                call_permits(store, sent, Box::new(move |reply| answer.give(reply)));
            }
            Task::WakeAt(at) => {
                let (inner, own) = (Arc::downgrade(self), Arc::clone(key));
                let started = timer::wake_at(at, move || {
                    if let Some(inner) = inner.upgrade() {
                        feed(&inner, &own, |desk, now| {
                            desk.alarm = desk.alarm.filter(|alarm| *alarm > now);
                            desk.desk.tick(now);
                        });
                    }
                });
                if let Err(error) = started {
                    feed(self, key, |desk, now| desk.desk.close(now, &error));
                }
            }
        }
    }
}

/// The right to answer one call of a desk, which is answered even if it is lost.
struct AnswerOnce {
    inner: Arc<Inner>,
    key: Arc<[u8]>,
    call: Option<u64>,
}

impl AnswerOnce {
    fn give(mut self, reply: Result<PermitReply, Error>) {
        self.put(reply);
    }

    fn put(&mut self, reply: Result<PermitReply, Error>) {
        if let Some(call) = self.call.take() {
            feed(&self.inner, &self.key, |desk, now| desk.desk.answered(now, call, reply));
        }
    }
}

impl Drop for AnswerOnce {
    fn drop(&mut self) {
        self.put(Err(crate::answer::lost()));
    }
}
