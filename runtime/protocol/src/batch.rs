//! Requests that are sent together, and how each caller gets its answer.
//!
//! Every host drives this machine: it sends [`commands`](Batch::commands) over its connection and
//! hands the replies to [`take`](Batch::take), until the batch [is over](Batch::is_over).

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::borrow::Cow;
use std::sync::Arc;

use crate::call::{Call, Learned};
use crate::error::{Cause, Error};
use crate::lease::LeaseCall;
use crate::pending::{Caller, PendingRequest, Unanswered};
use crate::permits::PermitCall;
use crate::pipeline::{Pipeline, Reply};
use crate::plan::Planner;
use crate::script::{Script, ScriptCall};
use crate::server_state::ServerState;

/// Requests that are sent together, each with its caller.
pub struct Batch {
    pipeline: Pipeline<BatchCall>,
    callers: Vec<Caller>,
    /// When it was made, by the program's clock.
    sent: u64,
    /// The earliest deadline of a caller who may still wait.
    due: u64,
    server: Arc<ServerState>,
}

/// A script call of a batch.
enum BatchCall {
    Operations(Call),
    /// A lease call, and the place of its caller.
    Lease(usize, Box<LeaseCall>),
    /// A call about permits, and the place of its caller.
    Permits(usize, Box<PermitCall>),
}

impl Batch {
    /// Plans requests into script calls, to be sent at `now` to `server`. A caller whose deadline
    /// has passed is told so, and charged nothing.
    pub fn new(
        requests: impl IntoIterator<Item = PendingRequest>,
        server: &Arc<ServerState>,
        now: u64,
    ) -> Self {
        let requests = requests.into_iter();
        let mut callers = Vec::with_capacity(requests.size_hint().0);
        let mut others = Vec::new();
        let mut planner = Planner::new(server.together());
        let mut due = u64::MAX;
        for request in requests {
            if request.deadline <= now {
                request.give_up();
                continue;
            }
            let (work, caller) = request.split();
            due = due.min(caller.deadline);
            match work {
                Unanswered::Operation(request) => planner.add(callers.len(), request),
                Unanswered::Lease(call) => others.push(BatchCall::Lease(callers.len(), call)),
                Unanswered::Permits(call) => others.push(BatchCall::Permits(callers.len(), call)),
            }
            callers.push(caller);
        }
        let operations = planner.into_calls().into_iter().map(BatchCall::Operations);
        let pipeline = Pipeline::new(operations.chain(others), &server.known);
        Self { pipeline, callers, sent: now, due, server: Arc::clone(server) }
    }

    /// A batch of nobody's requests, which is over.
    pub fn empty() -> Self {
        Self::new([], &Arc::default(), 0)
    }

    /// Writes each command that is to be sent now, in one pipeline: `write` gets its words. There
    /// are none when the batch is over.
    pub fn commands<T>(
        &mut self,
        write: impl FnMut(&mut dyn Iterator<Item = Cow<'_, [u8]>>) -> T,
    ) -> Vec<T> {
        self.pipeline.commands(write)
    }

    /// Whether nothing more is to be sent.
    pub fn is_over(&self) -> bool {
        self.pipeline.is_over()
    }

    /// Takes the reply to each command that was written last.
    pub fn take(&mut self, replies: impl IntoIterator<Item = Reply>) {
        for (command, reply) in replies.into_iter().enumerate() {
            self.take_one(command, reply);
        }
    }

    /// Takes the reply to the command of that place.
    pub fn take_one(&mut self, command: usize, reply: Reply) {
        let Some((call, reply)) = self.pipeline.take(command, reply, &self.server.known) else {
            return;
        };
        match call {
            BatchCall::Lease(place, _) => self.callers[place].grant(reply.grant()),
            BatchCall::Permits(place, call) => self.callers[place].permit(reply.permits(&call)),
            BatchCall::Operations(call) => {
                if reply.is_of_several_slots()
                    && let parts = call.split()
                    && !parts.is_empty()
                {
                    self.server.by_slot.store(true, Ordering::Relaxed);
                    self.pipeline.add(parts.into_iter().map(BatchCall::Operations));
                    return;
                }
                let snapshot = reply.snapshot(&call);
                let give = |place: usize, outcome| self.callers[place].answer(outcome);
                let (refused, sent) = (&self.server.refused, self.sent);
                call.answer(snapshot, give, |learned| match learned {
                    Learned::Carried(key) => refused.forget(&key),
                    Learned::Refused(refusal) => refused.keep(refusal, sent),
                });
            }
        }
    }

    /// Ends the batch: every caller without an answer gets the error.
    pub fn fail(&mut self, error: &Error) {
        self.pipeline.give_up();
        for caller in &mut self.callers {
            caller.answer(Err(error.clone()));
        }
    }

    /// Tells the callers whose deadline has passed that no answer came in time. Answers the time
    /// until the next one's deadline; `None` when nobody waits any more.
    pub fn expire(&mut self, now: u64) -> Option<Duration> {
        self.expire_telling(now, || None)
    }

    /// The same, where `unanswered` says what the callers may have waited for, if that is known.
    pub fn expire_telling(
        &mut self,
        now: u64,
        unanswered: impl FnOnce() -> Option<String>,
    ) -> Option<Duration> {
        if now >= self.due {
            let cause = unanswered().map_or(Cause::NONE, Cause::awaited_in_vain);
            let callers = self.callers.iter_mut().filter(|caller| caller.waits());
            let left = callers.filter_map(|caller| {
                if caller.deadline > now {
                    return Some(caller.deadline);
                }
                caller.give_up_because(&cause);
                None
            });
            self.due = left.min()?;
        }
        let waits = self.callers.iter().any(Caller::waits);
        waits.then(|| Duration::from_nanos(self.due - now))
    }
}

impl ScriptCall for BatchCall {
    fn script(&self) -> &'static Script {
        match self {
            Self::Operations(call) => call.script(),
            Self::Lease(_, call) => call.script(),
            Self::Permits(_, call) => call.script(),
        }
    }

    fn keys(&self) -> &[Vec<u8>] {
        match self {
            Self::Operations(call) => call.keys(),
            Self::Lease(_, call) => call.keys(),
            Self::Permits(_, call) => call.keys(),
        }
    }

    fn arguments(&self) -> &[String] {
        match self {
            Self::Operations(call) => call.arguments(),
            Self::Lease(_, call) => call.arguments(),
            Self::Permits(_, call) => call.arguments(),
        }
    }

    fn is_repeatable(&self) -> bool {
        match self {
            Self::Operations(call) => call.is_repeatable(),
            Self::Lease(_, call) => call.is_repeatable(),
            Self::Permits(_, call) => call.is_repeatable(),
        }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
