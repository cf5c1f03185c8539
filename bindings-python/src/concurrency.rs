//! `Concurrency` and `Permit`: concurrency permits that expire, for threads, and what
//! `AsyncConcurrency` needs of them.

use core::time::Duration;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use tidegate::bindings::oneshot;
use tidegate::{Error, ManualClock, OnStoreError};

use crate::arguments::{
    clock, max_waiting, on_store_error, one_key, prefix, store_timeout, text, timeout, wrong_type,
};
use crate::clients::interruptible;
use crate::errors::{exception, invalid_argument};
use crate::seconds::{self, from_nanos, saturating_nanos};
use crate::waiting::{await_store, is_sleep_replaced, sleep};

const NO_PICKLE: &str = "a Concurrency is neither pickled nor copied: its permits or its connection belong to this \
    process; make one in each process with the same arguments, and with a Redis that they share";
const NO_CLIENT: &str = "concurrency permits need a Redis by its URL, not a client of your own";

/// How long a caller sleeps between two looks at its answer where `time.sleep` has been replaced.
const LOOK_AGAIN: f64 = 0.01;

/// Lets `limit` callers run at the same time, over all processes that use the same store, prefix and key.
/// Others wait in one line, first come, first served.
///
/// A permit lasts `ttl` seconds, 0.1 to 86,400, and the process that holds it renews it in the
/// background every third of that. The permits of a process that dies come free within `ttl`. So do
/// those of one that cannot reach the store for that long: its `Permit.lost` says so, and until it looks
/// it may run beside its successor.
///
/// `limit` is 1 to 1,000,000. `store` is "memory://" (this object has permits of its own) or the URL of
/// the Redis that a fleet shares, in the same forms as for Limiter; a client of the program's own and
/// "shm://" are refused. Whoever has the same `prefix` (1 to 256 bytes, "tidegate" unless given) and the
/// same key shares permits. `store_timeout` bounds each call, in seconds: 0.001 to 60.
///
/// `on_store_error` says what callers get while Redis fails: "raise" (unless given) raises a StoreError,
/// "allow" lets everybody in with a permit that is not counted (its `source` is "fallback"), and "deny"
/// lets nobody in. `max_waiting` is how many callers may wait for the permits of a key: 1 to 1,000,000,
/// 10,000 unless given; in Redis over all processes. With a FakeClock as `clock`, for memory only, permits
/// expire by it, and nobody waits.
///
/// Use it from any thread, and in forked children, which inherit no permit. As a context manager it closes
/// at the end.
///
/// Raises InvalidArgument.
///
/// >>> from tidegate import Concurrency
/// >>> vendor = Concurrency(2, ttl=30)
/// >>> with vendor.acquire(timeout=5):
/// ...     vendor.in_flight()
/// 1
/// >>> vendor.in_flight()
/// 0
#[pyclass(frozen, dict, weakref, module = "tidegate")] // the dict is for mocks of its methods
pub(crate) struct Concurrency(pub(crate) tidegate::Concurrency);

