//! The waiting lines of one limiter, one for each key that somebody waits for.

use core::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use tidegate_core::{Cost, Operation, Outcome, Source, TieredDecision};
use tidegate_protocol::{Action, Error, Line, LineOptions, RedisKeys, Waiting};

/// The number of a line of one limiter. It is used again once the line is idle.
pub(crate) type LineNumber = u32;

/// The queue of due times is rebuilt when it has more than this many entries beyond two per line.
const MOST_OUTDATED: usize = 64;

/// The lines of one limiter. A line exists from its first caller until it is idle.
pub(crate) struct Lines {
    options: LineOptions,
    /// The numbers of all lines, in the order of their keys. A tree would make the module larger.
    by_keys: Vec<LineNumber>,
    lines: Vec<Option<KeyLine>>,
    unused: Vec<LineNumber>,
    /// When lines are due. An entry counts only if it is the time for which its line is scheduled.
    due: BinaryHeap<Reverse<(u64, LineNumber)>>,
}

/// The line of one key.
struct KeyLine {
    keys: RedisKeys,
    line: Line,
    /// The callers: the id of each in the line, ascending, and the number of its call.
    callers: VecDeque<(u64, u32)>,
    scheduled: Option<u64>,
    /// Whether its actions are being taken, so that an answer that comes at once need not do it.
    is_acting: bool,
}

/// What the driver of a line must do next.
#[allow(clippy::large_enum_variant, reason = "a step is taken at once, and none is kept")]
pub(crate) enum Step {
    /// Answer the call with this number.
    Answer(u32, Result<TieredDecision, Error>),
    /// Run the operation on the buckets of the keys, and pass the outcome to [`Lines::answered`].
    Run(RedisKeys, Operation, Action),
}

impl Lines {
    pub(crate) const fn new(options: LineOptions) -> Self {
        Self {
            options,
            by_keys: Vec::new(),
            lines: Vec::new(),
            unused: Vec::new(),
            due: BinaryHeap::new(),
        }
    }

