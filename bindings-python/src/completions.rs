//! Completes asyncio futures with the answers to operations on a store.
//!
//! The I/O thread never touches Python: it puts its answer into a queue and, when the queue was
//! empty, writes one byte to a socket that the event loop watches. The loop then completes the
//! futures of all answers in the queue. So the I/O thread never waits for the interpreter, and one
//! wake-up serves many futures.
//!
//! No wake-up is lost: the answer that finds the queue empty writes the byte, the loop reads the
//! byte before it empties the queue, and both look at one queue under one lock.
//!
//! Checks of one turn of the loop are gathered, too, and sent together in the next turn. A check
//! that seems to be alone is sent at once, because the delay would gain nothing.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use pyo3::IntoPyObjectExt as _;
use pyo3::intern;
use pyo3::prelude::*;
use tidegate::bindings::{
    AnswerQueue, PerProcess, Pushed, after_batch, generation, lock::Mutex, tiered,
};

use tidegate::{Cost, Error, Operation};

use crate::arguments::{Checks, Keys, actual, charged, cost, max_wait, timeout, tokens, wait};
use crate::clients::interruptible;
use crate::concurrency::{Concurrency, Permit, given_key, key_bytes};
use crate::errors::exception;
use crate::limiter::Limiter;
use crate::outcome::Outcome;
use crate::reservation::Reservation;
use crate::seconds::saturating_nanos;

/// The answers for one event loop.
///
/// The loop holds the only reference, because it watches the socket: this is closed with the loop.
#[pyclass(frozen, weakref, module = "tidegate._tidegate", name = "_Completions")]
pub(crate) struct Completions(Arc<Queue>);

struct Queue {
    /// Closed with the event loop: its futures are not completed any more. A forked child may
    /// drop a loop while the parent's I/O thread holds the queue's lock.
    answers: PerProcess<AnswerQueue<Answer>>,
    /// How many calls have yet to be completed; counted by the loop's thread.
    pending: AtomicUsize,
    /// How many calls the loop completed when it last did so.
    completed: AtomicUsize,
    /// Checks that have yet to be sent.
    gathered: Mutex<Vec<Gathered>>,
    /// `None` where the transport that brings the answers calls `deliver` itself.
    bell: Option<Bell>,
}

/// The two ends of a socket pair: a byte in it wakes the event loop.
struct Bell {
    /// The end to which the I/O thread writes; never blocks.
    wake: UnixStream,
    /// The end that the event loop watches; never blocks.
    woken: UnixStream,
}

struct Gathered {
    limiter: Py<Limiter>,
    key: Box<[u8]>,
    cost: Cost,
    ticket: Ticket,
}

/// An answer for a future.
struct Answer {
    future: Py<PyAny>,
    outcome: Result<Answered, Error>,
}

#[allow(clippy::large_enum_variant, reason = "nearly every answer is that of an operation")]
enum Answered {
    /// By a limiter.
    Operation(Py<Limiter>, Outcome),
    /// A permit of this key.
    Entered(tidegate::Permit, Py<PyAny>),
    /// A number of permits.
    InFlight(u64),
    /// The store has heard that a permit was given back.
    Released,
}

#[pymethods]
impl Completions {
    #[new]
    #[pyo3(signature = (*, watched))]
    fn new(watched: bool) -> io::Result<Self> {
        let bell = if watched { Some(Bell::new()?) } else { None };
        let (answers, gathered) = (PerProcess::new(generation), Mutex::default());
        let (pending, completed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Self(Arc::new(Queue { answers, pending, completed, gathered, bell })))
    }

    /// The file descriptor that the event loop watches for reading.
    fn fileno(&self) -> io::Result<i32> {
        let unwatched = || io::Error::new(io::ErrorKind::Unsupported, "there is nothing to watch");
        self.0.bell.as_ref().map(|bell| bell.woken.as_raw_fd()).ok_or_else(unwatched)
    }

    /// Starts a check on the store that completes `future`; so do the methods below for the
    /// other operations. Only a check may be gathered, to be sent in the loop's next turn.
    fn check(
        slf: &Bound<'_, Self>,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Keys<'_>,
        #[pyo3(from_py_with = cost)] cost: Cost,
    ) -> PyResult<()> {
        let this = slf.get();
        if let Keys::One(key) = key
            && this.0.expects_more()
        {
            if this.0.gathered.lock().is_empty() {
                Self::send_in_next_turn(slf, future.bind(slf.py()))?;
            }
            let ticket = this.ticket(limiter.clone_ref(slf.py()), future);
            this.0.gathered.lock().push(Gathered { limiter, key: key.into(), cost, ticket });
            return Ok(());
        }
        this.start(limiter, future, |limiter, ticket| {
            key.lend(|keys| limiter.check_then(keys, cost, ticket.completing(Outcome::Decision)));
        })
    }

