//! How calls of a store settle promises.
//!
//! The I/O thread never touches JavaScript: it puts its answer into a queue and,
//! when the queue was empty, wakes the event loop. The loop then takes all that has
//! come in, so one wake-up serves as many promises as have gathered.

use core::mem::take;
use std::sync::Arc;

use napi::bindgen_prelude::{Float64ArraySlice, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use tidegate::answer::after_batch;
use tidegate::lock::Mutex;
use tidegate::{Decision, Error};

use crate::answer::{Answered, Failure, NUMBERS, Reply, hand_over, numbers};

/// Weak: it does not keep the event loop alive. The JavaScript side does, while
/// there are promises to settle.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The answers on their way to one event loop.
#[napi]
pub struct Completions(Arc<Queue>);

struct Queue {
    outcomes: Mutex<Outcomes>,
    /// None for calls whose answers are there when they return.
    wake: Option<Wake>,
}

#[derive(Default)]
struct Outcomes {
    /// Apart, because nearly all are: they go to JavaScript as numbers.
    decisions: Vec<(u32, Decision)>,
    others: Vec<(u32, Result<Reply, Error>)>,
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
        Ok(Self(Arc::new(Queue { outcomes: Mutex::default(), wake })))
    }

    /// All decisions that have come in, each as the number that its call was given and the
    /// numbers of `answer::numbers`: an object with names for each takes
    /// longer to make than all the rest.
    #[napi]
    pub fn take_decisions<'env>(&self, env: &'env Env) -> napi::Result<Float64ArraySlice<'env>> {
        let decisions = take(&mut self.0.outcomes.lock().decisions);
        let mut taken = Vec::with_capacity(decisions.len() * (1 + NUMBERS));
        for (id, decision) in decisions {
            taken.push(f64::from(id));
            taken.extend(numbers(&decision));
        }
        Float64ArraySlice::copy_from(env, taken)
    }

    /// All other answers that have come in.
    #[napi]
    pub fn take_others(&self) -> Vec<Completion> {
        let others = take(&mut self.0.outcomes.lock().others);
        let completion =
            |(id, outcome): (u32, Result<Reply, Error>)| match outcome.and_then(hand_over) {
                Ok(answer) => Completion { id, answer: Some(answer), failure: None },
                Err(error) => Completion { id, answer: None, failure: Some(Failure::from(&error)) },
            };
        others.into_iter().map(completion).collect()
    }
}

impl Queue {
    fn push(self: Arc<Self>, id: u32, outcome: Result<Reply, Error>) {
        let mut outcomes = self.outcomes.lock();
        match outcome {
            Ok(Reply::Decision(decision)) => outcomes.decisions.push((id, decision)),
            other => outcomes.others.push((id, other)),
        }
        let is_first = outcomes.decisions.len() + outcomes.others.len() == 1;
        drop(outcomes);
        if is_first && self.wake.is_some() {
            // One wake-up for all that one trip has brought.
            after_batch(move || self.wake());
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
