//! Redis clients that Python brings: `tidegate._clients` sends what is to be sent and reads
//! what comes back; what travels, and what follows from it, the limiter decides.

use core::cell::RefCell;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString};
use tidegate::lock::Mutex;
use tidegate::process::generation;
use tidegate::redis::{Courier, Errand, Outbox as Waiting, Part, Reply, Trip as Travelling, now};
use tidegate::{Error, PerProcess, Store};

/// How the limiters of one client reach it.
#[pyclass(frozen, weakref, module = "tidegate._tidegate", name = "_Carriage")]
pub(crate) struct Carriage {
    shared: Arc<tidegate::redis::Carriage>,
    /// By their timeout.
    stores: Mutex<HashMap<Duration, Store>>,
    /// One of `tidegate._clients`.
    carrier: Py<PyAny>,
}

#[pymethods]
impl Carriage {
    #[new]
    fn new(py: Python<'_>, carrier: Py<PyAny>) -> PyResult<Self> {
        let outbox = carrier.getattr(py, "outbox")?.extract(py)?;
        let apart = carrier.getattr(py, "apart")?.extract(py)?;
        let client = Client { carrier: carrier.clone_ref(py), outbox, apart };
        let shared = tidegate::redis::Carriage::new(client);
        Ok(Self { shared, stores: Mutex::default(), carrier })
    }
}

impl Carriage {
    /// That of a store that is no URL.
    pub(crate) fn of(store: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let clients = store.py().import("tidegate._clients")?;
        Ok(clients.call_method1("carriage_of", (store,))?.cast_into::<Self>()?.unbind())
    }

    pub(crate) fn carrier(&self, py: Python<'_>) -> Py<PyAny> {
        self.carrier.clone_ref(py)
    }

    /// The store of all limiters that would wait so long.
    pub(crate) fn store(&self, timeout: Duration) -> Result<Store, Error> {
        let mut stores = self.stores.lock();
        if let Some(store) = stores.get(&timeout) {
            return Ok(store.clone());
        }
        let store = Store::carried(Arc::clone(&self.shared), timeout)?;
        stores.insert(timeout, store.clone());
        Ok(store)
    }
}

struct Client {
    carrier: Py<PyAny>,
    /// Where errands wait for the carrier; none of one that carries at once.
    outbox: Option<Py<Outbox>>,
    /// Whether calls cannot travel together, as those of a cluster's nodes.
    apart: bool,
}

impl Courier for Client {
    fn take(&self, errands: Vec<Errand>) {
        Python::attach(|py| {
            let carrier = self.carrier.bind(py);
            let taken = match &self.outbox {
                Some(outbox) => {
                    outbox.get().waiting().put(errands);
                    carrier.call_method0(intern!(py, "wake")).map(drop)
                }
                None => trips(errands, self.apart).into_iter().try_for_each(|trip| {
                    carrier.call_method1(intern!(py, "carry"), (trip,)).map(drop)
                }),
            };
            if let Err(interrupt) = taken {
                INTERRUPT.set(Some(interrupt));
            }
        });
    }
}

/// The errands that wait for the next trip. A forked child sends none of its parent's.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_Outbox")]
pub(crate) struct Outbox(PerProcess<Mutex<Waiting>>);

/// The most requests that travel together.
const MOST_ERRANDS: usize = 8192;

#[pymethods]
impl Outbox {
    #[new]
    fn new() -> Self {
        Self(PerProcess::new(generation))
    }

    /// How many wait.
    fn __len__(&self) -> usize {
        self.waiting().len()
    }

    /// Those that wait, up to a number, as one trip or each as one; none if nobody waits.
    #[pyo3(signature = (*, apart))]
    fn depart(&self, apart: bool) -> Vec<Trip> {
        let leaving = self.waiting().leave(MOST_ERRANDS);
        trips(leaving, apart)
    }

    /// Seconds until somebody has waited long enough for a trip to begin, or None when nobody
    /// waits.
    fn left(&self) -> Option<f64> {
        self.waiting().left(now()).map(|left| left.as_secs_f64())
    }

    /// Answers those who have waited long enough for a trip to begin; seconds until the next
    /// one will have, or None when nobody waits.
    fn expire(&self) -> Option<f64> {
        forget_cause();
        let (late, left) = self.waiting().expire(now());
        late.into_iter().for_each(Errand::give_up);
        left.map(|left| left.as_secs_f64())
    }
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.get_or_default().lock()
    }
}