#[pymethods]
impl Concurrency {
    #[new]
    #[pyo3(
        signature = (
            limit,
            *,
            ttl=Duration::from_secs(30),
            store=None,
            prefix=None,
            store_timeout=Duration::from_millis(50),
            clock=None,
            on_store_error=None,
            max_waiting=None
        ),
        text_signature = "(limit, *, ttl=30, store='memory://', prefix=None, store_timeout=0.05, \
                          clock=None, on_store_error=None, max_waiting=None)"
    )]
    #[allow(clippy::too_many_arguments)] // they are Python's keywords
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = permits)] limit: u64,
        #[pyo3(from_py_with = ttl)] ttl: Duration,
        #[pyo3(from_py_with = store_url)] store: Option<String>,
        #[pyo3(from_py_with = prefix)] prefix: Option<String>,
        #[pyo3(from_py_with = store_timeout)] store_timeout: Duration,
        #[pyo3(from_py_with = clock)] clock: Option<Arc<ManualClock>>,
        #[pyo3(from_py_with = on_store_error)] on_store_error: Option<String>,
        #[pyo3(from_py_with = max_waiting)] max_waiting: Option<usize>,
    ) -> PyResult<Self> {
        let failed = |error: Error| exception(py, &error);
        let mut builder =
            tidegate::Concurrency::builder().limit(limit).ttl(ttl).store_timeout(store_timeout);
        if let Some(url) = store {
            builder = builder.store_url(&url);
        }
        if let Some(prefix) = prefix {
            builder = builder.prefix(&prefix);
        }
        if let Some(clock) = clock {
            builder = builder.clock(clock as _);
        }
        if let Some(name) = on_store_error {
            // The number of peers is only there so that "local" is refused for what it is.
            let peers = (name == "local").then_some(1);
            builder = builder.on_store_error(OnStoreError::parse(&name, peers).map_err(failed)?);
        }
        if let Some(max_waiting) = max_waiting {
            builder = builder.max_waiting(max_waiting);
        }
        builder.build().map(Self).map_err(failed)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(NO_PICKLE))
    }

    /// The number of permits of each key.
    #[getter]
    fn limit(&self) -> u64 {
        self.0.limit()
    }

    /// How many seconds a permit lasts unless it is renewed.
    #[getter]
    fn ttl(&self) -> f64 {
        from_nanos(saturating_nanos(self.0.ttl()))
    }

    /// Waits until the caller holds a permit of `key` (str or bytes), at most for `timeout` seconds; None
    /// waits however long it takes. The permit is a context manager that gives itself back at the end of
    /// its block. It also does so when it is garbage collected.
    ///
    /// Callers stand in one line over all processes. One that dies in it is passed over after 5 s. An
    /// interrupted caller (Ctrl-C) leaves the line.
    ///
    /// Raises NoPermit if none comes free in time or if `max_waiting` callers wait already, StoreError,
    /// StoreTimeout or CorruptBucket as `on_store_error` says, and InvalidArgument.
    ///
    /// >>> vendor = Concurrency(1)
    /// >>> with vendor.acquire("tenant:7") as permit:
    /// ...     vendor.acquire("tenant:7", timeout=0.01)
    /// Traceback (most recent call last):
    /// tidegate.NoPermit: no permit: none of 1 came free within 10ms
    #[pyo3(
        signature = (key=None, *, timeout=None),
        text_signature = "($self, key='', *, timeout=None)"
    )]
    fn acquire(
        &self,
        py: Python<'_>,
        key: Option<Py<PyAny>>,
        #[pyo3(from_py_with = timeout)] timeout: Option<Duration>,
    ) -> PyResult<Permit> {
        match self.enter(py, key, timeout)? {
            Some(permit) => Ok(permit),
            None => Err(exception(py, &self.0.no_permit(timeout))),
        }
    }

    /// A permit of `key` if one is free and nobody waits for it, and otherwise None. Never waits for
    /// others, only for the store.
    ///
    /// Raises the errors of acquire, except NoPermit.
    ///
    /// >>> vendor = Concurrency(1)
    /// >>> first = vendor.try_acquire()
    /// >>> vendor.try_acquire() is None
    /// True
    /// >>> first.release()
    #[pyo3(signature = (key=None), text_signature = "($self, key='')")]
    fn try_acquire(&self, py: Python<'_>, key: Option<Py<PyAny>>) -> PyResult<Option<Permit>> {
        self.enter(py, key, Some(Duration::ZERO))
    }

    /// The number of permits of `key` that are held, over all processes.
    ///
    /// Raises StoreError, StoreTimeout or CorruptBucket, whatever `on_store_error` says.
    #[pyo3(signature = (key=None), text_signature = "($self, key='')")]
    fn in_flight(&self, py: Python<'_>, key: Option<Py<PyAny>>) -> PyResult<u64> {
        let key = given_key(py, key);
        let bytes = key_bytes(key.bind(py))?;
        let answer = await_store(py, |sender| {
            self.0.in_flight_then(bytes, |answer| sender.send(answer));
        })?;
        answer.map_err(|error| exception(py, &error))
    }

    /// The number of callers of this process that wait for a permit of `key`.
    #[pyo3(signature = (key=None), text_signature = "($self, key='')")]
    fn waiting(&self, py: Python<'_>, key: Option<Py<PyAny>>) -> PyResult<usize> {
        let key = given_key(py, key);
        Ok(self.0.waiting(key_bytes(key.bind(py))?))
    }

    /// Changes the number of permits of each key, for this object: 0, which lets nobody in, to 1,000,000. A
    /// lower number takes no permit away; nobody enters until enough have left.
    ///
    /// Raises InvalidArgument.
    fn set_limit(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = permits)] limit: u64,
    ) -> PyResult<()> {
        self.0.set_limit(limit).map_err(|error| exception(py, &error))
    }

    /// Closes it: later calls raise StoreError, and so do those that wait. The permits of this
    /// process are given back.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close(py);
    }

    #[getter]
    fn _is_remote(&self) -> bool {
        self.0.is_remote()
    }

    fn __repr__(&self) -> String {
        format!("Concurrency({}, ttl={})", self.0.limit(), self.ttl())
    }
}

