//! How a Python thread waits for a store or in a line, with the interpreter free for others; and who
//! waits.

use core::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFloat};
use tidegate::Error;
use tidegate::bindings::{OneshotSender, oneshot};

use crate::clients::interruptible;
use crate::seconds::from_nanos;

/// How often a thread that waits for a store looks for signals such as Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Starts an operation with `start` and waits for its answer. The interpreter is held during the
/// start, so that no other thread can fork while the limiter holds a lock, and free while waiting.
pub(crate) fn await_store<T: Send>(
    py: Python<'_>,
    start: impl FnOnce(OneshotSender<T>),
) -> PyResult<Result<T, Error>> {
    let (sender, receiver) = oneshot();
    interruptible(|| start(sender))?;
    // A blocking client has answered on this thread: there is no need to let go of the interpreter.
    if let Some(answer) = receiver.try_recv() {
        return Ok(answer);
    }
    loop {
        if let Some(answer) = py.detach(|| receiver.wait_for(SIGNAL_INTERVAL)) {
            return Ok(answer);
        }
        py.check_signals()?;
    }
}

/// Sleeps with Python's `time.sleep`, so that signals interrupt it and libraries that replace it
/// are called.
pub(crate) fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    // Otherwise a signal that has come already would be handled only after the sleep.
    py.check_signals()?;
    py.import("time")?.call_method1("sleep", (seconds,)).map(drop)
}

/// Whether a library has replaced `time.sleep` to let other tasks run meanwhile, as gevent does.
pub(crate) fn is_sleep_replaced(py: Python<'_>) -> PyResult<bool> {
    let sleep = py.import("time")?.getattr("sleep")?;
    let is_own = sleep.is_instance_of::<PyCFunction>()
        && sleep.getattr("__module__")?.extract::<&str>().is_ok_and(|module| module == "time");
    Ok(!is_own)
}

/// The callers that wait for a key in `acquire`.
#[pyclass(frozen, eq, hash, module = "tidegate")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Waiting(pub(crate) tidegate::Waiting);

#[pymethods]
impl Waiting {
    /// The number of callers.
    #[getter]
    fn callers(&self) -> usize {
        self.0.callers
    }

    /// The tokens that they wait for.
    #[getter]
    fn tokens(&self) -> u64 {
        self.0.tokens
    }

    /// Seconds until the last of them is served; 0 when nobody waits.
    #[getter]
    fn until(&self) -> f64 {
        from_nanos(self.0.until)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let until = PyFloat::new(py, self.until()).repr()?;
        Ok(format!("Waiting(callers={}, tokens={}, until={until})", self.0.callers, self.0.tokens))
    }
}