fn trips(errands: Vec<Errand>, apart: bool) -> Vec<Trip> {
    let trip = |errands| Trip(Mutex::new(Travelling::new(errands, now())));
    match apart {
        true => errands.into_iter().map(|errand| trip(vec![errand])).collect(),
        false if errands.is_empty() => Vec::new(),
        false => vec![trip(errands)],
    }
}

/// Errands that travel together.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_Trip")]
pub(crate) struct Trip(Mutex<Travelling>);

#[pymethods]
impl Trip {
    /// What is to be sent now, in one pipeline: the words of each command. Empty when the
    /// trip is over.
    fn commands<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut trip = self.0.lock();
        let words = |words: Vec<Cow<'_, [u8]>>| {
            let bytes = words.iter().map(|word| PyBytes::new(py, word).into_any());
            let command = PyList::new(py, bytes)?;
            // A client of a cluster looks the name up.
            let name = words.first().map_or(Cow::default(), |name| String::from_utf8_lossy(name));
            command.set_item(0, name)?;
            Ok(command)
        };
        let commands: Vec<_> = trip.commands().into_iter().map(words).collect::<PyResult<_>>()?;
        PyList::new(py, commands)
    }

    /// Takes the reply to each command: a list, or the exception for the server's refusal
    /// and its text, code first. Says whether there is more to be sent.
    fn take(&self, replies: Vec<Bound<'_, PyAny>>) -> bool {
        let mut trip = self.0.lock();
        trip.take(replies.iter().map(read_reply));
        !trip.is_over()
    }

    /// Ends the trip with an exception: all that have no answer get an error of which it is
    /// the cause.
    #[pyo3(signature = (message, cause, *, timed_out))]
    fn fail(&self, message: String, cause: Py<PyBaseException>, timed_out: bool) {
        let error = match timed_out {
            // The limiter's own timeout is filled in.
            true => Error::StoreTimeout { after: Duration::ZERO },
            false => Error::Store(message),
        };
        CAUSE.set(Some(cause));
        self.0.lock().fail(&error);
    }

    /// Ends the trip for want of somebody to make it, which says nothing about the store.
    fn abandon(&self) {
        let message = "its caller was cancelled".to_owned();
        self.0.lock().fail(&Error::InvalidArgument { name: "trip", message });
    }

    /// Answers those who have waited long enough; seconds until the next one will have, or
    /// None when nobody waits any more.
    fn expire(&self) -> Option<f64> {
        forget_cause();
        self.0.lock().expire(now()).map(|left| left.as_secs_f64())
    }
}

fn read_reply(reply: &Bound<'_, PyAny>) -> Reply {
    let other_form = || Reply::Failure(Error::Store("the client's answer has another form".into()));
    if let Ok(parts) = reply.cast::<PyList>() {
        let parts = parts.iter().map(|part| read_part(&part)).collect::<Option<_>>();
        return parts.map_or_else(other_form, Reply::Parts);
    }
    let Ok((cause, text)) = reply.extract::<(Py<PyBaseException>, String)>() else {
        return other_form();
    };
    CAUSE.set(Some(cause));
    Reply::Refusal(text)
}

fn read_part(part: &Bound<'_, PyAny>) -> Option<Part> {
    if part.is_none() {
        return Some(Part::Nil);
    }
    if let Ok(bytes) = part.cast::<PyBytes>() {
        return Some(Part::Bytes(bytes.as_bytes().to_vec()));
    }
    if part.is_instance_of::<PyString>() {
        return part.extract::<String>().ok().map(|text| Part::Bytes(text.into_bytes()));
    }
    part.cast::<PyInt>().ok()?.extract().ok().map(Part::Integer)
}

thread_local! {
    /// What the error is due to that callers on this thread are being answered with.
    static CAUSE: RefCell<Option<Py<PyBaseException>>> = const { RefCell::new(None) };
    /// What ended the carrier in the middle, such as Ctrl-C; for whoever called it.
    static INTERRUPT: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Before a store is asked on this thread: its errors have nothing to do with earlier ones.
pub(crate) fn forget_cause() {
    CAUSE.set(None);
}

/// The exception that the store's error is due to which this thread is answering with.
pub(crate) fn cause<T>(outcome: &Result<T, Error>) -> Option<Py<PyBaseException>> {
    let of_store = matches!(outcome, Err(Error::Store(_) | Error::StoreTimeout { .. }));
    CAUSE.with_borrow(|cause| {
        let cause = cause.as_ref().filter(|_| of_store)?;
        Python::attach(|py| Some(cause.clone_ref(py)))
    })
}

/// Raises what has ended a carrier that was called on this thread, once.
pub(crate) fn raise_interrupt() -> PyResult<()> {
    INTERRUPT.take().map_or(Ok(()), Err)
}
