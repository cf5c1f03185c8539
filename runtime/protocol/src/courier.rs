//! Shared buckets over a client that somebody else has made: it does the I/O, and what
//! travels and what follows from it is decided here. `now` is always the program's clock's,
//! in nanoseconds.

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_core::Outcome;

use crate::call::Call;
use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::exchange::{Exchange, Reply};
use crate::nanos::nanos;
use crate::plan::plan;
use crate::request::Request;
use crate::store::Done;

/// Has errands run over a client of its own.
pub trait Courier: Send + Sync {
    /// Takes errands that belong together and has them answered, in order, before this
    /// returns or later; with others if that saves trips.
    fn take(&self, errands: Vec<Errand>);
}

/// A request on its way, and who waits for its answer. One that is dropped has its caller
/// told that the answer was lost.
pub struct Errand {
    request: Request,
    caller: Caller,
    refused: Arc<DenyCache>,
}

struct Caller {
    deadline: u64,
    timeout: Duration,
    done: Option<Done>,
}

/// Errands that wait for the next trip.
#[derive(Default)]
pub struct Outbox {
    waiting: VecDeque<Errand>,
    /// When the first of them will have waited long enough.
    due: Option<u64>,
}

impl Outbox {
    /// Puts errands behind those that wait.
    pub fn put(&mut self, errands: Vec<Errand>) {
        self.due = self.due.into_iter().chain(earliest(&errands)).min();
        self.waiting.extend(errands);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first of them, up to a number.
    pub fn leave(&mut self, most: usize) -> Vec<Errand> {
        let count = self.waiting.len().min(most);
        let leaving = self.waiting.drain(..count).collect();
        self.due = earliest(&self.waiting);
        leaving
    }

    /// How long the next one still waits that may [expire](Self::expire).
    pub fn left(&self, now: u64) -> Option<Duration> {
        self.due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// Takes out those that have waited long enough: to [give up](Errand::give_up) on, once
    /// nobody is kept from the outbox by it. And how long the next one still waits.
    pub fn expire(&mut self, now: u64) -> (Vec<Errand>, Option<Duration>) {
        let (late, waiting) = core::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|errand| errand.caller.deadline <= now);
        self.waiting = waiting;
        self.due = earliest(&self.waiting);
        (Vec::from(late), self.left(now))
    }
}

fn earliest<'e>(errands: impl IntoIterator<Item = &'e Errand>) -> Option<u64> {
    errands.into_iter().map(|errand| errand.caller.deadline).min()
}

impl Errand {
    /// Tells its caller that there was no answer in time.
    pub fn give_up(mut self) {
        self.caller.give_up();
    }
}

/// A Redis that a courier reaches, for any number of limiters.
pub struct Carriage {
    courier: Box<dyn Courier>,
    refused: Arc<DenyCache>,
}

impl Carriage {
    /// What `courier` reaches.
    pub fn new(courier: impl Courier + 'static) -> Arc<Self> {
        Arc::new(Self { courier: Box::new(courier), refused: Arc::default() })
    }

    pub(crate) fn refused(&self) -> &Arc<DenyCache> {
        &self.refused
    }

    pub(crate) fn send(
        &self,
        requests: impl Iterator<Item = (Request, Done)>,
        timeout: Duration,
        now: u64,
    ) {
        let deadline = now.saturating_add(nanos(timeout));
        let errand = |(request, done)| {
            let caller = Caller { deadline, timeout, done: Some(done) };
            Errand { request, caller, refused: Arc::clone(&self.refused) }
        };
        let errands: Vec<Errand> = requests.map(errand).collect();
        if !errands.is_empty() {
            self.courier.take(errands);
        }
    }
}

/// Errands that travel together. Their callers are answered as the replies come.
pub struct Trip {
    exchange: Exchange<Call>,
    callers: Vec<Caller>,
    sent: u64,
    refused: Option<Arc<DenyCache>>,
}

impl Trip {
    /// Puts errands of one carriage together, to be sent now. Who has waited too long for a
    /// trip to begin is not charged.
    pub fn new(errands: Vec<Errand>, now: u64) -> Self {
        let refused = errands.first().map(|errand| Arc::clone(&errand.refused));
        let mut callers = Vec::with_capacity(errands.len());
        let mut requests = Vec::with_capacity(errands.len());
        for Errand { request, mut caller, .. } in errands {
            if caller.deadline <= now {
                caller.give_up();
                continue;
            }
            requests.push(request);
            callers.push(caller);
        }
        Self { exchange: Exchange::new(plan(requests)), callers, sent: now, refused }
    }

    /// What is to be sent now, in one pipeline: the words of each command. None when the trip
    /// is over.
    pub fn commands(&mut self) -> Vec<Vec<Cow<'_, [u8]>>> {
        self.exchange.commands()
    }

    /// Whether there is nothing more to be sent.
    pub fn is_over(&self) -> bool {
        self.exchange.is_over()
    }

    /// Takes the reply to each command that was asked for last.
    pub fn take(&mut self, replies: impl IntoIterator<Item = Reply>) {
        for (command, reply) in replies.into_iter().enumerate() {
            self.take_one(command, reply);
        }
    }

    /// Takes the reply to the command of that place.
    pub fn take_one(&mut self, command: usize, reply: Reply) {
        let Self { exchange, callers, sent, refused } = self;
        let Some((_, call, reply)) = exchange.take(command, reply) else { return };
        let give = |place: usize, outcome| callers[place].answer(outcome);
        let seen = reply.seen(&call);
        call.answer(seen, give, |refusal| {
            if let Some(refused) = &refused {
                refused.keep(refusal, *sent);
            }
        });
    }

    /// Gives the error to all that have not been answered: the trip is over.
    pub fn fail(&mut self, error: &Error) {
        let Self { exchange, callers, .. } = self;
        for (_, call) in exchange.give_up() {
            call.answer(
                Err(error.clone()),
                |place, outcome| callers[place].answer(outcome),
                |_| {},
            );
        }
    }

    /// Answers those who have waited for as long as they would, and says how long the next one
    /// still does; nothing when nobody waits any more.
    pub fn expire(&mut self, now: u64) -> Option<Duration> {
        // Limiters of one client may differ in how long they would wait.
        let waiting = self.callers.iter_mut().filter(|caller| caller.done.is_some());
        let left = waiting.filter_map(|caller| {
            if caller.deadline > now {
                return Some(Duration::from_nanos(caller.deadline - now));
            }
            caller.give_up();
            None
        });
        left.min()
    }
}

impl Caller {
    fn answer(&mut self, outcome: Result<Outcome, Error>) {
        let outcome = outcome.map_err(|error| match error {
            Error::StoreTimeout { after: Duration::ZERO } => {
                Error::StoreTimeout { after: self.timeout }
            }
            error => error,
        });
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }

    fn give_up(&mut self) {
        self.answer(Err(Error::StoreTimeout { after: self.timeout }));
    }
}