impl Concurrency {
    fn enter(
        &self,
        py: Python<'_>,
        key: Option<Py<PyAny>>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<Permit>> {
        let key = given_key(py, key);
        let bytes = key_bytes(key.bind(py))?;
        let mut waiter = None;
        let answer = if is_sleep_replaced(py)? {
            let (sender, receiver) = oneshot();
            interruptible(|| {
                waiter = Some(self.0.acquire_then(bytes, timeout, |answer| sender.send(answer)));
            })?;
            loop {
                if let Some(answer) = receiver.try_recv() {
                    break Ok(answer);
                }
                if let Err(interrupt) = sleep(py, LOOK_AGAIN) {
                    break Err(interrupt);
                }
            }
        } else {
            await_store(py, |sender| {
                waiter = Some(self.0.acquire_then(bytes, timeout, |answer| sender.send(answer)));
            })
        };
        match answer {
            Ok(Ok(permit)) => Ok(permit.map(|permit| Permit::new(permit, key))),
            Ok(Err(error)) => Err(exception(py, &error)),
            Err(interrupt) => {
                if let Some(waiter) = waiter {
                    py.detach(|| waiter.leave());
                }
                Err(interrupt)
            }
        }
    }
}

/// The right to run that a Concurrency has given. As a context manager it gives itself back at the end
/// of its block.
///
/// >>> from tidegate import Concurrency
/// >>> permit = Concurrency(1).acquire("tenant:7")
/// >>> permit
/// Permit(key='tenant:7', lost=False, source='memory')
/// >>> permit.release()
#[pyclass(frozen, weakref, module = "tidegate")]
pub(crate) struct Permit {
    permit: tidegate::Permit,
    key: Py<PyAny>,
}

#[pymethods]
impl Permit {
    /// The key that was asked for.
    #[getter]
    fn key(&self, py: Python<'_>) -> Py<PyAny> {
        self.key.clone_ref(py)
    }

    /// Whether the permit has expired before it could be renewed, because the store or this process stood
    /// still for a ttl. Somebody else may hold it by now, and it does not come back. Long work looks here
    /// before each step that must not overlap.
    #[getter]
    fn lost(&self) -> bool {
        self.permit.is_lost()
    }

    /// Where the permit was counted: "memory" or "redis", or "fallback" if the store failed and the caller
    /// was let in uncounted.
    #[getter]
    fn source(&self) -> &'static str {
        self.permit.source().as_str()
    }

    /// Gives the permit back, and waits until the store has heard of it, at most for the store timeout; the
    /// store's failure raises nothing, because the permit then expires. Does nothing the second time.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let answer = await_store(py, |sender| {
            self.permit.release_then(move || sender.send(Ok(())));
        })?;
        answer.map_err(|error| exception(py, &error))
    }

    /// Gives the permit back without waiting.
    fn _abandon(&self) {
        self.permit.release_then(|| ());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release(py)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a permit is neither pickled nor copied: one caller holds it"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (key, lost) = (self.key.bind(py).repr()?, if self.lost() { "True" } else { "False" });
        Ok(format!("Permit(key={key}, lost={lost}, source='{}')", self.source()))
    }
}

impl Permit {
    pub(crate) const fn new(permit: tidegate::Permit, key: Py<PyAny>) -> Self {
        Self { permit, key }
    }

    pub(crate) const fn permit(&self) -> &tidegate::Permit {
        &self.permit
    }
}

/// The key that was given, or the empty one.
pub(crate) fn given_key(py: Python<'_>, key: Option<Py<PyAny>>) -> Py<PyAny> {
    key.unwrap_or_else(|| PyString::new(py, "").into_any().unbind())
}

/// The bytes of a key.
pub(crate) fn key_bytes<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    one_key(key.as_borrowed())?.ok_or_else(|| wrong_type("key", "str or bytes", key))
}

/// A number of permits. The limiter checks its bounds.
fn permits(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    if object.is_instance_of::<PyBool>() || !object.is_instance_of::<PyInt>() {
        return Err(wrong_type("limit", "a whole number", object));
    }
    // One that does not fit is out of bounds too.
    object.extract::<u64>().map_err(|_| {
        let message = format!("it must be 1 to 1000000, but is {object}");
        invalid_argument(object.py(), "limit", message)
    })
}

fn ttl(object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = seconds::read("ttl", object)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        let message = format!("it must be 0.1 s to 86,400 s, but is {seconds} s");
        invalid_argument(object.py(), "ttl", message)
    })
}

fn store_url(object: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if !object.is_instance_of::<PyString>() {
        return Err(invalid_argument(object.py(), "store", NO_CLIENT.to_owned()));
    }
    text("store", object).map(|url| Some(url.to_owned()))
}
