//! `FakeClock`: a clock that tests move.

use core::time::Duration;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};
use tidegate::{Clock as _, ManualClock};

use crate::arguments::wrong_type;
use crate::errors::invalid_argument;
use crate::seconds;

/// A clock that stands still until it is moved, for tests of code that uses a limiter in
/// memory.
///
/// `now` is in nanoseconds since the clock's zero, 0 to 2**64 - 1. Any number of limiters and
/// threads may share one clock.
///
/// >>> from tidegate import FakeClock, Limiter
/// >>> clock = FakeClock()
/// >>> limiter = Limiter("1/min", clock=clock)
/// >>> limiter.check("user:42").allowed, limiter.check("user:42").allowed
/// (True, False)
/// >>> clock.advance(60)
/// >>> limiter.check("user:42").allowed
/// True
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct FakeClock(pub(crate) Arc<ManualClock>);

#[pymethods]
impl FakeClock {
    #[new]
    #[pyo3(signature = (now=0))]
    fn new(#[pyo3(from_py_with = nanos)] now: u64) -> Self {
        Self(Arc::new(ManualClock::new(now)))
    }

    /// The time that the clock shows, in nanoseconds.
    fn now(&self) -> u64 {
        self.0.now()
    }

    /// Sets the clock to `now` nanoseconds, which may be earlier than what it shows.
    fn set(&self, #[pyo3(from_py_with = nanos)] now: u64) {
        self.0.set(now);
    }

    /// Moves the clock forward by `by` seconds, rounded to the nearest nanosecond.
    fn advance(&self, by: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, by) = (by.py(), seconds::read("by", by)?);
        let span = Duration::try_from_secs_f64(by).ok();
        let nanos = span.and_then(|span| u64::try_from(span.as_nanos()).ok()).ok_or_else(|| {
            let message = format!("it must be 0 to 1.8e10 seconds, but is {by}");
            invalid_argument(py, "by", message)
        })?;
        self.0.advance(nanos);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("FakeClock(now={})", self.now())
    }
}

fn nanos(now: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !now.is_instance_of::<PyInt>() || now.is_instance_of::<PyBool>() {
        return Err(wrong_type("now", "a whole number of nanoseconds", now));
    }
    now.extract().map_err(|_| {
        let message = format!("it must be 0 to {} nanoseconds", u64::MAX);
        invalid_argument(now.py(), "now", message)
    })
}
