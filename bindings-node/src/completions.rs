//! Settles promises with the answers to calls of a store.
//!
//! The I/O thread never touches JavaScript: it puts each answer into a queue and, when the queue
//! was empty, wakes the event loop. The loop then takes all answers in one step, so one wake-up
//! serves many promises, and no answer is overlooked (see [`tidegate::answer_queue`]).

use std::sync::Arc;

use napi::bindgen_prelude::{Either4, Float64ArraySlice, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use tidegate::bindings::{AnswerQueue, CancelOnDrop, Granted, Pushed, after_batch};
use tidegate::{Error, Permit, TieredDecision};

use crate::answer::{Failure, RECORD, record, record_of};
use crate::concurrency::Entered;
use crate::reservation::Reserved;

/// Wakes the event loop. It is weak, which means that it does not keep the loop alive: the
/// JavaScript side does, while there are promises to settle.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The queue of answers for one event loop.
#[napi]
pub struct Completions(Arc<Queue>);

struct Queue {
    answers: AnswerQueue<(u32, Result<Reply, Error>)>,
    /// `None` for calls whose answers are there when they return.
    wake: Option<Wake>,
}

/// The answer to any operation of a limiter.
pub(crate) enum Reply {
    Decision(TieredDecision),
    Decisions(Vec<TieredDecision>),
    /// A reservation, which is cancelled if it never reaches JavaScript.
    Reservation(CancelOnDrop),
    /// Tokens that a caller has waited for. They go to the next if they never reach JavaScript.
    Granted(Granted),
    /// Whether all of a reservation was given back.
    Cancelled(bool),
    /// The store has answered a ping, or heard that a permit was given back.
    Served,
    /// A permit, which is given back if it never reaches JavaScript.
    Permit(Permit),
    /// A number of permits.
    InFlight(u64),
}

/// All answers that had come in when they were taken.
#[napi(object, object_from_js = false)]
pub struct Answers<'env> {
    /// The id of its call, then its record, for each answer that is one decision. Nearly all are.
    pub decisions: Float64ArraySlice<'env>,
    /// All other answers; absent if there are none.
    pub others: Option<Vec<Completion>>,
}

/// The answer to one call, or its failure.
#[napi(object, object_from_js = false)]
pub struct Completion {
    /// The id of the call.
    pub id: u32,
    /// The records of decisions or a number of permits, or a reservation, or whether all of one was given
    /// back, or a permit.
    pub answer: Option<Either4<Vec<f64>, Reserved, bool, Entered>>,
    /// The reason why there is no answer.
    pub failure: Option<Failure>,
}

#[napi]
impl Completions {
    /// A queue that calls `on_answers` on the event loop when there are answers to take. Without
    /// `on_answers` it wakes nobody. It is then for limiters that are not remote, whose answers are
    /// there when a call returns.
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
        let mut decisions = Vec::with_capacity(answers.len() * (1 + RECORD));
        let mut others = None;
        for (id, outcome) in answers {
            match outcome {
                Ok(Reply::Decision(decision)) => {
                    decisions.push(f64::from(id));
                    record(&decision, &mut decisions);
                }
                other => others.get_or_insert_with(Vec::new).push(Completion::new(id, other)),
            }
        }
        Ok(Answers { decisions: Float64ArraySlice::copy_from(env, decisions)?, others })
    }
}

impl Completion {
    fn new(id: u32, outcome: Result<Reply, Error>) -> Self {
        let answer = outcome.and_then(|reply| {
            Ok(match reply {
                Reply::Decision(decision) => Either4::A(record_of(&decision)),
                Reply::Decisions(decisions) => {
                    let mut numbers = Vec::with_capacity(decisions.len() * RECORD);
                    decisions.iter().for_each(|decision| record(decision, &mut numbers));
                    Either4::A(numbers)
                }
                Reply::Reservation(reservation) => Either4::B(reservation.claim()?.into()),
                Reply::Granted(granted) => Either4::A(record_of(&granted.claim())),
                Reply::Cancelled(all) => Either4::C(all),
                Reply::Served => Either4::C(true),
                Reply::Permit(permit) => Either4::D(permit.into()),
                Reply::InFlight(live) => Either4::A(vec![live as f64]),
            })
        });
        match answer {
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
            // This fails only when the event loop is gone, and then no promise is left to settle.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

impl Completions {
    /// The right to settle the promise of the call with this id.
    pub(crate) fn ticket(&self, id: u32) -> Ticket {
        Ticket { queue: Some(Arc::clone(&self.0)), id }
    }
}

/// The right to settle one promise. If it is dropped unused, the promise is rejected, so that
/// nobody waits for ever.
pub(crate) struct Ticket {
    /// `None` once it has been used.
    queue: Option<Arc<Queue>>,
    id: u32,
}

impl Ticket {
    /// Settles the promise.
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