    /// Whether there is no line.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_keys.is_empty()
    }

    /// The line of these keys, if there is one.
    pub(crate) fn find(&self, keys: &RedisKeys) -> Option<LineNumber> {
        self.place_of(keys).ok().map(|place| self.by_keys[place])
    }

    /// Whether somebody waits for these keys.
    #[cfg(feature = "shared")]
    pub(crate) fn has_waiters(&self, keys: &RedisKeys) -> bool {
        let line = self.find(keys).and_then(|number| self.lines.get(number as usize)?.as_ref());
        line.is_some_and(|line| line.line.has_waiters())
    }

    /// All lines.
    #[cfg(feature = "shared")]
    pub(crate) fn all(&self) -> Vec<LineNumber> {
        self.by_keys.clone()
    }

    /// A caller wants tokens; `call` is the number under which it is answered. Follow it up with
    /// the line's [`next_step`](Self::next_step)s.
    pub(crate) fn arrive(
        &mut self,
        keys: RedisKeys,
        now: u64,
        cost: Cost,
        max_wait: u64,
        call: u32,
    ) -> LineNumber {
        let number = self.find(&keys).unwrap_or_else(|| self.add(keys));
        self.feed(number, |key_line| {
            let id = key_line.line.arrive(now, cost, max_wait);
            key_line.callers.push_back((id, call));
        });
        number
    }

    /// The caller of this call does not wait any more. Nothing happens if it has been answered.
    pub(crate) fn leave(&mut self, number: LineNumber, now: u64, call: u32) {
        self.feed(number, |KeyLine { line, callers, .. }| {
            let place = callers.iter().position(|(_, other)| *other == call);
            if let Some((id, _)) = place.and_then(|place| callers.remove(place)) {
                line.leave(now, id);
            }
        });
    }

    /// Tells a line what has happened. The default is answered if the line is gone. Follow it up
    /// with the line's [`next_step`](Self::next_step)s.
    pub(crate) fn tell<R: Default>(
        &mut self,
        number: LineNumber,
        input: impl FnOnce(&mut Line) -> R,
    ) -> R {
        self.feed(number, |key_line| input(&mut key_line.line))
    }

    /// Whether the caller is the one to take the steps of the line. If not, somebody is doing so.
    #[cfg(feature = "shared")]
    pub(crate) fn begin_steps(&mut self, number: LineNumber) -> bool {
        self.feed(number, |key_line| !core::mem::replace(&mut key_line.is_acting, true))
    }

    /// What is to be done for a line next. `None` ends what [`begin_steps`](Self::begin_steps)
    /// began.
    pub(crate) fn next_step(&mut self, number: LineNumber) -> Option<Step> {
        let KeyLine { keys, line, callers, is_acting, .. } = self.line_mut(number)?;
        while let Some(action) = line.next_action() {
            let (keys, operation) = match &action {
                Action::Answer { .. } => {
                    let Action::Answer { id, answer } = action else { continue };
                    let place = callers.binary_search_by_key(&id, |(id, _)| *id);
                    // A caller that is not found has left.
                    match place.ok().and_then(|place| callers.remove(place)) {
                        Some((_, call)) => return Some(Step::Answer(call, answer)),
                        None => continue,
                    }
                }
                Action::Reserve(asked) => {
                    let operation = asked.operation();
                    (keys.clone(), operation)
                }
                Action::Cancel(cancelled) => (keys.clone(), Operation::Cancel(cancelled.charge())),
                Action::Look => (keys.clone().marker(), Operation::Peek { cost: 1.into() }),
            };
            return Some(Step::Run(keys, operation, action));
        }
        *is_acting = false;
        self.end_steps(number);
        None
    }

    /// Tells a line the outcome of an action that was sent at the time `sent`.
    pub(crate) fn answered(
        &mut self,
        number: LineNumber,
        now: u64,
        sent: u64,
        action: Action,
        outcome: Result<Outcome, Error>,
    ) {
        self.tell(number, |line| match action {
            Action::Reserve(asked) => {
                let reserved = outcome.and_then(|outcome| match outcome {
                    Outcome::Reserved(reserved) => Ok(reserved),
                    _ => Err(Error::Store("a reservation has another answer".into())),
                });
                line.reserved(now, sent, asked, reserved);
            }
            Action::Cancel(cancelled) => {
                let all = outcome.map(|outcome| matches!(outcome, Outcome::Cancelled(true)));
                line.cancelled(now, cancelled, all);
            }
            Action::Look => {
                let held = outcome.map(|outcome| match outcome {
                    Outcome::Decision(decision) if decision.source != Source::Fallback => {
                        decision.retry_after
                    }
                    // Nobody has looked.
                    _ => 0,
                });
                line.looked(now, sent, held);
            }
            Action::Answer { .. } => {}
        });
    }

    /// The time at which a line is due next.
    pub(crate) fn due(&mut self) -> Option<u64> {
        while let Some(Reverse((at, number))) = self.due.peek().copied() {
            if self.is_scheduled(number, at) {
                return Some(at);
            }
            self.due.pop();
        }
        None
    }

    /// Takes a line that is due, which is to be [`tick`](Line::tick)ed.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<LineNumber> {
        self.due().filter(|at| *at <= now)?;
        let Reverse((_, number)) = self.due.pop()?;
        self.line_mut(number)?.scheduled = None;
        Some(number)
    }

    /// The callers that wait for these keys.
    pub(crate) fn waiting(&self, keys: &RedisKeys, now: u64) -> Waiting {
        let number = self.find(keys).and_then(|number| self.lines.get(number as usize));
        number.and_then(Option::as_ref).map_or_else(Waiting::default, |it| it.line.waiting(now))
    }

    fn add(&mut self, keys: RedisKeys) -> LineNumber {
        let number = self.unused.pop().unwrap_or_else(|| {
            self.lines.push(None);
            self.lines.len() as LineNumber - 1
        });
        let line = Line::new(self.options);
        let callers = VecDeque::new();
        if let Err(place) = self.place_of(&keys) {
            self.by_keys.insert(place, number);
        }
        self.lines[number as usize] =
            Some(KeyLine { keys, line, callers, scheduled: None, is_acting: false });
        number
    }

    /// The place of these keys among all, or where it would be.
    fn place_of(&self, keys: &RedisKeys) -> Result<usize, usize> {
        self.by_keys.binary_search_by(|number| {
            let line = self.lines.get(*number as usize).and_then(Option::as_ref);
            line.map_or(Ordering::Less, |line| line.keys.cmp(keys))
        })
    }

    fn line_mut(&mut self, number: LineNumber) -> Option<&mut KeyLine> {
        self.lines.get_mut(number as usize)?.as_mut()
    }

    fn feed<R: Default>(&mut self, number: LineNumber, input: impl FnOnce(&mut KeyLine) -> R) -> R {
        self.line_mut(number).map(input).unwrap_or_default()
    }

    /// Forgets a line that is idle, and schedules any other.
    fn end_steps(&mut self, number: LineNumber) {
        let Some(key_line) = self.line_mut(number) else { return };
        if key_line.line.is_idle() {
            let keys = key_line.keys.clone();
            if let Ok(place) = self.place_of(&keys) {
                self.by_keys.remove(place);
            }
            self.lines[number as usize] = None;
            self.unused.push(number);
            return;
        }
        // A line that is due later than it is scheduled is scheduled again when that time comes.
        let due = key_line.line.due();
        let Some(at) = due.filter(|at| key_line.scheduled.is_none_or(|known| *at < known)) else {
            return;
        };
        key_line.scheduled = Some(at);
        self.due.push(Reverse((at, number)));
        if self.due.len() > 2 * self.lines.len() + MOST_OUTDATED {
            let mut due = core::mem::take(&mut self.due).into_vec();
            due.retain(|Reverse((at, number))| self.is_scheduled(*number, *at));
            self.due = due.into();
        }
    }

    fn is_scheduled(&self, number: LineNumber, at: u64) -> bool {
        let line = self.lines.get(number as usize).and_then(Option::as_ref);
        line.is_some_and(|line| line.scheduled == Some(at))
    }
}
