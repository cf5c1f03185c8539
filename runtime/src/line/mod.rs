//! The waiting lines of one limiter: one for each key that somebody waits for.

pub(crate) mod timer;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use tidegate_core::Decision;
use tidegate_protocol::{Action, Host as _, Line, LineOptions, OwnedKeys, PerProcess, Waiting};

use crate::Error;
use crate::host::NativeHost;
use crate::lock::Mutex;

/// A callback for the answer to a caller that waits.
pub(crate) type Answered = Box<dyn FnOnce(Result<Decision, Error>) + Send>;

/// The lines of one limiter.
pub(crate) struct Lines {
    options: LineOptions,
    /// Who waits in a process does not wait in its forked child.
    set: PerProcess<LineSet>,
}

#[derive(Default)]
struct LineSet {
    lines: Mutex<BTreeMap<Arc<OwnedKeys>, KeyLine>>,
    /// How many there are, so that those who never wait need not take the lock.
    count: AtomicUsize,
}

/// The line of one key.
pub(crate) struct KeyLine {
    pub(crate) line: Line,
    callers: BTreeMap<u64, Answered>,
    /// The nearest time at which the timer will wake the line.
    alarm: Option<u64>,
}

/// What is to be done once no lock is held.
pub(crate) enum Task {
    /// Answer a caller.
    Tell(Answered, Result<Decision, Error>),
    /// Carry out an action on the store.
    Do(Action),
    /// Wake the line at this time.
    WakeAt(u64),
}

impl Lines {
    pub(crate) const fn new(options: LineOptions) -> Self {
        Self { options, set: PerProcess::new(NativeHost::process) }
    }

    /// Whether there is no line at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.get().is_none_or(|set| set.count.load(Ordering::Acquire) == 0)
    }

    /// Whether somebody waits for this key.
    pub(crate) fn has_waiters(&self, keys: &OwnedKeys) -> bool {
        !self.is_empty()
            && self.set().lines.lock().get(keys).is_some_and(|line| line.line.has_waiters())
    }

    /// Who waits for this key.
    pub(crate) fn waiting(&self, keys: &OwnedKeys) -> Waiting {
        if self.is_empty() {
            return Waiting::default();
        }
        let lines = self.set().lines.lock();
        lines.get(keys).map_or_else(Waiting::default, |line| line.line.waiting(NativeHost::now()))
    }

    /// The keys of all lines.
    pub(crate) fn keys(&self) -> Vec<Arc<OwnedKeys>> {
        match self.set.get() {
            Some(set) => set.lines.lock().keys().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Gives an input to the line of a key, and answers what is to be done then. The input gets the
    /// time, too.
    pub(crate) fn feed<R>(
        &self,
        keys: &Arc<OwnedKeys>,
        input: impl FnOnce(&mut KeyLine, u64) -> R,
    ) -> (R, Vec<Task>) {
        let set = self.set();
        let mut lines = set.lines.lock();
        let mut entry = match lines.entry(Arc::clone(keys)) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(vacant) => {
                set.count.fetch_add(1, Ordering::AcqRel);
                vacant.insert_entry(KeyLine::new(self.options))
            }
        };
        let line = entry.get_mut();
        let answer = input(line, NativeHost::now());
        let tasks = line.tasks();
        if line.line.is_idle() {
            entry.remove();
            set.count.fetch_sub(1, Ordering::AcqRel);
        }
        (answer, tasks)
    }

    fn set(&self) -> &LineSet {
        self.set.get_or_default()
    }
}

impl KeyLine {
    const fn new(options: LineOptions) -> Self {
        Self { line: Line::new(options), callers: BTreeMap::new(), alarm: None }
    }

    /// A caller joins the line; the answer names it for [`Line::leave`].
    pub(crate) fn arrive(&mut self, now: u64, cost: u64, max_wait: u64, answered: Answered) -> u64 {
        let id = self.line.arrive(now, cost, max_wait);
        self.callers.insert(id, answered);
        id
    }

    /// A caller does not wait any more. Its callback is dropped unless it has been answered.
    pub(crate) fn leave(&mut self, now: u64, id: u64) -> Option<Answered> {
        self.line.leave(now, id);
        self.callers.remove(&id)
    }

    /// The timer has woken the line.
    pub(crate) fn wake(&mut self, now: u64) {
        self.alarm = self.alarm.filter(|at| *at > now);
        self.line.tick(now);
    }

    fn tasks(&mut self) -> Vec<Task> {
        let mut tasks = Vec::new();
        while let Some(action) = self.line.next_action() {
            match action {
                Action::Answer { id, answer } => {
                    let answered = self.callers.remove(&id);
                    tasks.extend(answered.map(|answered| Task::Tell(answered, answer)));
                }
                action => tasks.push(Task::Do(action)),
            }
        }
        if let Some(due) = self.line.due()
            && self.alarm.is_none_or(|alarm| due < alarm)
        {
            self.alarm = Some(due);
            tasks.push(Task::WakeAt(due));
        }
        tasks
    }
}
