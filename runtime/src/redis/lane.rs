//! Where requests wait for the next trip. One trip is under way at a time; what comes
//! meanwhile travels together in the next.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tidegate_core::Outcome;
use tokio::runtime::Handle;

use super::deny_cache::DenyCache;
use super::link::Link;
use super::protocol::{Request, plan};
use super::trip::{self, Known};
use crate::answer::batch;
use crate::error::Error;

/// The most requests that travel together.
const MOST_REQUESTS: usize = 8192;

pub(super) type Done = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// The lanes of a link: one, or in a cluster one for each hash slot, as only keys of one slot
/// can travel in one call.
#[derive(Clone)]
pub(super) struct Lanes {
    shared: Arc<Shared>,
    lanes: Arc<Mutex<HashMap<u16, Lane>>>,
}

/// What all lanes have.
struct Shared {
    link: Link,
    timeout: Duration,
    refused: Arc<DenyCache>,
    known: Known,
}

/// The requests of one slot.
#[derive(Clone)]
struct Lane(Arc<Inner>);

struct Inner {
    slot: u16,
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Whether a task is at work that will also take what is put here now.
    moving: bool,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    request: Request,
    caller: Caller,
}

/// Who waits for an answer, and until when.
struct Caller {
    deadline: Instant,
    done: Option<Done>,
}

impl Lanes {
    pub(super) fn new(link: Link, timeout: Duration, refused: Arc<DenyCache>) -> Self {
        let shared = Arc::new(Shared { link, timeout, refused, known: Known::default() });
        Self { shared, lanes: Arc::default() }
    }

    /// Sends requests with the next trip of their slots, in order, and calls each one's `Done`
    /// on the I/O thread, within the timeout.
    pub(super) fn push(&self, io: &Handle, requests: Vec<(u16, Request, Done)>) {
        let deadline = Instant::now() + self.shared.timeout;
        let mut requests = requests.into_iter().peekable();
        while let Some(&(slot, ..)) = requests.peek() {
            let of_slot = core::iter::from_fn(|| requests.next_if(|(of, ..)| *of == slot));
            let waiting = of_slot.map(|(_, request, done)| {
                let caller = Caller { deadline, done: Some(done) };
                Waiting { request, caller }
            });
            self.lane(slot).push(io, waiting);
        }
    }

    fn lane(&self, slot: u16) -> Lane {
        let new = || {
            let (shared, queue) = (Arc::clone(&self.shared), Mutex::default());
            Lane(Arc::new(Inner { slot, shared, queue }))
        };
        self.lanes.lock().entry(slot).or_insert_with(new).clone()
    }
}

impl Lane {
    fn push(&self, io: &Handle, waiting: impl Iterator<Item = Waiting>) {
        let mut queue = self.0.queue.lock();
        queue.waiting.extend(waiting);
        if !queue.waiting.is_empty() && !core::mem::replace(&mut queue.moving, true) {
            drop(queue);
            self.start(io);
        }
    }

    fn start(&self, io: &Handle) {
        let moving = Moving { lane: self.clone(), io: io.clone(), idle: false };
        io.spawn(moving.run());
    }

    /// What travels next; nothing, and the lane is at rest, if nobody waits.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.0.queue.lock();
        if queue.waiting.is_empty() {
            queue.moving = false;
            return None;
        }
        let count = queue.waiting.len().min(MOST_REQUESTS);
        Some(queue.waiting.drain(..count).collect())
    }
}

/// A lane at work. Should an answer's receiver panic, another task takes over.
struct Moving {
    lane: Lane,
    io: Handle,
    idle: bool,
}

impl Moving {
    async fn run(mut self) {
        while let Some(waiting) = self.lane.next() {
            travel(&self.lane, waiting).await;
        }
        self.idle = true;
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if !self.idle {
            self.lane.start(&self.io);
        }
    }
}

/// Runs a trip and answers each caller by its deadline, whatever comes.
async fn travel(lane: &Lane, waiting: Vec<Waiting>) {
    let sent = Instant::now();
    let Shared { link, timeout, refused, known } = &*lane.0.shared;
    let timeout = *timeout;
    let mut callers = Vec::with_capacity(waiting.len());
    let mut requests = Vec::with_capacity(waiting.len());
    for Waiting { request, mut caller } in waiting {
        // Who has waited too long for a trip to begin is not charged.
        if caller.deadline <= sent {
            caller.answer(Err(Error::StoreTimeout { after: timeout }));
            continue;
        }
        requests.push(request);
        callers.push(caller);
    }
    let calls = plan(requests, |place, refusal| callers[place].answer(refusal));
    let seen = {
        let mut running = core::pin::pin!(trip::run(link, known, lane.0.slot, &calls));
        // Callers stand in order of arrival, and so of their deadlines.
        let mut due = 0;
        loop {
            // When nobody waits any more, neither do those behind them.
            let Some(next) = callers.get_mut(due) else { return };
            let deadline = tokio::time::Instant::from_std(next.deadline);
            match tokio::time::timeout_at(deadline, &mut running).await {
                Ok(seen) => break seen,
                Err(_) => next.answer(Err(Error::StoreTimeout { after: timeout })),
            }
            due += 1;
        }
    };
    batch(|| {
        for (call, seen) in calls.into_iter().zip(seen) {
            let seen = seen.map_err(|error| match error {
                Error::StoreTimeout { .. } => Error::StoreTimeout { after: timeout },
                error => error,
            });
            let give = |place: usize, outcome| callers[place].answer(outcome);
            call.answer(seen, give, |refusal| refused.keep(refusal, sent));
        }
    });
}

impl Caller {
    fn answer(&mut self, outcome: Result<Outcome, Error>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}
