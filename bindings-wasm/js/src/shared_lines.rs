//! Drives the waiting lines of a limiter whose buckets answer later.

use std::sync::{Arc, MutexGuard};

use tidegate_core::{Charge, Cost, Operation, Outcome, Source};
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{Action, Error, Host as _, LineOptions, RedisKeys, Waiting};

use crate::client::LimiterAnswers;
use crate::completion::Completion;
use crate::host::{Guarded, JavaScript};
use crate::line::{LineNumber, Lines, Step};

/// The waiting lines of one limiter over a client.
pub(crate) struct SharedLines {
    lines: Mutex<Lines>,
    guarded: Guarded,
    answers: LimiterAnswers,
}

/// An action of a line that has been sent.
pub(crate) struct LineCall {
    lines: Arc<SharedLines>,
    number: LineNumber,
    sent: u64,
    action: Action,
}

/// A hold or a reset that is done to a bucket and to its marker.
pub(crate) struct Telling {
    /// Whether it is the part of the marker, whose outcome does not matter.
    is_marker: bool,
    both: Arc<Both>,
}

struct Both {
    lines: Arc<SharedLines>,
    keys: RedisKeys,
    operation: Operation,
    sent: u64,
    id: u32,
    outcomes: Mutex<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    /// The outcome for the bucket.
    bucket: Option<Result<Outcome, Error>>,
    is_half_done: bool,
}

impl LineCall {
    pub(crate) fn complete(self, outcome: Result<Outcome, Error>) {
        let Self { lines, number, sent, action } = self;
        let now = JavaScript::now();
        lines.lines().answered(number, now, sent, action, outcome);
        lines.take_steps(number);
    }
}

impl Telling {
    pub(crate) fn complete(self, outcome: Result<Outcome, Error>) {
        let Self { is_marker, both } = self;
        let mut outcomes = both.outcomes.lock();
        if !is_marker {
            outcomes.bucket = Some(outcome);
        }
        if !core::mem::replace(&mut outcomes.is_half_done, true) {
            return;
        }
        let bucket = outcomes.bucket.take();
        drop(outcomes);
        if let Some(outcome) = bucket {
            both.lines.tell(&both.keys, both.sent, both.operation, &outcome);
            both.lines.answers.put(both.id, outcome);
        }
    }
}

impl SharedLines {
    pub(crate) fn new(
        options: LineOptions,
        guarded: Guarded,
        answers: LimiterAnswers,
    ) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::new(Lines::new(options)), guarded, answers })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }

    pub(crate) fn has_waiters(&self, keys: &RedisKeys) -> bool {
        self.lines().has_waiters(keys)
    }

    /// A caller joins the line of the keys. The call `id` will be answered.
    pub(crate) fn arrive(
        self: &Arc<Self>,
        keys: RedisKeys,
        cost: Cost,
        max_wait: u64,
        id: u32,
    ) -> LineNumber {
        let number = self.lines().arrive(keys, JavaScript::now(), cost, max_wait, id);
        self.take_steps(number);
        number
    }

    pub(crate) fn leave(self: &Arc<Self>, number: LineNumber, id: u32) {
        self.lines().leave(number, JavaScript::now(), id);
        self.take_steps(number);
    }

    pub(crate) fn tick(self: &Arc<Self>) {
        let now = JavaScript::now();
        loop {
            let Some(number) = self.lines().take_due(now) else { return };
            self.lines().tell(number, |line| line.tick(now));
            self.take_steps(number);
        }
    }

    pub(crate) fn due_in(&self) -> Option<f64> {
        const NANOS_PER_MILLI: f64 = 1e6;
        let due = self.lines().due()?;
        Some(due.saturating_sub(JavaScript::now()) as f64 / NANOS_PER_MILLI)
    }

    pub(crate) fn waiting(&self, keys: &RedisKeys) -> Waiting {
        self.lines().waiting(keys, JavaScript::now())
    }

    pub(crate) fn close(self: &Arc<Self>, error: &Error) {
        let (all, now) = (self.lines().all(), JavaScript::now());
        for number in all {
            self.lines().tell(number, |line| line.close(now, error));
            self.take_steps(number);
        }
    }

    /// Gives a slot that is `delay` away to those who wait for it. Answers whether somebody does.
    pub(crate) fn adopt(self: &Arc<Self>, keys: &RedisKeys, delay: u64, charge: Charge) -> bool {
        let Some(number) = self.lines().find(keys) else { return false };
        if charge.source == Source::Fallback {
            return false;
        }
        let now = JavaScript::now();
        let taken = self.lines().tell(number, |line| line.adopt(now, delay, charge.cost, charge));
        self.take_steps(number);
        taken
    }

    /// Lets those who wait have tokens that come back. Returns the operation that is left.
    pub(crate) fn share_returned(
        self: &Arc<Self>,
        keys: &RedisKeys,
        operation: Operation,
    ) -> Operation {
        let tokens = operation.returned();
        let Some(number) = self.lines().find(keys).filter(|_| !tokens.is_zero()) else {
            return operation;
        };
        let now = JavaScript::now();
        let taken = self.lines().tell(number, |line| line.returned(now, tokens));
        self.take_steps(number);
        operation.returning_less(&taken)
    }

    /// Holds or resets a bucket, then its marker, by which other processes see that it is held. Then
    /// tells those who wait, and answers the call `id`.
    pub(crate) fn run(self: &Arc<Self>, keys: RedisKeys, operation: Operation, id: u32) {
        let both = Arc::new(Both {
            lines: Arc::clone(self),
            keys: keys.clone(),
            operation,
            sent: JavaScript::now(),
            id,
            outcomes: Mutex::default(),
        });
        for (is_marker, keys) in [(false, keys.clone()), (true, keys.marker())] {
            let telling = Box::new(Telling { is_marker, both: Arc::clone(&both) });
            Completion::Telling(telling).run(&self.guarded, keys, operation);
        }
    }

    /// Tells those who wait that the bucket was held or reset by an operation that was sent at the
    /// time `sent`.
    fn tell(
        self: &Arc<Self>,
        keys: &RedisKeys,
        sent: u64,
        operation: Operation,
        outcome: &Result<Outcome, Error>,
    ) {
        let Ok(Outcome::Decision(decision)) = outcome else { return };
        // The policy for a failing store has answered: the bucket is as it was.
        if decision.source == Source::Fallback {
            return;
        }
        let Some(number) = self.lines().find(keys) else { return };
        let now = JavaScript::now();
        self.lines().tell(number, |line| line.told(now, sent, &operation));
        self.take_steps(number);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock()
    }

    fn take_steps(self: &Arc<Self>, number: LineNumber) {
        if !self.lines().begin_steps(number) {
            return;
        }
        loop {
            let Some(step) = self.lines().next_step(number) else { return };
            match step {
                Step::Answer(id, answer) => self.answers.put(id, answer.map(Outcome::Decision)),
                Step::Run(keys, operation, action) => {
                    let (lines, sent) = (Arc::clone(self), JavaScript::now());
                    let call = Box::new(LineCall { lines, number, sent, action });
                    Completion::Line(call).run(&self.guarded, keys, operation);
                }
            }
        }
    }
}
