//! How calls of a store settle promises.
//!
//! The I/O thread never touches JavaScript: it puts its answer into a queue and,
//! when the queue was empty, wakes the event loop. The loop then takes all that has
//! come in, so one wake-up serves as many promises as have gathered.

use std::sync::Arc;

use napi::Status;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use parking_lot::Mutex;
use tidegate::Error;
use tidegate::answer::after_batch;

use crate::answer::{Answered, Failure, Reply, hand_over};

/// Weak: it does not keep the event loop alive. The JavaScript side does, while
/// there are promises to settle.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The answers on their way to one event loop.
#[napi]
pub struct Completions(Arc<Queue>);

struct Queue {
    outcomes: Mutex<Vec<(u32, Result<Reply, Error>)>>,
    /// None for calls whose answers are there when they return.
    wake: Option<Wake>,
}

/// What came of the call with this number: an answer or a failure.
#[napi(object, object_from_js = false)]
pub struct Completion {
    /// The number that the call was given.
    pub id: u32,
    /// What the limiter answered, of the kind that the call asks for.
    pub answer: Option<Answered>,
    /// Why there is no answer.
    pub failure: Option<Failure>,
}

#[napi]
impl Completions {
    /// A queue that has `on_answers` called, on the event loop, when there is
    /// something to [`take`](Self::take). Without it nobody is told, which is for calls
    /// of a limiter that is not remote: their answers are there when they return.
    #[napi(constructor)]
    pub fn new(on_answers: Option<Function<'_, (), ()>>) -> napi::Result<Self> {
        let weak = |on_answers: Function<'_, (), ()>| {
            let build = on_answers.build_threadsafe_function::<()>();
            build.callee_handled::<false>().weak::<true>().build()
        };
        let wake = on_answers.map(weak).transpose()?;
        Ok(Self(Arc::new(Queue { outcomes: Mutex::default(), wake })))
    }

    /// All answers that have come in.
    #[napi]
    pub fn take(&self) -> Vec<Completion> {
        let outcomes = core::mem::take(&mut *self.0.outcomes.lock());
        let completion =
            |(id, outcome): (u32, Result<Reply, Error>)| match outcome.and_then(hand_over) {
                Ok(answer) => Completion { id, answer: Some(answer), failure: None },
                Err(error) => Completion { id, answer: None, failure: Some(Failure::from(&error)) },
            };
        outcomes.into_iter().map(completion).collect()
    }
}

impl Queue {
    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Fails only when the event loop is gone, and then nobody waits.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
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
    outcome: Option<Result<Reply, Error>>,
}

impl Ticket {
    pub(crate) fn settle(mut self, outcome: Result<Reply, Error>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let lost = || Err(Error::Store("the call was dropped unanswered".into()));
        let outcome = self.outcome.take().unwrap_or_else(lost);
        let mut outcomes = self.queue.outcomes.lock();
        outcomes.push((self.id, outcome));
        if outcomes.len() == 1 && self.queue.wake.is_some() {
            drop(outcomes);
            let queue = Arc::clone(&self.queue);
            // One wake-up for all that one trip has brought.
            after_batch(move || queue.wake());
        }
    }
}
