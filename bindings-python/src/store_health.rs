//! `StoreHealth`: how a limiter's store has done.

use pyo3::prelude::*;

/// How a limiter's store has done. Memory cannot fail, so that all of it stays zero there.
///
/// `state` is the circuit breaker's: "closed" sends calls to the store; "open" answers them at
/// once, because the store keeps failing; "half_open" sends one call, which finds out whether the
/// store works again.
///
/// >>> from tidegate import Limiter
/// >>> Limiter("10/s").store_health
/// StoreHealth(state='closed', failures=0, fallbacks=0)
#[pyclass(frozen, eq, hash, module = "tidegate")]
#[derive(PartialEq, Eq, Hash)]
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
}

impl From<tidegate::StoreHealth> for StoreHealth {
    fn from(health: tidegate::StoreHealth) -> Self {
        let tidegate::StoreHealth { state, failures, fallbacks, .. } = health;
        Self { state: state.as_str(), failures, fallbacks }
    }
}

#[pymethods]
impl StoreHealth {
    fn __repr__(&self) -> String {
        let Self { state, failures, fallbacks } = self;
        format!("StoreHealth(state='{state}', failures={failures}, fallbacks={fallbacks})")
    }
}
