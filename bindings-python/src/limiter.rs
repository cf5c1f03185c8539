use core::time::Duration;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use tidegate::answer::awaited;
use tidegate::{Error, ManualClock};

use crate::arguments::{Key, clock, cost, prefix, store, store_timeout};
use crate::completions::Completions;
use crate::decision::Decision;
use crate::errors::exception;
use crate::limit::Limit;

/// How often a thread that waits for a store looks for Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Decides whether a key may spend tokens, under one to four limits that all
/// must allow.
///
/// Each of `limits` is a text, such as "100/min burst 20", or a Limit. `store` is
/// "memory://" (buckets of this limiter, in this process) or the URL of a Redis
/// that a fleet shares: "redis://[user:password@]host[:port][/database]",
/// "rediss://..." (TLS), "redis+unix:///path". Limiters with the same `prefix` (1
/// to 256 bytes) and key share a bucket there. `store_timeout` bounds each check on
/// Redis, in seconds: 0.001 to 60. `clock` is a FakeClock, for memory only.
///
/// No connection is made before the first check. Use it from any thread, and in
/// forked children. As a context manager it closes at the end.
///
/// Raises InvalidLimit for a limit that cannot be kept, and InvalidArgument.
///
/// >>> from tidegate import Limiter
/// >>> limiter = Limiter("10/s burst 20", "1000/d")
/// >>> decision = limiter.check("user:42")
/// >>> decision.allowed, decision.remaining, decision.limit_name
/// (True, 19, '10/s burst 20')
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Limiter {
    limiter: tidegate::Limiter,
    limits: Py<PyTuple>,
    /// By tier, made once, so that a decision only adds a reference.
    names: Box<[Py<PyString>]>,
}

#[pymethods]
impl Limiter {
    #[new]
    #[pyo3(
        signature = (
            *limits,
            store="memory://".to_owned(),
            prefix="tidegate".to_owned(),
            store_timeout=Duration::from_millis(50),
            clock=None
        ),
        text_signature = "(*limits, store='memory://', prefix='tidegate', store_timeout=0.05, clock=None)"
    )]
    fn new(
        py: Python<'_>,
        limits: &Bound<'_, PyTuple>,
        #[pyo3(from_py_with = store)] store: String,
        #[pyo3(from_py_with = prefix)] prefix: String,
        #[pyo3(from_py_with = store_timeout)] store_timeout: Duration,
        #[pyo3(from_py_with = clock)] clock: Option<Arc<ManualClock>>,
    ) -> PyResult<Self> {
        let mut builder = tidegate::Limiter::builder()
            .store_url(&store)
            .prefix(&prefix)
            .store_timeout(store_timeout);
        for limit in limits {
            builder = builder.add_limit(Limit::of(&limit)?);
        }
        if let Some(clock) = clock {
            builder = builder.clock(clock);
        }
        let limiter = builder.build().map_err(|error| exception(py, &error))?;
        let named = limiter.limits();
        let names = named.iter().map(|named| PyString::new(py, &named.name).unbind()).collect();
        let limits = PyTuple::new(py, named.iter().cloned().map(Limit))?.unbind();
        Ok(Self { limiter, limits, names })
    }

    /// The limits, in the order given.
    #[getter]
    fn limits<'py>(&self, py: Python<'py>) -> &Bound<'py, PyTuple> {
        self.limits.bind(py)
    }

    /// Spends `cost` tokens of `key` if every limit allows. Never waits for tokens,
    /// only for the store, with the interpreter free for other threads.
    ///
    /// `key` is str (as UTF-8) or bytes, 1 to 1024 bytes; `cost` is 0 to 2**63 - 1,
    /// and 0 looks without spending.
    ///
    /// Raises InvalidArgument, CostTooLarge for a cost above a limit's burst, and on
    /// Redis StoreError, StoreTimeout or CorruptBucket. After StoreTimeout the cost
    /// may or may not have been charged.
    #[pyo3(signature = (key, cost=1))]
    fn check(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        #[pyo3(from_py_with = cost)] cost: u64,
    ) -> PyResult<Decision> {
        let outcome = if self.limiter.is_remote() {
            self.await_store(py, key, cost)?
        } else {
            self.limiter.check(key.0, cost)
        };
        self.decision(py, outcome)
    }

    /// What check with a cost of 0 answers: always allowed, spends nothing.
    fn peek(&self, py: Python<'_>, key: Key<'_>) -> PyResult<Decision> {
        self.check(py, key, 0)
    }

    /// Lets go of the limiter: later checks raise StoreError. Closing it twice does
    /// no harm.
    fn close(&self) {
        self.limiter.close();
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.close();
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let store = self.limiter.source().as_str();
        let limits = self.limits.bind(py).iter().map(|limit| Ok(limit.repr()?.to_string()));
        let limits = limits.collect::<PyResult<Vec<_>>>()?.join(", ");
        Ok(format!("<tidegate.Limiter({limits}) in {store}>"))
    }

    /// Whether checks wait for a store.
    #[getter]
    fn _is_remote(&self) -> bool {
        self.limiter.is_remote()
    }

    /// Starts a check on the store that completes `future` through `completions`.
    fn _start(
        slf: Py<Self>,
        py: Python<'_>,
        completions: &Bound<'_, Completions>,
        future: Py<PyAny>,
        key: Key<'_>,
        #[pyo3(from_py_with = cost)] cost: u64,
    ) {
        let limiter = slf.get().limiter.clone();
        let ticket = completions.get().ticket(slf.clone_ref(py), future);
        limiter.check_then(key.0, cost, move |outcome| ticket.complete(outcome));
    }
}

impl Limiter {
    pub(crate) fn decision(
        &self,
        py: Python<'_>,
        outcome: Result<tidegate::Decision, Error>,
    ) -> PyResult<Decision> {
        let decided = outcome.map_err(|error| exception(py, &error))?;
        let name = match self.names.get(usize::from(decided.tier)) {
            Some(name) => name.clone_ref(py),
            None => PyString::new(py, self.limiter.limit_name(&decided)).unbind(),
        };
        Ok(Decision::new(decided, name))
    }

    /// A check on the store. It starts with the interpreter held, so that no other
    /// thread can fork while the limiter holds a lock; only the waiting lets go.
    fn await_store(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        cost: u64,
    ) -> PyResult<Result<tidegate::Decision, Error>> {
        let (answerer, awaited) = awaited();
        self.limiter.check_then(key.0, cost, move |outcome| _ = answerer.answer(outcome));
        loop {
            if let Some(outcome) = py.detach(|| awaited.within(SIGNAL_INTERVAL)) {
                return Ok(outcome);
            }
            py.check_signals()?;
        }
    }
}
