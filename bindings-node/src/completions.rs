//! How checks on a store settle promises.
//!
//! The I/O thread never touches JavaScript: it puts its answer into a queue and,
//! when the queue was empty, wakes the event loop. The loop then takes all that has
//! come in, so one wake-up serves as many promises as have gathered.

use std::sync::Arc;

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Either, Status};
use napi_derive::napi;
use parking_lot::Mutex;
use tidegate::{Decision, Error};

use crate::answer::{Answer, Failure, answer_or_failure};

/// Weak: it does not keep the event loop alive. The JavaScript side does, while
/// there are promises to settle.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The answers on their way to one event loop.
#[napi]
pub struct Completions(Arc<Queue>);

struct Queue {
    outcomes: Mutex<Vec<(u32, Result<Decision, Error>)>>,
    wake: Wake,
}

/// The answer to the check with this number.
#[napi(object, object_from_js = false)]
pub struct Completion {
    /// The number that the check was given.
    pub id: u32,
    /// What came of it.
    pub outcome: Either<Answer, Failure>,
}

#[napi]
impl Completions {
    /// A queue that has `on_answers` called, on the event loop, when there is
    /// something to [`take`](Self::take).
    #[napi(constructor)]
    pub fn new(on_answers: Function<'_, (), ()>) -> napi::Result<Self> {
        let wake = on_answers
            .build_threadsafe_function::<()>()
            .callee_handled::<false>()
            .weak::<true>()
            .build()?;
        Ok(Self(Arc::new(Queue { outcomes: Mutex::default(), wake })))
    }

    /// All answers that have come in.
    #[napi]
    pub fn take(&self) -> Vec<Completion> {
        let outcomes = core::mem::take(&mut *self.0.outcomes.lock());
        let completion = |(id, outcome)| Completion { id, outcome: answer_or_failure(&outcome) };
        outcomes.into_iter().map(completion).collect()
    }
}

impl Completions {
    pub(crate) fn ticket(&self, id: u32) -> Ticket {
        Ticket { queue: Arc::clone(&self.0), id, outcome: None }
    }
}

/// The right to settle one promise; it settles with an error if it is lost, so
/// that nobody waits for ever.
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    id: u32,
    outcome: Option<Result<Decision, Error>>,
}

impl Ticket {
    pub(crate) fn settle(mut self, outcome: Result<Decision, Error>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let lost = || Err(Error::Store("the check was dropped unanswered".into()));
        let outcome = self.outcome.take().unwrap_or_else(lost);
        let mut outcomes = self.queue.outcomes.lock();
        let was_empty = outcomes.is_empty();
        outcomes.push((self.id, outcome));
        drop(outcomes);
        if was_empty {
            // Fails only when the event loop is gone, and then nobody waits.
            self.queue.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}
