//! Flow control of the batches to a server. Each queue has two batches in flight at most; requests
//! that arrive meanwhile share its next one (group commit). A server has one queue for operations
//! one for lease calls and one for calls about permits, and in a cluster all for each hash slot.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::{MaybeDone, maybe_done};
use tidegate_protocol::lock::Mutex;
use tidegate_protocol::{
    Addressed, Batch, Host as _, PendingQueue, PendingRequest, ServerState, Work,
};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::link::Link;
use super::reply;
use crate::answer;
use crate::host::NativeHost;

/// The most requests in one batch.
const MAX_REQUESTS: usize = 8192;

/// The most batches of a queue in flight. While the server works on one, the callers of the other
/// get their answers, and whoever asks again at once is on the way before the server is done.
const MAX_IN_FLIGHT: usize = 2;

/// The queues of a store: in a cluster one for each hash slot, because only keys of one slot can
/// share a call, and everywhere more for lease calls and calls about permits, which must not keep
/// checks waiting.
pub(super) struct SlotQueues {
    io: Handle,
    shared: Arc<Shared>,
    /// The operations of slot 0, which has all keys outside of a cluster.
    first: SlotQueue,
    others: Mutex<HashMap<(u16, Kind), SlotQueue>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Operations,
    Leases,
    Permits,
}

/// The parts that all queues of a store share.
struct Shared {
    link: Link,
    timeout: Duration,
    server: Arc<ServerState>,
}

/// The requests of one slot.
#[derive(Clone)]
struct SlotQueue(Arc<Inner>);

struct Inner {
    slot: u16,
    kind: Kind,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a task is at work that will also send the requests that are put here now.
    is_running: bool,
    /// The waker of the task, while the task has no request and could send one at once.
    idle: Option<Waker>,
    waiting: PendingQueue,
}

impl SlotQueues {
    pub(super) fn new(io: Handle, link: Link, timeout: Duration, server: Arc<ServerState>) -> Self {
        let shared = Arc::new(Shared { link, timeout, server });
        let first = SlotQueue::new(0, Kind::Operations, Arc::clone(&shared));
        Self { io, shared, first, others: Mutex::default() }
    }

    /// Sends work with the next batches of its slots, in order. Each callback runs on the I/O
    /// thread, within the timeout.
    pub(super) fn push(&self, work: &mut dyn Iterator<Item = Addressed>) {
        let now = NativeHost::now();
        let mut pending = work
            .map(|Addressed { slot, work }| {
                let kind = match work {
                    Work::Operation { .. } => Kind::Operations,
                    Work::Lease { .. } => Kind::Leases,
                    Work::Permits { .. } => Kind::Permits,
                };
                ((slot, kind), PendingRequest::new(work, self.shared.timeout, now))
            })
            .peekable();
        while let Some(&(place, _)) = pending.peek() {
            let same = core::iter::from_fn(|| {
                pending.next_if(|(other, _)| *other == place).map(|(_, request)| request)
            });
            self.queue(place).push(&self.io, same);
        }
    }

    fn queue(&self, place: (u16, Kind)) -> SlotQueue {
        if place == (0, Kind::Operations) {
            return self.first.clone();
        }
        let new = || SlotQueue::new(place.0, place.1, Arc::clone(&self.shared));
        self.others.lock().entry(place).or_insert_with(new).clone()
    }
}

impl SlotQueue {
    fn new(slot: u16, kind: Kind, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Inner { slot, kind, shared, state: Mutex::default() }))
    }

    fn push(&self, io: &Handle, requests: impl Iterator<Item = PendingRequest>) {
        let mut state = self.0.state.lock();
        state.waiting.put(requests);
        if state.waiting.is_empty() {
            return;
        }
        let is_running = core::mem::replace(&mut state.is_running, true);
        let idle = state.idle.take();
        drop(state);
        match idle {
            Some(task) => task.wake(),
            None if is_running => {}
            None => self.start(io),
        }
    }

    fn start(&self, io: &Handle) {
        let task = QueueTask { queue: self.clone(), io: io.clone(), is_done: false };
        io.spawn(task.run());
    }

    /// The requests of the next batch, while `in_flight` requests are in flight.
    fn next(&self, in_flight: usize) -> Option<Vec<PendingRequest>> {
        let mut state = self.0.state.lock();
        state.idle = None;
        let waiting = state.waiting.len();
        // Beside another batch, at most half of all requests. The rest goes when that batch is
        // back, so that both come to be of one size.
        let most = if in_flight == 0 { waiting } else { (in_flight + waiting).div_ceil(2) };
        let count = waiting.min(most).min(MAX_REQUESTS);
        (count > 0).then(|| state.waiting.take(count))
    }

    /// Lets the callers who have been answered run, so that those who ask again at once share a
    /// batch. A runtime may come back here before all of the `answered` have had their turn.
    async fn gather(&self, answered: usize) {
        let mut before = 0;
        loop {
            yield_now().await;
            let waiting = self.0.state.lock().waiting.len();
            if waiting == before || waiting >= answered {
                break;
            }
            before = waiting;
        }
    }

    /// Whether a request waits. If none does, the task is woken when one comes.
    fn is_waiting(&self, task: &Context<'_>) -> bool {
        let mut state = self.0.state.lock();
        let is_waiting = !state.waiting.is_empty();
        state.idle = (!is_waiting).then(|| task.waker().clone());
        is_waiting
    }

    /// Ends the task's work if no request waits. From then on the next request starts another
    /// task.
    fn finish(&self) -> bool {
        let mut state = self.0.state.lock();
        state.is_running = !state.waiting.is_empty();
        !state.is_running
    }
}

