//! How a thread of Python waits: for a store with the interpreter free, and for its slot.

use core::time::Duration;

use pyo3::prelude::*;
use tidegate::Error;
use tidegate::answer::{Answerer, awaited};

use crate::clients::{forget_cause, raise_interrupt};

/// How often a thread that waits for a store looks for Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for the answer that `start` has sent for. It starts with the interpreter held, so
/// that no other thread can fork while the limiter holds a lock; only the waiting lets go.
pub(crate) fn await_store<T: Send>(
    py: Python<'_>,
    start: impl FnOnce(Answerer<T>),
) -> PyResult<Result<T, Error>> {
    let (answerer, awaited) = awaited();
    forget_cause();
    start(answerer);
    raise_interrupt()?;
    // It is there if this thread has carried it: no other is to take the interpreter in between.
    if let Some(answer) = awaited.now() {
        return Ok(answer);
    }
    loop {
        if let Some(answer) = py.detach(|| awaited.within(SIGNAL_INTERVAL)) {
            return Ok(answer);
        }
        py.check_signals()?;
    }
}

/// Sleeps as Python does, so that signals interrupt it and libraries that replace
/// `time.sleep` have their way.
pub(crate) fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    // A signal that has come before would only be looked at after the sleep.
    py.check_signals()?;
    py.import("time")?.call_method1("sleep", (seconds,)).map(drop)
}
