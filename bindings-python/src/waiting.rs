//! How a Python thread waits for a store, with the interpreter free for others, and for its slot.

use core::time::Duration;

use pyo3::prelude::*;
use tidegate::Error;
use tidegate::bindings::{OneshotSender, oneshot};

use crate::clients::interruptible;

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