    /// Sends the checks that have been gathered.
    fn send(&self) {
        let mut gathered = core::mem::take(&mut *self.0.gathered.lock()).into_iter().peekable();
        while let Some(first) = gathered.next() {
            let facade = first.limiter.get().facade().clone();
            let limiter = first.limiter.as_ptr();
            let others = core::iter::from_fn(|| {
                gathered.next_if(|other| core::ptr::eq(other.limiter.as_ptr(), limiter))
            });
            let checks: Vec<Gathered> = core::iter::once(first).chain(others).collect();
            let (keys, tickets): (Vec<_>, Vec<_>) =
                checks.into_iter().map(|check| ((check.key, check.cost), check.ticket)).unzip();
            facade.check_each_then(keys.iter().zip(tickets).map(|((key, cost), ticket)| {
                (&**key, *cost, ticket.completing(Outcome::Decision))
            }));
        }
    }

    fn check_many(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        checks: Checks<'_>,
    ) -> PyResult<()> {
        checks.lend(|checks| {
            self.start(limiter, future, |limiter, ticket| {
                limiter.check_many_then(checks, ticket.completing(Outcome::Decisions));
            })
        })?
    }

    fn peek(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Keys<'_>,
        #[pyo3(from_py_with = cost)] cost: Cost,
    ) -> PyResult<()> {
        self.start(limiter, future, |limiter, ticket| {
            key.lend(|keys| limiter.peek_then(keys, cost, ticket.completing(Outcome::Decision)));
        })
    }

    fn reserve(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Keys<'_>,
        #[pyo3(from_py_with = cost)] cost: Cost,
        #[pyo3(from_py_with = max_wait)] max_wait: Option<Duration>,
    ) -> PyResult<()> {
        self.start(limiter, future, |limiter, ticket| {
            let done =
                ticket.completing(|made: tidegate::Reservation| Outcome::Reservation(made.into()));
            key.lend(|keys| limiter.reserve_then(keys, cost, max_wait, done));
        })
    }

