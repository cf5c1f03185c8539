//! The waiting lines of one limiter: one for each key that somebody waits for.

pub(crate) mod timer;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use tidegate_core::{Cost, TieredDecision};
use tidegate_protocol::{Action, Host as _, Line, LineOptions, OwnedKeys, PerProcess, Waiting};

use crate::Error;
use crate::host::NativeHost;
use crate::lock::Mutex;

/// A callback for the answer to a caller that waits.
pub(crate) type Answered = Box<dyn FnOnce(Result<TieredDecision, Error>) + Send>;

/// The lines of one limiter.
pub(crate) struct Lines {
    options: LineOptions,
    /// How many lines there are, so that a call to which none matters need not look. A forked child
    /// counts those of its parent, too, and then looks.
    count: AtomicUsize,
    /// A forked child has none: the callers are threads and tasks of its parent.
    set: PerProcess<LineSet>,
}

#[derive(Default)]
struct LineSet {
    lines: Mutex<KeyLines>,
}

#[derive(Default)]
struct KeyLines {
    by_keys: BTreeMap<Arc<OwnedKeys>, KeyLine>,
    /// The greatest number of a caller in a line that is forgotten: its handle may still say that it
    /// leaves.
    last_id: u64,
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
    Tell(Answered, Result<TieredDecision, Error>),
    /// Carry out an action on the store.
    Do(Action),
    /// Wake the line at this time.
    WakeAt(u64),
}

impl Lines {
    pub(crate) const fn new(options: LineOptions) -> Self {
        let set = PerProcess::new(NativeHost::process);
        Self { options, count: AtomicUsize::new(0), set }
    }

    /// How many callers may wait for one key.
    pub(crate) const fn max_waiting(&self) -> usize {
        self.options.max_waiting
    }

    /// Whether there is no line at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether this key has a line. It may have slots that others have left, although nobody waits.
    pub(crate) fn has_line(&self, keys: &OwnedKeys) -> bool {
        !self.is_empty() && self.set().lines.lock().by_keys.contains_key(keys)
    }

    /// Whether somebody waits for this key.
    pub(crate) fn has_waiters(&self, keys: &OwnedKeys) -> bool {
        !self.is_empty()
            && self.set().lines.lock().by_keys.get(keys).is_some_and(|line| line.line.has_waiters())
    }

    /// The callers that wait for this key.
    pub(crate) fn waiting(&self, keys: &OwnedKeys) -> Waiting {
        if self.is_empty() {
            return Waiting::default();
        }
        let lines = self.set().lines.lock();
        lines
            .by_keys
            .get(keys)
            .map_or_else(Waiting::default, |line| line.line.waiting(NativeHost::now()))
    }

    /// The keys of all lines.
    pub(crate) fn keys(&self) -> Vec<Arc<OwnedKeys>> {
        match self.set.get() {
            Some(set) => set.lines.lock().by_keys.keys().cloned().collect(),
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
        let KeyLines { by_keys, last_id } = &mut *lines;
        let mut entry = match by_keys.entry(Arc::clone(keys)) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(vacant) => {
                self.count.fetch_add(1, Ordering::AcqRel);
                vacant.insert_entry(KeyLine::new(self.options, *last_id))
            }
        };
        let line = entry.get_mut();
        let answer = input(line, NativeHost::now());
        let tasks = line.tasks();
        if line.line.is_idle() {
            *last_id = (*last_id).max(line.line.last_id());
            entry.remove();
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        (answer, tasks)
    }

    fn set(&self) -> &LineSet {
        self.set.get_or_default()
    }
}

impl KeyLine {
    const fn new(options: LineOptions, last_id: u64) -> Self {
        let line = Line::new(options).numbered_after(last_id);
        Self { line, callers: BTreeMap::new(), alarm: None }
    }

    /// A caller joins the line; the answer names it for [`Line::leave`].
    pub(crate) fn arrive(
        &mut self,
        now: u64,
        cost: Cost,
        max_wait: u64,
        answered: Answered,
    ) -> u64 {
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
