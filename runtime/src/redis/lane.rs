//! Where requests wait for the next trip. Two trips are under way at most; what comes
//! meanwhile travels together in the next.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{MaybeDone, maybe_done};
use tidegate_core::Outcome;
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{DenyCache, Done};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout_at;

use super::link::Link;
use super::trip::{self, Known};
use super::{Call, Request, Seen, plan};
use crate::answer::batch;
use crate::{Error, host};

/// The most requests that travel together.
const MOST_REQUESTS: usize = 8192;

/// The most trips of a lane under way: while the server works on one, the answers of the other
/// are given, and whoever then asks again is on the way before the server is done.
const MOST_TRIPS: usize = 2;

/// The lanes of a link: one, or in a cluster one for each hash slot, as only keys of one slot
/// can travel in one call.
#[derive(Clone)]
pub(super) struct Lanes {
    /// That of slot 0, in which all keys are outside of a cluster.
    first: Lane,
    others: Arc<Mutex<HashMap<u16, Lane>>>,
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
    /// That task, if it would take it at once.
    ready: Option<Waker>,
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
        Self { first: Lane::new(0, shared), others: Arc::default() }
    }

    /// Sends requests with the next trip of their slots, in order, and calls each one's `Done`
    /// on the I/O thread, within the timeout.
    pub(super) fn push(&self, io: &Handle, requests: impl Iterator<Item = (u16, Request, Done)>) {
        let deadline = Instant::now() + self.first.0.shared.timeout;
        let mut requests = requests.peekable();
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
        if slot == 0 {
            return self.first.clone();
        }
        let new = || Lane::new(slot, Arc::clone(&self.first.0.shared));
        self.others.lock().entry(slot).or_insert_with(new).clone()
    }
}

impl Lane {
    fn new(slot: u16, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Inner { slot, shared, queue: Mutex::default() }))
    }

    fn push(&self, io: &Handle, waiting: impl Iterator<Item = Waiting>) {
        let mut queue = self.0.queue.lock();
        queue.waiting.extend(waiting);
        if queue.waiting.is_empty() {
            return;
        }
        let is_moving = core::mem::replace(&mut queue.moving, true);
        let ready = queue.ready.take();
        drop(queue);
        match ready {
            Some(ready) => ready.wake(),
            None if is_moving => {}
            None => self.start(io),
        }
    }

    fn start(&self, io: &Handle) {
        let moving = Moving { lane: self.clone(), io: io.clone(), idle: false };
        io.spawn(moving.run());
    }

    /// What travels next, beside so many requests that are under way.
    fn next(&self, flying: usize) -> Option<Vec<Waiting>> {
        let mut queue = self.0.queue.lock();
        queue.ready = None;
        let waiting = queue.waiting.len();
        // No more than the half of all, beside others: what is left goes when those are back, so
        // that both trips come to be of one size.
        let most = if flying == 0 { waiting } else { (flying + waiting).div_ceil(2) };
        let count = waiting.min(most).min(MOST_REQUESTS);
        (count > 0).then(|| queue.waiting.drain(..count).collect())
    }

    /// Lets those who have been answered run, so that who of them asks again at once travels
    /// together. A runtime may come back here before all of so many have had their turn.
    async fn gather(&self, answered: usize) {
        let mut before = 0;
        loop {
            yield_now().await;
            let waiting = self.0.queue.lock().waiting.len();
            if waiting == before || waiting >= answered {
                break;
            }
            before = waiting;
        }
    }

    /// Whether somebody waits; otherwise the task is woken when somebody does.
    fn is_awaited(&self, task: &Context<'_>) -> bool {
        let mut queue = self.0.queue.lock();
        let is_awaited = !queue.waiting.is_empty();
        queue.ready = (!is_awaited).then(|| task.waker().clone());
        is_awaited
    }

    /// Whether the lane is now at rest, as nobody waits.
    fn rest(&self) -> bool {
        let mut queue = self.0.queue.lock();
        queue.moving = !queue.waiting.is_empty();
        !queue.moving
    }
}

/// A lane at work. Should an answer's receiver panic, another task takes over; when the
/// runtime shuts down, those who wait are told that their answer is lost.
struct Moving {
    lane: Lane,
    io: Handle,
    idle: bool,
}

/// A trip under way, of so many requests.
struct Flight<F: Future> {
    requests: usize,
    trip: Pin<Box<MaybeDone<F>>>,
}