    /// Joins the line of a key; the waiter can leave it.
    fn acquire(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost)] cost: Cost,
        #[pyo3(from_py_with = timeout)] timeout: Option<Duration>,
    ) -> PyResult<Waiter> {
        let keys: Keys<'_> = key.extract()?;
        let given = key.clone().unbind();
        let mut waiter = None;
        self.start(limiter, future, |limiter, ticket| {
            let done = move |answer| {
                ticket.complete(match answer {
                    Ok(granted) => Ok(Outcome::Granted(granted)),
                    Err(Error::RateLimited { decision, .. }) => {
                        Ok(Outcome::TooLate(decision, given))
                    }
                    Err(error) => Err(error),
                });
            };
            waiter = Some(keys.lend(|keys| limiter.acquire_then(keys, cost, timeout, done)));
        })?;
        Ok(Waiter(waiter))
    }

    fn settle(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Keys<'_>,
        #[pyo3(from_py_with = charged)] charged: Cost,
        #[pyo3(from_py_with = actual)] actual: Cost,
    ) -> PyResult<()> {
        self.run(future, limiter, &key, Operation::Settle { charged, actual })
    }

    fn credit(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Keys<'_>,
        #[pyo3(from_py_with = tokens)] tokens: Cost,
    ) -> PyResult<()> {
        self.run(future, limiter, &key, Operation::Credit { tokens })
    }

    fn hold(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: Keys<'_>,
        #[pyo3(from_py_with = wait)] wait: Duration,
    ) -> PyResult<()> {
        self.run(future, limiter, &key, Operation::Hold { wait: saturating_nanos(wait) })
    }

    fn reset(&self, future: Py<PyAny>, limiter: Py<Limiter>, key: Keys<'_>) -> PyResult<()> {
        self.run(future, limiter, &key, Operation::Reset)
    }

    fn ping(&self, future: Py<PyAny>, limiter: Py<Limiter>) -> PyResult<()> {
        self.start(limiter, future, |limiter, ticket| {
            limiter.ping_then(ticket.completing(|()| Outcome::Served));
        })
    }

    fn cancel_reservation(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        reservation: &Reservation,
    ) -> PyResult<()> {
        self.start(reservation.limiter().clone_ref(py), future, |_, ticket| {
            match reservation.take() {
                Some(made) => {
                    let (held, done) = (reservation.held(), ticket.completing(Outcome::Cancelled));
                    made.cancel_then(move |answer, again| {
                        *held.lock() = again;
                        done(answer);
                    });
                }
                None => ticket.complete(Ok(Outcome::Cancelled(false))),
            }
        })
    }

    fn settle_reservation(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        reservation: &Reservation,
        #[pyo3(from_py_with = actual)] actual: Cost,
    ) -> PyResult<()> {
        let made = reservation.take_to_settle(py)?;
        self.start(reservation.limiter().clone_ref(py), future, |_, ticket| {
            let (held, done) = (reservation.held(), ticket.completing(Outcome::Decision));
            made.settle_then(actual, move |answer, again| {
                *held.lock() = again;
                done(answer);
            });
        })
    }

    /// Waits for a permit; the waiter can leave the line.
    fn enter(
        &self,
        future: Py<PyAny>,
        concurrency: &Concurrency,
        key: Bound<'_, PyAny>,
        #[pyo3(from_py_with = timeout)] timeout: Option<Duration>,
    ) -> PyResult<PermitWaiter> {
        let (bytes, given) = (key_bytes(&key)?, key.clone().unbind());
        let asked = concurrency.0.clone();
        let ticket = PermitTicket::new(&self.0, future);
        let mut waiter = None;
        interruptible(|| {
            waiter = Some(concurrency.0.acquire_then(bytes, timeout, move |answer| {
                ticket.complete(match answer {
                    Ok(Some(permit)) => Ok(Answered::Entered(permit, given)),
                    Ok(None) => Err(asked.no_permit(timeout)),
                    Err(error) => Err(error),
                });
            }));
        })?;
        Ok(PermitWaiter(waiter))
    }

    fn in_flight(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        concurrency: &Concurrency,
        key: Py<PyAny>,
    ) -> PyResult<()> {
        let key = given_key(py, Some(key));
        let bytes = key_bytes(key.bind(py))?;
        let ticket = PermitTicket::new(&self.0, future);
        interruptible(|| {
            concurrency
                .0
                .in_flight_then(bytes, |live| ticket.complete(live.map(Answered::InFlight)));
        })
    }

    fn release(&self, future: Py<PyAny>, permit: &Permit) -> PyResult<()> {
        let ticket = PermitTicket::new(&self.0, future);
        interruptible(|| permit.permit().release_then(|| ticket.complete(Ok(Answered::Released))))
    }

    /// Completes the futures whose answers have come; the event loop or the transport calls it.
    fn deliver(&self, py: Python<'_>) {
        // The socket is read before the answers are taken, so that an answer that comes later wakes the
        // loop anew. Bytes that do not fit into the buffer keep the socket readable, and the loop calls again.
        if let Some(bell) = &self.0.bell {
            let _ = (&bell.woken).read(&mut [0; 64]);
        }
        let answers = self.0.answers().take();
        self.0.pending.fetch_sub(answers.len(), Ordering::Relaxed);
        self.0.completed.store(answers.len(), Ordering::Relaxed);
        for answer in answers {
            if let Err(error) = answer.deliver(py) {
                error.write_unraisable(py, None);
            }
        }
    }
}

/// A caller in a line, by which it can leave.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_Waiter")]
pub(crate) struct Waiter(Option<tidegate::bindings::Waiter>);

#[pymethods]
impl Waiter {
    /// Leaves the line. With `claimed`, the caller has been told that it may spend its tokens, and
    /// will not: they go to the next.
    #[pyo3(signature = (*, claimed))]
    fn leave(&self, py: Python<'_>, claimed: bool) {
        let Some(waiter) = &self.0 else { return };
        py.detach(|| if claimed { waiter.hand_on() } else { waiter.leave() });
    }
}

/// A caller that waits for a permit, by which it can leave.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_PermitWaiter")]
pub(crate) struct PermitWaiter(Option<tidegate::bindings::PermitWaiter>);

#[pymethods]
impl PermitWaiter {
    /// Stops waiting. Does nothing once the caller has been answered.
    fn leave(&self, py: Python<'_>) {
        if let Some(waiter) = &self.0 {
            py.detach(|| waiter.leave());
        }
    }
}

impl Completions {
    /// Makes the loop of `future` call `send`. This comes before the first check is gathered: an
    /// interrupt in between leaves a call that sends nothing, while the other order would leave a
    /// check that nothing sends, and later ones would gather behind it for ever.
    fn send_in_next_turn(slf: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let send = slf.getattr(intern!(py, "send"))?;
        let event_loop = future.call_method0(intern!(py, "get_loop"))?;
        event_loop.call_method1(intern!(py, "call_soon"), (send,)).map(drop)
    }

