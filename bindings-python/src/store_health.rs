use pyo3::prelude::*;

/// How a limiter's store has done; of memory, which cannot fail, nothing.
///
/// `state` says what becomes of calls: "closed", and they are sent; "open", and they are answered
/// at once because the store keeps failing; "half_open" while one of them finds out whether it
/// is back.
///
/// >>> from tidegate import Limiter
/// >>> Limiter("10/s").store_health
/// StoreHealth(state='closed', failures=0, fallbacks=0)
#[pyclass(frozen, eq, hash, module = "tidegate")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct StoreHealth {
    /// "closed", "open" or "half_open".
    #[pyo3(get)]
    state: &'static str,
    /// Calls on the store that failed.
    #[pyo3(get)]
    failures: u64,
    /// Calls that the limiter has answered itself, as its `on_store_error` says.
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