/// What a lane at work waits for.
enum Event {
    /// The trip of that place is over; nothing is left where nobody waited for it any more.
    Over(usize, Option<Landed>),
    /// Somebody waits, and another trip can leave.
    Asked,
}

impl Moving {
    async fn run(mut self) {
        let shared = Arc::clone(&self.lane.0.shared);
        let mut flights = Vec::with_capacity(MOST_TRIPS);
        loop {
            let flying = flights.iter().map(|flight: &Flight<_>| flight.requests).sum();
            if flights.len() < MOST_TRIPS
                && let Some(waiting) = self.lane.next(flying)
            {
                let requests = waiting.len();
                let trip = Trip::new(waiting, shared.timeout).fly(&shared, self.lane.0.slot);
                flights.push(Flight { requests, trip: Box::pin(maybe_done(trip)) });
            } else if flights.is_empty() && self.lane.rest() {
                break;
            }
            let event = poll_fn(|task| look(&self.lane, &mut flights, task));
            if let Event::Over(place, landed) = event.await {
                let together = flights.remove(place).requests;
                if let Some(landed) = landed {
                    landed.answer(&shared);
                }
                if together > 1 {
                    self.lane.gather(together).await;
                }
            }
        }
        self.idle = true;
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if self.idle {
            return;
        }
        if std::thread::panicking() {
            return self.lane.start(&self.io);
        }
        let mut queue = self.lane.0.queue.lock();
        let lost = core::mem::take(&mut *queue);
        // Not under the lock: those who wait may ask again.
        drop(queue);
        drop(lost);
    }
}

/// All trips are looked at, in their order, so that they are sent, and sent again, in it.
fn look<F: Future<Output = Option<Landed>>>(
    lane: &Lane,
    flights: &mut [Flight<F>],
    task: &mut Context<'_>,
) -> Poll<Event> {
    for flight in &mut *flights {
        _ = flight.trip.as_mut().poll(task);
    }
    let over = |(place, flight): (usize, &mut Flight<F>)| {
        flight.trip.as_mut().take_output().map(|landed| Event::Over(place, landed))
    };
    match flights.iter_mut().enumerate().find_map(over) {
        Some(over) => Poll::Ready(over),
        None if flights.len() < MOST_TRIPS && lane.is_awaited(task) => Poll::Ready(Event::Asked),
        None => Poll::Pending,
    }
}

/// Requests that travel together.
struct Trip {
    calls: Vec<Call>,
    callers: Vec<Caller>,
    /// By the clock of refusals.
    sent: u64,
}

/// A trip that has come back.
struct Landed {
    trip: Trip,
    seen: Vec<Result<Seen, Error>>,
}

impl Trip {
    fn new(waiting: Vec<Waiting>, timeout: Duration) -> Self {
        let sent = Instant::now();
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
        Self { calls: plan(requests), callers, sent: host::at(sent) }
    }

    /// Makes the trip. Whoever's time is up meanwhile is told so; when nobody waits any more,
    /// neither does the trip.
    async fn fly(mut self, shared: &Shared, slot: u16) -> Option<Landed> {
        let seen = {
            let mut running = pin!(trip::run(&shared.link, &shared.known, slot, &self.calls));
            // Callers stand in order of arrival, and so of their deadlines.
            let mut due = 0;
            loop {
                let next = self.callers.get_mut(due)?;
                let deadline = tokio::time::Instant::from_std(next.deadline);
                match timeout_at(deadline, &mut running).await {
                    Ok(seen) => break seen,
                    Err(_) => next.answer(Err(Error::StoreTimeout { after: shared.timeout })),
                }
                due += 1;
            }
        };
        Some(Landed { trip: self, seen })
    }
}

impl Landed {
    fn answer(self, Shared { timeout, refused, .. }: &Shared) {
        let Self { trip: Trip { calls, mut callers, sent }, seen } = self;
        batch(|| {
            for (call, seen) in calls.into_iter().zip(seen) {
                let seen = seen.map_err(|error| match error {
                    Error::StoreTimeout { .. } => Error::StoreTimeout { after: *timeout },
                    error => error,
                });
                let give = |place: usize, outcome| callers[place].answer(outcome);
                call.answer(seen, give, |refusal| refused.keep(refusal, sent));
            }
        });
    }
}

impl Caller {
    fn answer(&mut self, outcome: Result<Outcome, Error>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}
