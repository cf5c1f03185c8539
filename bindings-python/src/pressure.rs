//! `Pressure`: what a store with a bounded number of keys could not keep.

use pyo3::prelude::*;

/// Counts what a store with a bounded number of keys could not keep. When either number grows,
/// `max_keys` is too small for the keys that owe something.
///
/// >>> from tidegate import Limiter
/// >>> Limiter("10/s").pressure
/// Pressure(evicted=0, denied=0)
#[pyclass(frozen, eq, hash, module = "tidegate")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Pressure {
    /// How many buckets were dropped for new keys although they owed something. Their keys may
    /// spend again what they had owed.
    #[pyo3(get)]
    evicted: u64,
    /// How many calls were refused because there was no room for their new key.
    #[pyo3(get)]
    denied: u64,
}

impl From<tidegate::Pressure> for Pressure {
    fn from(pressure: tidegate::Pressure) -> Self {
        Self { evicted: pressure.evicted, denied: pressure.denied }
    }
}

#[pymethods]
impl Pressure {
    fn __repr__(&self) -> String {
        format!("Pressure(evicted={}, denied={})", self.evicted, self.denied)
    }
}
