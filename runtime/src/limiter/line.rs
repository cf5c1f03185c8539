//! Drives the waiting lines: carries out on the store what a line asks for, and tells it the answers.

use core::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tidegate_core::{Charge, Operation, Outcome, Source};
use tidegate_protocol::{Action, Host as _, OwnedKeys};

use super::{Buckets, Inner, Limiter};
use crate::answer::{batch, decision, lost, unexpected};
use crate::host::NativeHost;
use crate::line::{KeyLine, Task, timer};
use crate::{Error, Keys, io};

/// A limiter that an alarm does not keep alive.
pub(crate) struct WeakLimiter(Weak<Inner>);

impl WeakLimiter {
    /// Wakes the line of these keys, if the limiter still lives.
    pub(crate) fn wake_line(&self, keys: Arc<OwnedKeys>) {
        let Some(inner) = self.0.upgrade() else { return };
        let limiter = Limiter(inner);
        match limiter.uses_client().then(io::handle) {
            // The client may block the thread that calls it.
            Some(Ok(handle)) => {
                _ = handle.spawn_blocking(move || limiter.feed_line(&keys, KeyLine::wake));
            }
            Some(Err(_)) | None => limiter.feed_line(&keys, KeyLine::wake),
        }
    }
}

impl Limiter {
    pub(crate) fn downgrade(&self) -> WeakLimiter {
        WeakLimiter(Arc::downgrade(&self.0))
    }

    /// Gives an input to the line of a key, and does what follows from it.
    pub(super) fn feed_line<R>(
        &self,
        keys: &Arc<OwnedKeys>,
        input: impl FnOnce(&mut KeyLine, u64) -> R,
    ) -> R {
        let (answer, tasks) = self.0.lines.feed(keys, input);
        if !tasks.is_empty() {
            // Answers that come together share one wake-up.
            batch(|| tasks.into_iter().for_each(|task| self.carry_out(keys, task)));
        }
        answer
    }

    fn carry_out(&self, keys: &Arc<OwnedKeys>, task: Task) {
        match task {
            Task::Tell(answered, answer) => answered(answer),
            Task::WakeAt(at) => {
                let (limiter, own) = (self.downgrade(), Arc::clone(keys));
                if let Err(error) = timer::wake_at(at, move || limiter.wake_line(own)) {
                    self.feed_line(keys, |line, now| line.line.close(now, &error));
                }
            }
            Task::Do(action) => self.act(keys, action),
        }
    }

    /// Carries out what a line asks of the store, also when the limiter is closed: slots are then
    /// given back.
    fn act(&self, keys: &Arc<OwnedKeys>, action: Action) {
        let (limiter, own, sent) = (self.clone(), Arc::clone(keys), NativeHost::now());
        match action {
            Action::Reserve(asked) => {
                let told = Told::new(move |outcome| {
                    let reserved = match outcome {
                        Ok(Outcome::Reserved(reserved)) => Ok(reserved),
                        Ok(_) => Err(unexpected()),
                        Err(error) => Err(error),
                    };
                    limiter.feed_line(&own, |line, now| {
                        line.line.reserved(now, sent, asked, reserved);
                    });
                });
                keys.lend(|keys| self.dispatch(keys, asked.operation(), told.into_done()));
            }
            Action::Cancel(cancelled) => {
                let told = Told::new(move |outcome| {
                    let all = match outcome {
                        Ok(Outcome::Cancelled(all)) => Ok(all),
                        Ok(_) => Err(unexpected()),
                        Err(error) => Err(error),
                    };
                    limiter.feed_line(&own, |line, now| line.line.cancelled(now, cancelled, all));
                });
                let cancel = Operation::Cancel(cancelled.charge());
                keys.lend(|keys| self.dispatch(keys, cancel, told.into_done()));
            }
            Action::Look => {
                let told = Told::new(move |outcome| {
                    let held = decision(outcome).map(|decision| match decision.source {
                        // Nobody has looked.
                        Source::Fallback => 0,
                        _ => decision.retry_after,
                    });
                    limiter.feed_line(&own, |line, now| line.line.looked(now, sent, held));
                });
                let look = Operation::Peek { cost: 1.into() };
                keys.lend(|keys| self.dispatch_on_marker(keys, look, told.into_done()));
            }
            Action::Answer { .. } => {}
        }
    }

