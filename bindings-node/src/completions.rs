//! How calls of a store settle promises.
//!
//! The I/O thread never touches JavaScript: it puts each answer into a queue and, when the queue
//! was empty, wakes the event loop. The loop then takes all answers in one step, so one wake-up
//! serves as many promises as have gathered, and none is overlooked (see
//! [`tidegate::answer_queue`]).

use std::sync::Arc;

use napi::bindgen_prelude::{Float64ArraySlice, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use tidegate::Error;
use tidegate::bindings::{AnswerQueue, Pushed, after_batch};

use crate::answer::{Answered, Failure, NUMBERS, Reply, hand_over, numbers};

/// Weak: it does not keep the event loop alive. The JavaScript side does, while
/// there are promises to settle.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The answers on their way to one event loop.
#[napi]
pub struct Completions(Arc<Queue>);

struct Queue {
    answers: AnswerQueue<(u32, Result<Reply, Error>)>,
    /// `None` for calls whose answers are there when they return.
    wake: Option<Wake>,
}

/// All answers that had come in when they were taken.
#[napi(object, object_from_js = false)]
pub struct Answers<'env> {
    /// For each decision the number of its call, then the numbers of `answer::numbers`: an
    /// object with names for each would take longer to make than all the rest.
    pub decisions: Float64ArraySlice<'env>,
    /// All answers of other kinds; absent if there are none.
    pub others: Option<Vec<Completion>>,
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
    /// something to take. Without it nobody is told, which is for calls
    /// of a limiter that is not remote: their answers are there when they return.
    #[napi(constructor)]
    pub fn new(on_answers: Option<Function<'_, (), ()>>) -> napi::Result<Self> {
        let weak = |on_answers: Function<'_, (), ()>| {
            let build = on_answers.build_threadsafe_function::<()>();
            build.callee_handled::<false>().weak::<true>().build()
        };
        let wake = on_answers.map(weak).transpose()?;
        Ok(Self(Arc::new(Queue { answers: AnswerQueue::new(), wake })))
    }

    /// Takes all answers that have come in. They are taken in one step, as the queue demands.
    #[napi]
    pub fn take<'env>(&self, env: &'env Env) -> napi::Result<Answers<'env>> {
        let answers = self.0.answers.take();
        let mut decisions = Vec::with_capacity(answers.len() * (1 + NUMBERS));
        let mut others = None;
        for (id, outcome) in answers {
            match outcome {
                Ok(Reply::Decision(decision)) => {
                    decisions.push(f64::from(id));
                    decisions.extend(numbers(&decision));
                }
                other => others.get_or_insert_with(Vec::new).push(Completion::new(id, other)),
            }
        }
        Ok(Answers { decisions: Float64ArraySlice::copy_from(env, decisions)?, others })
    }
}

impl Completion {
    fn new(id: u32, outcome: Result<Reply, Error>) -> Self {
        match outcome.and_then(hand_over) {
            Ok(answer) => Self { id, answer: Some(answer), failure: None },
            Err(error) => Self { id, answer: None, failure: Some(Failure::from(&error)) },
        }
    }
}

impl Queue {
    fn push(self: Arc<Self>, id: u32, outcome: Result<Reply, Error>) {
        match self.answers.push((id, outcome)) {
            // One wake-up for all answers of a batch.
            Pushed::First if self.wake.is_some() => after_batch(move || self.wake()),
            Pushed::First | Pushed::Behind | Pushed::Closed(_) => {}
        }
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Fails only when the event loop is gone, and then nobody waits.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

impl Completions {
    pub(crate) fn ticket(&self, id: u32) -> Ticket {
        Ticket { queue: Some(Arc::clone(&self.0)), id }
    }
}

/// The right to settle one promise; it settles with an error if it is lost, so
/// that nobody waits for ever.
pub(crate) struct Ticket {
    /// None once it has been used.
    queue: Option<Arc<Queue>>,
    id: u32,
}

impl Ticket {
    pub(crate) fn settle(mut self, outcome: Result<Reply, Error>) {
        if let Some(queue) = self.queue.take() {
            queue.push(self.id, outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.push(self.id, Err(Error::Store("the call was dropped unanswered".into())));
        }
    }
}
