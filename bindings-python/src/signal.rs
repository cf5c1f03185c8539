//! `Signal`: what a vendor's response says about its limits.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use tidegate::{HoldScope, Meaning, Profile, Row, SignalKind, SignalReader, Unit};

use crate::errors::invalid_argument;
use crate::seconds::from_nanos;

/// What a vendor's response says about its limits: for how long to make no more calls, on what, and
/// what is left. `read_signal` reads it. Durations are in seconds.
///
/// Two are equal if all fields are.
///
/// >>> from tidegate import read_signal
/// >>> signal = read_signal(429, {"Retry-After": "120"})
/// >>> signal.hold, signal.scope, signal.kind, signal.should_retry
/// (120.0, 'credential', 'rate', True)
#[pyclass(frozen, eq, hash, module = "tidegate")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Signal {
    hold: u64,
    asked: u64,
    scope: HoldScope,
    /// The vendor's own name of the bucket that counted the call, such as the value of Discord's
    /// X-RateLimit-Bucket; empty when the response names none.
    #[pyo3(get)]
    bucket: String,
    /// How much of the limit is left; None when the response does not say.
    #[pyo3(get)]
    remaining: Option<u64>,
    /// How much the limit allows in its window; None when the response does not say.
    #[pyo3(get)]
    limit: Option<u64>,
    /// The name of the limit that `limit`, `remaining`, `window` and `reset` are about, in lower
    /// case; empty when it has none. Of several limits it is the one that binds: a spent one with
    /// the latest reset, or else the one with the smallest share left.
    #[pyo3(get)]
    limit_name: String,
    window: Option<u64>,
    reset: Option<u64>,
    /// Whether the same call may succeed when it is made again, after the hold.
    #[pyo3(get)]
    should_retry: bool,
    kind: SignalKind,
    /// The name of the header, or the path of the body's field, that the hold was read from, in
    /// lower case; empty when there is no hold, or when the profile gives it.
    #[pyo3(get)]
    source: String,
}

#[pymethods]
impl Signal {
    /// For how many seconds to make no more calls in the `scope`. It is 0.0 when the response asks
    /// for no wait, or says nothing: then a retry waits for its own back-off. Never more than
    /// `max_hold`.
    #[getter]
    fn hold(&self) -> f64 {
        from_nanos(self.hold)
    }

    /// The wait in seconds that the response asks for, before the bound of `hold`.
    #[getter]
    fn asked(&self) -> f64 {
        from_nanos(self.asked)
    }

    /// What the hold is about: "vendor", every call to it; "credential", the calls with the same
    /// credential; "bucket", the calls that the vendor counts together with this one, which are
    /// those of the same `bucket` where it names one, or else of the same endpoint.
    #[getter]
    fn scope(&self) -> &'static str {
        self.scope.as_str()
    }

    /// Why the vendor refused: "rate", "concurrency" (the rate may stay as it is), "quota" (without
    /// a hold it does not come back by itself), "overload" (whoever calls), "abuse", "auth",
    /// "fault" (the vendor failed) or "refused" (the call itself is wrong); "ok" if it did not.
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    /// The length of the limit's window in seconds; None when the response does not say.
    #[getter]
    fn window(&self) -> Option<f64> {
        self.window.map(from_nanos)
    }

    /// The seconds until the limit is reset; None when the response does not say.
    #[getter]
    fn reset(&self) -> Option<f64> {
        self.reset.map(from_nanos)
    }

    fn __repr__(&self) -> String {
        let (hold, retry) = (self.hold(), if self.should_retry { "True" } else { "False" });
        let (kind, scope) = (self.kind(), self.scope());
        format!("Signal(kind='{kind}', hold={hold:?}, scope='{scope}', should_retry={retry})")
    }
}

impl Signal {
    /// The signal of the core.
    pub(crate) fn of_core(&self) -> tidegate::Signal<'_> {
        tidegate::Signal {
            hold: self.hold,
            asked: self.asked,
            scope: self.scope,
            bucket: self.bucket.as_bytes(),
            remaining: self.remaining,
            limit: self.limit,
            limit_name: self.limit_name.as_bytes(),
            window: self.window,
            reset: self.reset,
            should_retry: self.should_retry,
            kind: self.kind,
            source: &self.source,
        }
    }
}

type Pairs = Vec<(PyBackedBytes, PyBackedBytes)>;
/// The header, meaning, unit and group of a profile's row.
type WrittenRow = (String, String, String, String);

/// Reads a response whose parts `tidegate._signals` has brought into one form. Times are in
/// nanoseconds.
#[pyfunction(name = "_read_signal")]
pub(crate) fn read_signal(
    py: Python<'_>,
    status: u16,
    headers: Pairs,
    fields: Pairs,
    profile: (&str, Vec<WrittenRow>),
    now: u64,
    max_hold: u64,
) -> PyResult<Signal> {
    let (name, written) = profile;
    let rows = written.iter().map(|row| row_of(py, row)).collect::<PyResult<Vec<_>>>()?;
    let Some(named) = Profile::named(name) else {
        let known: Vec<_> = Profile::BUILT_IN.iter().map(|profile| profile.name).collect();
        let message = format!("there is none of the name {name:?}; there are {}", known.join(", "));
        return Err(invalid_argument(py, "profile", message));
    };
    let own = Profile { rows: &rows, ..Profile::GENERIC };
    let profile: &Profile<'_> = if rows.is_empty() { named } else { &own };
    let mut reader = SignalReader::new(status, profile);
    for (name, value) in &headers {
        reader.header(name, value);
    }
    for (path, value) in &fields {
        reader.body(path, value);
    }
    let signal = reader.finish(now, max_hold);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Signal {
        hold: signal.hold,
        asked: signal.asked,
        scope: signal.scope,
        bucket: text(signal.bucket),
        remaining: signal.remaining,
        limit: signal.limit,
        limit_name: text(signal.limit_name).to_ascii_lowercase(),
        window: signal.window,
        reset: signal.reset,
        should_retry: signal.should_retry,
        kind: signal.kind,
        source: signal.source.to_ascii_lowercase(),
    })
}

fn row_of<'a>(py: Python<'_>, row: &'a WrittenRow) -> PyResult<Row<'a>> {
    let (header, meaning, unit, group) = row;
    let unknown = |what: &str, word: &str| {
        invalid_argument(py, "profile", format!("there is no {what} {word:?}"))
    };
    Ok(Row {
        header,
        meaning: Meaning::parse(meaning).ok_or_else(|| unknown("meaning", meaning))?,
        unit: Unit::parse(unit).ok_or_else(|| unknown("unit", unit))?,
        group,
    })
}