    /// Lets those who wait have tokens that come back. Answers the operation that is left for the
    /// store.
    pub(super) fn share_returned(&self, keys: Keys<'_>, operation: Operation) -> Operation {
        let returned = operation.returned();
        if returned.is_zero() || self.0.lines.is_empty() {
            return operation;
        }
        let keys = Arc::new(keys.to_owned());
        if !self.0.lines.has_waiters(&keys) {
            return operation;
        }
        let taken = self.feed_line(&keys, |line, now| line.line.returned(now, returned));
        operation.returning_less(&taken)
    }

    /// Gives a slot that is `delay` away to those who wait for it. Answers whether somebody does.
    pub(crate) fn hand_on(&self, keys: &OwnedKeys, delay: u64, charge: Charge) -> bool {
        let is_real = charge.source != Source::Fallback && !self.is_closed();
        if !is_real || !self.0.lines.has_waiters(keys) {
            return false;
        }
        let keys = Arc::new(keys.clone());
        self.feed_line(&keys, |line, now| line.line.adopt(now, delay, charge.cost, charge))
    }

    /// The time now, if an operation that is about to be run concerns somebody who waits.
    pub(super) fn time_for_line(&self, operation: &Operation) -> u64 {
        let concerns = operation.changes_hold() && self.has_lines();
        if concerns { NativeHost::now() } else { 0 }
    }

    /// Tells those who wait that a bucket was held or reset, by an operation sent at the time `sent`,
    /// and lines that have slots for those who come. It is the bucket of calls under any limits.
    pub(super) fn tell_line_of(
        &self,
        keys: Keys<'_>,
        sent: u64,
        operation: Operation,
        outcome: &Result<Outcome, Error>,
    ) {
        if !operation.changes_hold() || !self.has_lines() {
            return;
        }
        let Ok(Outcome::Decision(decision)) = outcome else { return };
        let source = decision.source;
        let keys = Arc::new(keys.to_owned());
        // A policy has answered: the bucket is as it was.
        if source == Source::Fallback {
            return;
        }
        for limiter in self.relatives() {
            if limiter.0.lines.has_line(&keys) {
                limiter.feed_line(&keys, |line, now| line.line.told(now, sent, &operation));
            }
        }
    }

    /// Tells all who wait that the limiter is closed, and gives their slots back.
    pub(super) fn close_lines(&self) {
        let error = Error::Store("the limiter is closed".into());
        for keys in self.0.lines.keys() {
            self.feed_line(&keys, |line, now| line.line.close(now, &error));
        }
    }

    /// Whether the store is a client of the program's own.
    fn uses_client(&self) -> bool {
        match &self.0.buckets {
            Buckets::Redis(redis) => redis.store.is_client(),
            Buckets::WithoutUnlimited(rest) => rest.limiter().uses_client(),
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

/// A callback that a line is sure to get: if it is lost, it is called with an error.
struct Told<F: FnOnce(Result<Outcome, Error>)>(Option<F>);

impl<F: FnOnce(Result<Outcome, Error>)> Told<F> {
    const fn new(told: F) -> Self {
        Self(Some(told))
    }

    fn into_done(mut self) -> impl FnOnce(Result<Outcome, Error>) {
        move |outcome| {
            if let Some(told) = self.0.take() {
                told(outcome);
            }
        }
    }
}

impl<F: FnOnce(Result<Outcome, Error>)> Drop for Told<F> {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(Err(lost()));
        }
    }
}