/// The task that sends a queue's batches. Should a callback panic, another task takes over. When
/// the runtime shuts down, the callers are told that their answer is lost.
struct QueueTask {
    queue: SlotQueue,
    io: Handle,
    is_done: bool,
}

/// A batch in flight, and the number of its requests.
struct InFlight<F: Future> {
    requests: usize,
    exchange: Pin<Box<MaybeDone<F>>>,
}

enum Event {
    /// The batch of that place is answered.
    Answered(usize),
    /// A request waits, and another batch may leave.
    Waiting,
}

impl QueueTask {
    async fn run(mut self) {
        let Inner { slot, kind, ref shared, .. } = *Arc::clone(&self.queue.0);
        let mut in_flight = Vec::with_capacity(MAX_IN_FLIGHT);
        loop {
            let requests = in_flight.iter().map(|batch: &InFlight<_>| batch.requests).sum();
            if in_flight.len() < MAX_IN_FLIGHT
                && let Some(waiting) = self.queue.next(requests)
            {
                let requests = waiting.len();
                let batch = Batch::new(waiting, &shared.server, NativeHost::now());
                let exchange = Box::pin(maybe_done(exchange(shared, slot, kind, batch)));
                in_flight.push(InFlight { requests, exchange });
            } else if in_flight.is_empty() && self.queue.finish() {
                break;
            }
            let event = poll_fn(|task| poll_all(&self.queue, &mut in_flight, task));
            if let Event::Answered(place) = event.await {
                let answered = in_flight.remove(place).requests;
                if answered > 1 {
                    self.queue.gather(answered).await;
                }
            }
        }
        self.is_done = true;
    }
}

impl Drop for QueueTask {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if std::thread::panicking() {
            return self.queue.start(&self.io);
        }
        let mut state = self.queue.0.state.lock();
        let lost = core::mem::take(&mut *state);
        // The requests are dropped without the lock, because their callers may ask again.
        drop(state);
        drop(lost);
    }
}

/// Polls all batches, in their order, so that they are sent, and sent again, in it.
fn poll_all<F: Future<Output = ()>>(
    queue: &SlotQueue,
    in_flight: &mut [InFlight<F>],
    task: &mut Context<'_>,
) -> Poll<Event> {
    for batch in &mut *in_flight {
        _ = batch.exchange.as_mut().poll(task);
    }
    let answered = in_flight.iter_mut().position(|it| it.exchange.as_mut().take_output().is_some());
    match answered {
        Some(place) => Poll::Ready(Event::Answered(place)),
        None if in_flight.len() < MAX_IN_FLIGHT && queue.is_waiting(task) => {
            Poll::Ready(Event::Waiting)
        }
        None => Poll::Pending,
    }
}

/// Sends a batch until each of its callers has an answer, or the timeout of the last one is over.
async fn exchange(shared: &Shared, slot: u16, kind: Kind, mut batch: Batch) {
    if kind == Kind::Leases {
        // What an old master grants is lost, and would be spent for a whole ttl.
        shared.link.look_first().await;
    }
    loop {
        let commands = batch.commands(reply::command);
        if commands.is_empty() {
            return;
        }
        let mut sending = pin!(shared.link.send(commands, slot));
        let replies = loop {
            let unanswered = || shared.link.unanswered();
            let Some(left) = batch.expire_telling(NativeHost::now(), unanswered) else { return };
            if let Ok(replies) = timeout(left, &mut sending).await {
                break replies;
            }
        };
        answer::batch(|| batch.take(replies.into_iter().map(reply::read)));
    }
}