    /// Starts an operation that answers with a decision.
    fn run(
        &self,
        future: Py<PyAny>,
        limiter: Py<Limiter>,
        key: &Keys<'_>,
        operation: Operation,
    ) -> PyResult<()> {
        self.start(limiter, future, |limiter, ticket| {
            let done = |answer| ticket.complete(tiered(answer).map(Outcome::Decision));
            key.lend(|keys| limiter.run(keys, operation, done));
        })
    }

    /// Starts an operation of a limiter, after the checks that were gathered before it. The ticket
    /// completes `future`.
    fn start(
        &self,
        limiter: Py<Limiter>,
        future: Py<PyAny>,
        operation: impl FnOnce(&tidegate::Limiter, Ticket),
    ) -> PyResult<()> {
        let facade = limiter.get().facade().clone();
        interruptible(|| {
            self.send();
            operation(&facade, self.ticket(limiter, future));
        })
    }

    fn ticket(&self, limiter: Py<Limiter>, future: Py<PyAny>) -> Ticket {
        self.0.pending.fetch_add(1, Ordering::Relaxed);
        Ticket(Some((Arc::clone(&self.0), limiter, future)))
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        // Nothing takes these any more; their futures would keep the loop alive.
        drop(self.0.answers().close());
        let gathered = core::mem::take(&mut *self.0.gathered.lock());
        drop(gathered);
    }
}

/// The right to complete one future; it fails the future if it is lost.
struct Ticket(Option<(Arc<Queue>, Py<Limiter>, Py<PyAny>)>);

impl Ticket {
    /// A callback that completes the future with an answer of this kind.
    fn completing<T>(self, outcome: impl FnOnce(T) -> Outcome) -> impl FnOnce(Result<T, Error>) {
        |answer| self.complete(answer.map(outcome))
    }

    fn complete(mut self, outcome: Result<Outcome, Error>) {
        self.put(outcome);
    }

    fn put(&mut self, outcome: Result<Outcome, Error>) {
        let Some((queue, limiter, future)) = self.0.take() else { return };
        let outcome = outcome.map(|outcome| Answered::Operation(limiter, outcome));
        queue.put(Answer { future, outcome });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.put(Err(Error::Store("the answer was lost".into())));
        }
    }
}

/// The right to complete one future with an answer about permits; it fails the future if it is lost.
struct PermitTicket(Option<(Arc<Queue>, Py<PyAny>)>);

impl PermitTicket {
    fn new(queue: &Arc<Queue>, future: Py<PyAny>) -> Self {
        queue.pending.fetch_add(1, Ordering::Relaxed);
        Self(Some((Arc::clone(queue), future)))
    }

    fn complete(mut self, outcome: Result<Answered, Error>) {
        self.put(outcome);
    }

    fn put(&mut self, outcome: Result<Answered, Error>) {
        if let Some((queue, future)) = self.0.take() {
            queue.put(Answer { future, outcome });
        }
    }
}

impl Drop for PermitTicket {
    fn drop(&mut self) {
        self.put(Err(Error::Store("the answer was lost".into())));
    }
}

impl Queue {
    fn put(self: Arc<Self>, answer: Answer) {
        match self.answers().push(answer) {
            // One wake-up for all answers of one batch.
            Pushed::First => after_batch(move || self.wake()),
            Pushed::Behind => {}
            // Dropping a reservation or a permit gives it back, which asks the store.
            Pushed::Closed(answer) => drop(answer),
        }
    }

    fn answers(&self) -> &AnswerQueue<Answer> {
        self.answers.get_or_init(AnswerQueue::new)
    }

    /// Whether a check is gathered with others of this turn. There are many callers if calls are
    /// under way, or if several have just been answered and go on in this turn.
    fn expects_more(&self) -> bool {
        let is_alone = self.pending.load(Ordering::Relaxed) == 0
            && self.completed.load(Ordering::Relaxed) <= 1;
        self.bell.is_some() && !is_alone
    }

    fn wake(&self) {
        if let Some(bell) = &self.bell {
            // When the socket is full, what is in it wakes the loop.
            let _ = (&bell.wake).write(&[1]);
        }
    }
}

impl Bell {
    fn new() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self { wake, woken })
    }
}

impl Answer {
    fn deliver(self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        // Most likely it was cancelled: nobody waits for it any more.
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        let answer = match self.outcome {
            Ok(Answered::Operation(limiter, outcome)) => outcome.into_python(py, &limiter),
            Ok(Answered::Entered(permit, key)) => {
                Py::new(py, Permit::new(permit, key)).map(Py::into_any)
            }
            Ok(Answered::InFlight(live)) => live.into_py_any(py),
            Ok(Answered::Released) => Ok(py.None()),
            Err(error) => Err(exception(py, &error)),
        };
        match answer {
            Ok(answer) => future.call_method1(intern!(py, "set_result"), (answer,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
        };
        Ok(())
    }
}
