//! `Decision`: the answer to a check, and `TierDecision`: what one limit says to it.

use core::hash::{Hash as _, Hasher as _};
use std::hash::DefaultHasher;

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyString, PyTuple};
use tidegate::{Source, TieredDecision};

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
#[pyclass(frozen, subclass, module = "tidegate")]
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

    /// What each limit of the limiter says, in the order of the limits, for a program that tells its
    /// callers about all of them, in RateLimit header fields, say. It is made when it is read. It has
    /// only the limit that bound the answer if no bucket of the others was asked: in an answer of a
    /// lease, of "none", of RateLimited, and in a Decision that a program made.
    ///
    /// >>> from tidegate import Limiter
    /// >>> decision = Limiter("10/s", "500/h").check("user:42")
    /// >>> [(tier.limit_name, tier.remaining) for tier in decision.tiers]
    /// [('10/s', 9), ('500/h', 499)]
    #[getter]
    fn tiers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let said = tidegate::TierDecision::from(&self.decided);
        PyTuple::new(py, [TierDecision { said, limit_name: self.limit_name.clone_ref(py) }])
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
/// The fields that what each limit says is pickled as, and the names of the limits.
type TierParts = (Vec<(u8, u64, u64, u64, u64)>, Py<PyTuple>);

/// Restores a decision that was pickled.
#[pyfunction(name = "_restore")]
#[pyo3(signature = (parts, tiers=None))]
pub(crate) fn restore(
    py: Python<'_>,
    parts: Parts,
    tiers: Option<TierParts>,
) -> PyResult<Py<Decision>> {
    let (allowed, limit, remaining, retry_after, reset_after, tier, name, source) = parts;
    let source = Source::parse(&source).unwrap_or_default();
    let decided =
        tidegate::Decision { allowed, limit, remaining, retry_after, reset_after, tier, source };
    let decision = Decision::new(decided, PyString::new(py, &name).unbind());
    let Some((each, names)) = tiers else { return Py::new(py, decision) };
    let each = each.into_iter().map(|(tier, limit, remaining, retry_after, reset_after)| {
        tidegate::TierDecision { tier, limit, remaining, retry_after, reset_after }
    });
    DecisionOfTiers::make(py, decision, TieredDecision::new(decided, each), names)
}

/// The decision of a limiter with several limits. A class of its own, so that those of one limit
/// need not have room for it.
#[pyclass(frozen, extends = Decision, module = "tidegate._tidegate", name = "_DecisionOfTiers")]
pub(crate) struct DecisionOfTiers {
    tiers: TieredDecision,
    /// The names of all limits.
    names: Py<PyTuple>,
}

impl DecisionOfTiers {
    /// `decision` with what each limit says.
    pub(crate) fn make(
        py: Python<'_>,
        decision: Decision,
        tiers: TieredDecision,
        names: Py<PyTuple>,
    ) -> PyResult<Py<Decision>> {
        let own = PyClassInitializer::from(decision).add_subclass(Self { tiers, names });
        Ok(Bound::new(py, own)?.into_super().unbind())
    }
}

#[pymethods]
impl DecisionOfTiers {
    #[getter]
    fn tiers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let names = self.names.bind(py);
        let each = self.tiers.tiers().iter().map(|said| {
            let limit_name = names.get_item(said.tier.into())?.cast_into()?.unbind();
            Ok(TierDecision { said: *said, limit_name })
        });
        PyTuple::new(py, each.collect::<PyResult<Vec<_>>>()?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Pickled)> {
        let Self { tiers, names } = slf.get();
        let (restore, (parts,)) = slf.as_super().get().__reduce__(slf.py())?;
        let each = tiers.tiers().iter().map(|said| {
            (said.tier, said.limit, said.remaining, said.retry_after, said.reset_after)
        });
        Ok((restore, (parts, (each.collect(), names.clone_ref(slf.py())))))
    }
}

type Pickled = (Parts, TierParts);

/// What one limit of a limiter says to a call; `Decision.tiers` has one for each limit. Durations are
/// in seconds.
///
/// After an allowed check it is what remains of the limit. After a refused one nothing was charged,
/// so it is what the limit holds, and `retry_after` is the time after which this limit alone would
/// allow the call.
///
/// >>> from tidegate import FakeClock, Limiter
/// >>> limiter = Limiter("2/s", "500/h", clock=FakeClock())
/// >>> refused = [limiter.check("user:42", cost=2), limiter.check("user:42")][-1]
/// >>> [(tier.retry_after, tier.remaining) for tier in refused.tiers]
/// [(0.5, 0), (0.0, 498)]
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct TierDecision {
    said: tidegate::TierDecision,
    limit_name: Py<PyString>,
}

