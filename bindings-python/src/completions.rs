//! How checks on a store complete asyncio futures.
//!
//! The I/O thread never touches Python: it puts its answer into a queue and, when
//! the queue was empty, writes one byte to a socket that the event loop watches.
//! The loop then completes all that has come in. So the I/O thread never waits for
//! the interpreter, and one wake-up serves as many futures as have gathered.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use tidegate::{Decision, Error};

use crate::limiter::Limiter;

/// The answers on their way to one event loop.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_Completions")]
pub(crate) struct Completions(Arc<Queue>);

struct Queue {
    answers: Mutex<Vec<Answer>>,
    /// Written to by the I/O thread; never blocks.
    wake: UnixStream,
    /// Watched by the event loop; never blocks.
    woken: UnixStream,
}

struct Answer {
    limiter: Py<Limiter>,
    future: Py<PyAny>,
    outcome: Result<Decision, Error>,
}

#[pymethods]
impl Completions {
    #[new]
    fn new() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self(Arc::new(Queue { answers: Mutex::default(), wake, woken })))
    }

    /// What the event loop watches for reading.
    fn fileno(&self) -> i32 {
        self.0.woken.as_raw_fd()
    }

    /// Completes the futures whose answers have come; the event loop calls it.
    fn deliver(&self, py: Python<'_>) {
        // Before taking the answers: one that comes after that wakes the loop anew.
        // Less than a buffer is ever in the socket, as only an empty queue adds a byte.
        let _ = (&self.0.woken).read(&mut [0; 64]);
        let answers = core::mem::take(&mut *self.0.answers.lock());
        for answer in answers {
            if let Err(error) = answer.deliver(py) {
                error.write_unraisable(py, None);
            }
        }
    }
}

impl Completions {
    pub(crate) fn ticket(&self, limiter: Py<Limiter>, future: Py<PyAny>) -> Ticket {
        Ticket(Some((Arc::clone(&self.0), limiter, future)))
    }
}

/// The right to complete one future; it fails the future if it is lost.
pub(crate) struct Ticket(Option<(Arc<Queue>, Py<Limiter>, Py<PyAny>)>);

impl Ticket {
    pub(crate) fn complete(mut self, outcome: Result<Decision, Error>) {
        self.put(outcome);
    }

    fn put(&mut self, outcome: Result<Decision, Error>) {
        if let Some((queue, limiter, future)) = self.0.take() {
            queue.push(Answer { limiter, future, outcome });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.put(Err(Error::Store("the check was lost".to_owned())));
    }
}

impl Queue {
    fn push(&self, answer: Answer) {
        let mut answers = self.answers.lock();
        let was_empty = answers.is_empty();
        answers.push(answer);
        drop(answers);
        if was_empty {
            // A full socket wakes the loop just as well.
            let _ = (&self.wake).write(&[1]);
        }
    }
}

impl Answer {
    fn deliver(self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        // Cancelled, most likely: nobody waits for it any more.
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match self.limiter.get().decision(py, self.outcome) {
            Ok(decision) => future.call_method1(intern!(py, "set_result"), (decision,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
        };
        Ok(())
    }
}
