//! The one path of every operation to its buckets, in three forms: with a callback, blocking, and
//! as a future.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use tidegate_core::{Cost, Operation, Outcome, admit};
use tidegate_protocol::{Ask, Host as _};

use super::{Buckets, Limiter, RedisBuckets};
use crate::answer::lost;
use crate::host::NativeHost;
use crate::lock::Mutex;
use crate::oneshot::{OneshotReceiver, oneshot};
use crate::{Error, Keys};

/// What is added to the store's timeout where a wait has to be bounded, because a busy I/O thread
/// answers late.
pub(super) const SPARE: Duration = Duration::from_secs(1);

impl Limiter {
    /// Runs any operation on the buckets of `keys`. The other methods are made of this one.
    ///
    /// In memory, and after an error in the arguments, `done` runs before this returns. Otherwise
    /// it runs on Tidegate's I/O thread, where it should do little.
    pub(crate) fn start<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => {
                return done(self.run_and_wait(keys, operation));
            }
            Buckets::Redis(_) | Buckets::WithoutUnlimited(_) => {}
        }
        let keys = match self.admit(keys.into(), &operation) {
            Ok(keys) => keys,
            Err(error) => return done(Err(error)),
        };
        if operation.changes_hold() {
            return self.run_with_marker(keys, operation, done);
        }
        self.dispatch(keys, self.share_returned(keys, operation), done);
    }

    /// Runs an operation that has been admitted.
    pub(super) fn dispatch(
        &self,
        keys: Keys<'_>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        match &self.0.buckets {
            Buckets::Memory(memory) => done(memory.run(keys, operation)),
            Buckets::Plan(plan) => done(plan.run(keys, &self.0.limits, operation)),
            Buckets::Shm(shared) => done(shared.tables().run(keys, operation)),
            Buckets::Fixed(fixed) => done(Ok(fixed.answer(&operation))),
            Buckets::WithoutUnlimited(rest) => rest.dispatch(keys, operation, Box::new(done)),
            Buckets::Redis(RedisBuckets { guarded, .. }) => {
                let stored = keys.in_redis(&self.0.prefix);
                match operation {
                    Operation::Check { cost } if self.has_leases() => {
                        let note = self.noting(keys, cost);
                        guarded.run(stored, operation, |outcome| {
                            note(&outcome);
                            done(outcome);
                        });
                    }
                    _ => guarded.run(stored, operation, done),
                }
            }
        }
    }

    /// Runs an operation on the marker of a shared bucket; see [`RedisKeys::marker`].
    ///
    /// [`RedisKeys::marker`]: tidegate_protocol::RedisKeys::marker
    pub(super) fn dispatch_on_marker(
        &self,
        keys: Keys<'_>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        match &self.0.buckets {
            // Only this process uses the bucket.
            Buckets::Memory(memory) => done(memory.run(keys, operation)),
            Buckets::Plan(plan) => done(plan.run(keys, &self.0.limits, operation)),
            Buckets::Shm(shared) => done(shared.tables().run_on_marker(keys, operation)),
            Buckets::Fixed(fixed) => done(Ok(fixed.answer(&operation))),
            Buckets::WithoutUnlimited(rest) => {
                rest.dispatch_on_marker(keys, operation, Box::new(done));
            }
            Buckets::Redis(RedisBuckets { guarded, .. }) => {
                guarded.run(keys.in_redis(&self.0.prefix).marker(), operation, done);
            }
        }
    }

    /// Runs a hold or a reset, and tells those who wait. The marker of a shared bucket is held and
    /// reset in the same batch, after the bucket itself: whoever sees the marker held finds the
    /// bucket held.
    fn run_with_marker(
        &self,
        keys: Keys<'_>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        self.discard_budget(keys);
        let (limiter, own, sent) = (self.clone(), keys.to_owned(), NativeHost::now());
        let finish = move |outcome: Result<Outcome, Error>| {
            own.lend(|keys| {
                // It may have been taken again meanwhile, before the store did this.
                limiter.discard_budget(keys);
                limiter.tell_line_of(keys, sent, operation, &outcome);
            });
            done(outcome);
        };
        if !self.is_shared() {
            return self.dispatch(keys, operation, finish);
        }
        let (done, marked) = after_both(finish);
        let Buckets::Redis(redis) = &self.0.buckets else {
            self.dispatch(keys, operation, done);
            return self.dispatch_on_marker(keys, operation, marked);
        };
        let keys = keys.in_redis(&self.0.prefix);
        redis.guarded.run_all([
            Ask { keys: keys.clone(), operation, done },
            Ask { keys: keys.marker(), operation, done: marked },
        ]);
    }

    /// Whether other processes may use the buckets.
    fn is_shared(&self) -> bool {
        match &self.0.buckets {
            Buckets::Shm(_) | Buckets::Redis(_) => true,
            Buckets::WithoutUnlimited(rest) => rest.limiter().is_shared(),
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Fixed(_) => false,
        }
    }

    /// [`start`](Self::start), which blocks while a remote store answers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong number of keys, the errors of the operation, and for a
    /// remote store its errors.
    pub(crate) fn run_and_wait<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) => {
                let keys = self.admit(keys.into(), &operation)?;
                let sent = self.time_for_line(&operation);
                let left = self.share_returned(keys, operation);
                let outcome = match &self.0.buckets {
                    Buckets::Plan(plan) => plan.run(keys, &self.0.limits, left),
                    Buckets::Memory(memory) => memory.run(keys, left),
                    _ => Err(lost()),
                };
                self.tell_line_of(keys, sent, operation, &outcome);
                outcome
            }
            Buckets::Shm(shared) => {
                let keys = self.admit(keys.into(), &operation)?;
                let sent = self.time_for_line(&operation);
                let outcome = shared.tables().run(keys, self.share_returned(keys, operation));
                if operation.changes_hold() {
                    // It has the errors of the operation itself.
                    _ = shared.tables().run_on_marker(keys, operation);
                }
                self.tell_line_of(keys, sent, operation, &outcome);
                outcome
            }
            Buckets::Fixed(fixed) => {
                self.admit(keys.into(), &operation).map(|_| fixed.answer(&operation))
            }
            Buckets::Redis(_) | Buckets::WithoutUnlimited(_) => {
                let (sender, receiver) = oneshot();
                self.start(keys, operation, move |outcome| sender.send(outcome));
                self.wait(receiver)
            }
        }
    }

    /// Waits for an answer of the store.
    pub(super) fn wait<T>(&self, receiver: OneshotReceiver<T>) -> Result<T, Error> {
        match &self.0.buckets {
            Buckets::Redis(redis) => wait(redis, receiver),
            Buckets::WithoutUnlimited(rest) => rest.limiter().wait(receiver),
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => {
                receiver.wait()
            }
        }
    }

    /// The longest wait for an answer of the store, if the waiting thread may be the one that is to
    /// do the store's I/O.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        match &self.0.buckets {
            Buckets::Redis(redis) => redis.store.longest_wait(),
            Buckets::WithoutUnlimited(rest) => rest.limiter().longest_wait(),
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => None,
        }
    }

    /// [`start`](Self::start) as a future, for any executor.
    ///
    /// # Errors
    /// As [`run_and_wait`](Self::run_and_wait).
    pub(crate) fn run_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        operation: Operation,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + 'static {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // An error says that the future has been dropped.
        self.start(keys, operation, move |outcome| _ = sender.send(outcome));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// The errors that a check would answer without asking the store. Nothing is spent.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong number of keys or of costs, [`Error::CostTooLarge`],
    /// and [`Error::Store`] when the limiter is closed.
    pub fn validate<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
    ) -> Result<(), Error> {
        self.admit(keys.into(), &Operation::Check { cost: cost.into() }).map(|_| ())
    }

    /// Refuses what no store should be asked.
    pub(super) fn admit<'k>(
        &self,
        keys: Keys<'k>,
        operation: &Operation,
    ) -> Result<Keys<'k>, Error> {
        if self.is_closed() {
            return Err(Error::Store("the limiter is closed".into()));
        }
        let admitted = match &self.0.buckets {
            // It has an answer to any cost.
            Buckets::Fixed(_) => operation.check_costs(self.0.named.len()),
            Buckets::WithoutUnlimited(rest) => operation
                .check_costs(self.0.named.len())
                .and_then(|()| admit(&self.0.limits, &rest.pick_costs(*operation))),
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Redis(_) => {
                admit(&self.0.limits, operation)
            }
        };
        admitted.map_err(Error::from_engine)?;
        keys.checked(self.0.named.len())
    }
}

