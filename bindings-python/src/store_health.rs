//! `StoreHealth`: how a limiter's store has done.

use core::hash::{Hash, Hasher};
use core::time::Duration;

use pyo3::prelude::*;
use tidegate::Error;

use crate::errors::exception;

/// How a limiter's store has done. Memory cannot fail, so that all of it stays zero there.
///
/// `state` is the circuit breaker's: "closed" sends calls to the store; "open" answers them at
/// once, because the store keeps failing; "half_open" sends one call, which finds out whether the
/// store works again.
///
/// >>> from tidegate import Limiter
/// >>> Limiter("10/s").store_health
/// StoreHealth(state='closed', failures=0, fallbacks=0)
///
/// Two are equal if the state and both counts are.
#[pyclass(frozen, eq, hash, module = "tidegate")]
pub(crate) struct StoreHealth {
    /// The state of the breaker: "closed", "open" or "half_open".
    #[pyo3(get)]
    state: &'static str,
    /// How many calls on the store failed.
    #[pyo3(get)]
    failures: u64,
    /// How many calls the limiter has answered itself, as its `on_store_error` says.
    #[pyo3(get)]
    fallbacks: u64,
    last_error: Option<Error>,
    since: Duration,
}

impl StoreHealth {
    const fn counts(&self) -> (&'static str, u64, u64) {
        (self.state, self.failures, self.fallbacks)
    }
}

impl PartialEq for StoreHealth {
    fn eq(&self, other: &Self) -> bool {
        self.counts() == other.counts()
    }
}

impl Eq for StoreHealth {}

impl Hash for StoreHealth {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.counts().hash(state);
    }
}

impl From<tidegate::StoreHealth> for StoreHealth {
    fn from(health: tidegate::StoreHealth) -> Self {
        let tidegate::StoreHealth { state, failures, fallbacks, last_error, since, .. } = health;
        Self { state: state.as_str(), failures, fallbacks, last_error, since }
    }
}

#[pymethods]
impl StoreHealth {
    /// The last failure of a call on the store, a StoreError that has a `code`, also after the store
    /// has recovered; None if no call failed. Without passwords.
    #[getter]
    fn last_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let error = self.last_error.as_ref()?;
        Some(exception(py, error).into_value(py).into_any())
    }

    /// For how many seconds the store has been so: "closed" without a break, or not closed, where
    /// "open" and "half_open" are one outage. Counted from the first use in this process; 0 in memory.
    #[getter]
    fn since(&self) -> f64 {
        self.since.as_secs_f64()
    }

    fn __repr__(&self) -> String {
        let (state, failures, fallbacks) = self.counts();
        format!("StoreHealth(state='{state}', failures={failures}, fallbacks={fallbacks})")
    }
}