#[pymethods]
impl TierDecision {
    /// One for the tests of a program, as `repr` prints it. What is left out is 0 or empty.
    #[new]
    #[pyo3(
        signature = (*, limit=0, remaining=0, retry_after=None, reset_after=None, limit_name=None),
        text_signature = "(*, limit=0, remaining=0, retry_after=0.0, reset_after=0.0, limit_name='')"
    )]
    fn make(
        py: Python<'_>,
        limit: u64,
        remaining: u64,
        retry_after: Option<&Bound<'_, PyAny>>,
        reset_after: Option<&Bound<'_, PyAny>>,
        limit_name: Option<&Bound<'_, PyString>>,
    ) -> PyResult<Self> {
        let nanos = |name, seconds: Option<&Bound<'_, PyAny>>| {
            seconds.map_or(Ok(0), |seconds| nanos_of(name, seconds))
        };
        let (retry_after, reset_after) =
            (nanos("retry_after", retry_after)?, nanos("reset_after", reset_after)?);
        let said = tidegate::TierDecision { tier: 0, limit, remaining, retry_after, reset_after };
        let limit_name = limit_name.map_or_else(|| PyString::new(py, ""), Bound::clone);
        Ok(Self { said, limit_name: limit_name.unbind() })
    }

    /// The burst of the limit, in tokens; 2**64 - 1 for "unlimited".
    #[getter]
    fn limit(&self) -> u64 {
        self.said.limit
    }

    /// The whole tokens that this limit could still spend at once, after the call; 2**64 - 1 for
    /// "unlimited".
    #[getter]
    fn remaining(&self) -> u64 {
        self.said.remaining
    }

    /// Seconds until this limit alone would allow the same call if nobody else came; 0.0 when it
    /// allows it now, and infinite when it never will ("none").
    #[getter]
    fn retry_after(&self) -> f64 {
        from_nanos(self.said.retry_after)
    }

    /// Seconds until the bucket of this limit is full again; infinite for "none".
    #[getter]
    fn reset_after(&self) -> f64 {
        from_nanos(self.said.reset_after)
    }

    /// The name of the limit.
    #[getter]
    fn limit_name<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.limit_name.bind(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "TierDecision(limit={}, remaining={}, retry_after={}, reset_after={}, limit_name={})",
            self.said.limit,
            self.said.remaining,
            PyFloat::new(py, self.retry_after()).repr()?,
            PyFloat::new(py, self.reset_after()).repr()?,
            self.limit_name.bind(py).repr()?,
        ))
    }

    fn __eq__(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
        Ok(self.seen() == other.seen()
            && self.limit_name.to_str(py)? == other.limit_name.to_str(py)?)
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
        let mut hasher = DefaultHasher::new();
        self.seen().hash(&mut hasher);
        self.limit_name.to_str(py)?.hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, PickledTier)> {
        let restore = py.import("tidegate._tidegate")?.getattr("_restore_tier")?;
        let tidegate::TierDecision { limit, remaining, retry_after, reset_after, .. } = self.said;
        let name = self.limit_name.clone_ref(py);
        Ok((restore, (limit, remaining, retry_after, reset_after, name)))
    }
}

/// The fields that what one limit says is pickled as, with durations in nanoseconds.
type PickledTier = (u64, u64, u64, u64, Py<PyString>);

/// Restores what one limit said that was pickled.
#[pyfunction(name = "_restore_tier")]
pub(crate) fn restore_tier(
    limit: u64,
    remaining: u64,
    retry_after: u64,
    reset_after: u64,
    limit_name: Py<PyString>,
) -> TierDecision {
    let said = tidegate::TierDecision { tier: 0, limit, remaining, retry_after, reset_after };
    TierDecision { said, limit_name }
}

impl TierDecision {
    /// The fields that Python sees.
    fn seen(&self) -> tidegate::TierDecision {
        tidegate::TierDecision { tier: 0, ..self.said }
    }
}

impl Decision {
    /// The fields that Python sees. The tier is left out, because it shows as the limit's name.
    fn seen(&self) -> tidegate::Decision {
        tidegate::Decision { tier: 0, ..self.decided }
    }
}
