//! `Decision`: the answer to a check.

use core::hash::{Hash as _, Hasher as _};
use std::hash::DefaultHasher;

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyString};
use tidegate::Source;

use crate::errors::invalid_argument;
use crate::seconds::{from_nanos, nanos_of};

/// The answer to one check. A refusal is a value, not an error: a decision is true when it
/// allows. Durations are in seconds.
///
/// >>> from tidegate import FakeClock, Limiter
/// >>> limiter = Limiter("2/s", clock=FakeClock())
/// >>> limiter.check("user:42", cost=2)
/// Decision(allowed=True, limit=2, remaining=0, retry_after=0.0, reset_after=1.0, limit_name='2/s', source='memory')
/// >>> decision = limiter.check("user:42")
/// >>> if not decision:
/// ...     print(f"try again in {decision.retry_after} s")
/// try again in 0.5 s
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Decision {
    decided: tidegate::Decision,
    limit_name: Py<PyString>,
}

impl Decision {
    pub(crate) fn new(decided: tidegate::Decision, limit_name: Py<PyString>) -> Self {
        Self { decided, limit_name }
    }

    pub(crate) fn decided(&self) -> tidegate::Decision {
        self.decided
    }
}

#[pymethods]
impl Decision {
    /// A decision for the tests of a program, as `repr` prints it. What is left out is 0 or empty.
    #[new]
    #[pyo3(
        signature = (
            *, allowed, limit=0, remaining=0, retry_after=None, reset_after=None,
            limit_name=None, source=None
        ),
        text_signature = "(*, allowed, limit=0, remaining=0, retry_after=0.0, reset_after=0.0, \
                          limit_name='', source='memory')"
    )]
    #[allow(clippy::too_many_arguments)] // they are Python's keywords
    fn make(
        py: Python<'_>,
        allowed: bool,
        limit: u64,
        remaining: u64,
        retry_after: Option<&Bound<'_, PyAny>>,
        reset_after: Option<&Bound<'_, PyAny>>,
        limit_name: Option<&Bound<'_, PyString>>,
        source: Option<&str>,
    ) -> PyResult<Self> {
        let nanos = |name, seconds: Option<&Bound<'_, PyAny>>| {
            seconds.map_or(Ok(0), |seconds| nanos_of(name, seconds))
        };
        let (retry_after, reset_after) =
            (nanos("retry_after", retry_after)?, nanos("reset_after", reset_after)?);
        let source = source.unwrap_or("memory");
        let source = Source::parse(source).ok_or_else(|| {
            let message = format!(
                "it must be one of {}, but is {source:?}",
                Source::ALL.map(|each| each.as_str()).join(", ")
            );
            invalid_argument(py, "source", message)
        })?;
        let decided = tidegate::Decision {
            allowed,
            limit,
            remaining,
            retry_after,
            reset_after,
            tier: 0,
            source,
        };
        let limit_name = limit_name.map_or_else(|| PyString::new(py, ""), Bound::clone);
        Ok(Self::new(decided, limit_name.unbind()))
    }

    /// Whether the cost was charged. A refused check has changed nothing.
    #[getter]
    fn allowed(&self) -> bool {
        self.decided.allowed
    }

    /// The burst of the limit that bound the answer, in tokens; 2**64 - 1 for "unlimited".
    #[getter]
    fn limit(&self) -> u64 {
        self.decided.limit
    }

    /// The whole tokens that this limit could still spend at once, after this check; 2**64 - 1 for
    /// "unlimited".
    #[getter]
    fn remaining(&self) -> u64 {
        self.decided.remaining
    }

    /// Seconds until the same check would be allowed if nobody else came; 0.0
    /// when it was allowed, and infinite when it never will be ("none").
    #[getter]
    fn retry_after(&self) -> f64 {
        from_nanos(self.decided.retry_after)
    }

    /// Seconds until the bucket of that limit is full again; infinite for "none".
    #[getter]
    fn reset_after(&self) -> f64 {
        from_nanos(self.decided.reset_after)
    }

    /// The name of the limit that bound the answer: the longest `retry_after` when
    /// refused, the least `remaining` when allowed, the first on a tie.
    #[getter]
    fn limit_name<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.limit_name.bind(py)
    }

    /// The source of the decision: the bucket in "memory", "shm" or "redis", a "lease" of the
    /// bucket in Redis, or the limiter's "fallback" because its store fails.
    #[getter]
    fn source(&self) -> &'static str {
        self.decided.source.as_str()
    }

    fn __bool__(&self) -> bool {
        self.decided.allowed
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "Decision(allowed={}, limit={}, remaining={}, retry_after={}, reset_after={}, \
             limit_name={}, source='{}')",
            if self.decided.allowed { "True" } else { "False" },
            self.decided.limit,
            self.decided.remaining,
            PyFloat::new(py, self.retry_after()).repr()?,
            PyFloat::new(py, self.reset_after()).repr()?,
            self.limit_name.bind(py).repr()?,
            self.source(),
        ))
    }

    fn __eq__(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
        Ok(self.seen() == other.seen()
            && self.limit_name.to_str(py)? == other.limit_name.to_str(py)?)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Parts,))> {
        let restore = py.import("tidegate._tidegate")?.getattr("_restore")?;
        let tidegate::Decision {
            allowed, limit, remaining, retry_after, reset_after, tier, ..
        } = self.decided;
        let (name, source) = (self.limit_name.bind(py).to_string(), self.source().to_owned());
        let parts = (allowed, limit, remaining, retry_after, reset_after, tier, name, source);
        Ok((restore, (parts,)))
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
        let mut hasher = DefaultHasher::new();
        self.seen().hash(&mut hasher);
        self.limit_name.to_str(py)?.hash(&mut hasher);
        Ok(hasher.finish())
    }
}

/// The fields that a decision is pickled as, with durations in nanoseconds.
type Parts = (bool, u64, u64, u64, u64, u8, String, String);

/// Restores a decision that was pickled.
#[pyfunction(name = "_restore")]
pub(crate) fn restore(py: Python<'_>, parts: Parts) -> Decision {
    let (allowed, limit, remaining, retry_after, reset_after, tier, name, source) = parts;
    let source = Source::parse(&source).unwrap_or_default();
    let decided =
        tidegate::Decision { allowed, limit, remaining, retry_after, reset_after, tier, source };
    Decision::new(decided, PyString::new(py, &name).unbind())
}

impl Decision {
    /// The fields that Python sees. The tier is left out, because it shows as the limit's name.
    fn seen(&self) -> tidegate::Decision {
        tidegate::Decision { tier: 0, ..self.decided }
    }
}
