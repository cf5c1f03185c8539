//! Requests that wait to be sent, each with its caller's deadline.

use core::time::Duration;
use std::collections::VecDeque;

use tidegate_core::{Grant, Outcome};

use crate::error::{Cause, Error};
use crate::lease::LeaseCall;
use crate::nanos::nanos;
use crate::permits::{PermitCall, PermitReply};
use crate::request::Request;
use crate::work::{Done, GrantDone, PermitsDone, Work};

/// Work for a server, and the time by which its caller is told that no answer came.
pub struct PendingRequest {
    pub(crate) work: Work,
    pub(crate) deadline: u64,
    pub(crate) timeout: Duration,
}

impl PendingRequest {
    /// Work whose caller waits for `timeout` from `now` on, by the program's clock in nanoseconds.
    pub fn new(work: Work, timeout: Duration, now: u64) -> Self {
        Self { work, deadline: now.saturating_add(nanos(timeout)), timeout }
    }

    /// Tells its caller that no answer came in time.
    pub fn give_up(self) {
        let (_, mut caller) = self.split();
        caller.give_up();
    }

    /// The work without its callback, and the caller who holds it.
    pub(crate) fn split(self) -> (Unanswered, Caller) {
        let Self { work, deadline, timeout } = self;
        let (unanswered, callback) = match work {
            Work::Operation { request, done } => {
                (Unanswered::Operation(request), Callback::Operation(done))
            }
            Work::Lease { call, done } => (Unanswered::Lease(call), Callback::Lease(done)),
            Work::Permits { call, done } => (Unanswered::Permits(call), Callback::Permits(done)),
        };
        (unanswered, Caller { deadline, timeout, callback: Some(callback) })
    }
}

/// Work without its callback.
pub(crate) enum Unanswered {
    Operation(Request),
    Lease(Box<LeaseCall>),
    Permits(Box<PermitCall>),
}

/// Waits for one answer, and hears it once.
pub(crate) struct Caller {
    pub(crate) deadline: u64,
    timeout: Duration,
    callback: Option<Callback>,
}

enum Callback {
    Operation(Done),
    Lease(GrantDone),
    Permits(PermitsDone),
}

impl Callback {
    fn fail(self, error: Error) {
        match self {
            Self::Operation(done) => done(Err(error)),
            Self::Lease(done) => done(Err(error)),
            Self::Permits(done) => done(Err(error)),
        }
    }
}

impl Caller {
    /// Whether it still waits.
    pub(crate) const fn waits(&self) -> bool {
        self.callback.is_some()
    }

    pub(crate) fn answer(&mut self, outcome: Result<Outcome, Error>) {
        match (self.callback.take(), outcome) {
            (Some(Callback::Operation(done)), outcome) => {
                done(outcome.map_err(|error| self.own_timeout(error)));
            }
            (Some(callback), Err(error)) => callback.fail(self.own_timeout(error)),
            // Nobody waits any more, or another kind of answer is waited for.
            (_, Ok(_)) | (None, Err(_)) => {}
        }
    }

    pub(crate) fn grant(&mut self, grant: Result<Grant, Error>) {
        match (self.callback.take(), grant) {
            (Some(Callback::Lease(done)), grant) => {
                done(grant.map_err(|error| self.own_timeout(error)));
            }
            (Some(callback), Err(error)) => callback.fail(self.own_timeout(error)),
            (_, Ok(_)) | (None, Err(_)) => {}
        }
    }

    pub(crate) fn permit(&mut self, reply: Result<PermitReply, Error>) {
        match (self.callback.take(), reply) {
            (Some(Callback::Permits(done)), reply) => {
                done(reply.map_err(|error| self.own_timeout(error)));
            }
            (Some(callback), Err(error)) => callback.fail(self.own_timeout(error)),
            (_, Ok(_)) | (None, Err(_)) => {}
        }
    }

    pub(crate) fn give_up(&mut self) {
        self.give_up_because(&Cause::NONE);
    }

    pub(crate) fn give_up_because(&mut self, cause: &Cause) {
        self.answer(Err(Error::StoreTimeout { after: self.timeout, cause: cause.clone() }));
    }

    /// A timeout without a duration is this caller's.
    fn own_timeout(&self, error: Error) -> Error {
        match error {
            Error::StoreTimeout { after: Duration::ZERO, cause } => {
                Error::StoreTimeout { after: self.timeout, cause }
            }
            error => error,
        }
    }
}

/// Requests that wait for the next batch, in order of arrival.
#[derive(Default)]
pub struct PendingQueue {
    waiting: VecDeque<PendingRequest>,
    /// The earliest deadline among them.
    due: Option<u64>,
}

impl PendingQueue {
    /// Puts requests behind those that wait.
    pub fn put(&mut self, requests: impl IntoIterator<Item = PendingRequest>) {
        for request in requests {
            self.due = self.due.into_iter().chain([request.deadline]).min();
            self.waiting.push_back(request);
        }
    }

    /// The number of requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes out the first requests, at most `most`.
    pub fn take(&mut self, most: usize) -> Vec<PendingRequest> {
        let count = self.waiting.len().min(most);
        let taken = self.waiting.drain(..count).collect();
        self.due = earliest(&self.waiting);
        taken
    }

    /// The time until the next request may [expire](Self::expire).
    pub fn left(&self, now: u64) -> Option<Duration> {
        self.due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// Takes out the requests whose deadline has passed, and answers the time until the next one
    /// may expire. [Give them up](PendingRequest::give_up) once the queue is not locked any more,
    /// because their callers may ask again.
    pub fn expire(&mut self, now: u64) -> (Vec<PendingRequest>, Option<Duration>) {
        let (late, waiting) = core::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|request: &PendingRequest| request.deadline <= now);
        self.waiting = waiting;
        self.due = earliest(&self.waiting);
        (Vec::from(late), self.left(now))
    }
}

fn earliest<'r>(requests: impl IntoIterator<Item = &'r PendingRequest>) -> Option<u64> {
    requests.into_iter().map(|request| request.deadline).min()
}