type Done = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// What two callbacks wait for, each for the other.
struct Both<F> {
    outcome: Option<Result<Outcome, Error>>,
    is_marked: bool,
    finish: Option<F>,
}

/// Two callbacks: once both have been called, `finish` gets the outcome that the first was given. They
/// may be called in any order, because a breaker may let only one of two operations through.
fn after_both<F: FnOnce(Result<Outcome, Error>) + Send + 'static>(finish: F) -> (Done, Done) {
    let both = Both { outcome: None, is_marked: false, finish: Some(finish) };
    let first = Arc::new(Mutex::new(both));
    let second = Arc::clone(&first);
    let done = move |outcome| {
        first.lock().outcome = Some(outcome);
        conclude(&first);
    };
    let marked = move |_| {
        second.lock().is_marked = true;
        conclude(&second);
    };
    (Box::new(done), Box::new(marked))
}

fn conclude<F: FnOnce(Result<Outcome, Error>)>(both: &Mutex<Both<F>>) {
    let mut state = both.lock();
    if !state.is_marked {
        return;
    }
    let Some(outcome) = state.outcome.take() else { return };
    let finish = state.finish.take();
    drop(state);
    if let Some(finish) = finish {
        finish(outcome);
    }
}

/// Waits for an answer of the store. The wait is bounded if the waiting thread may be the one that
/// is to do the I/O.
#[expect(clippy::disallowed_methods, reason = "a deadline in real time")]
pub(super) fn wait<T>(redis: &RedisBuckets, receiver: OneshotReceiver<T>) -> Result<T, Error> {
    let Some(longest) = redis.store.longest_wait() else { return receiver.wait() };
    let deadline = Instant::now() + longest + SPARE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.wait_for(left) {
            Some(answer) => return answer,
            None if left.is_zero() => return Err(Error::timeout(longest)),
            None => {}
        }
    }
}
