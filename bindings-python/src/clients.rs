//! Redis clients that the Python program brings. The transports in `tidegate._sync_transport` and
//! `tidegate._async_transport` do the I/O; what is sent, and what follows from the replies, is
//! decided in Rust.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString};
use tidegate::bindings::{
    Batch as EngineBatch, ClientConnection as EngineConnection, PendingQueue as Waiting,
    PendingRequest, PerProcess, Reply, ReplyPart, ServerHandle, Transport, generation, lock::Mutex,
    now, store_over_client,
};
use tidegate::{Cause, Error, Store, StoreFailure};

/// How the limiters of one client reach it.
#[pyclass(frozen, weakref, module = "tidegate._tidegate", name = "_ClientConnection")]
pub(crate) struct ClientConnection {
    shared: Arc<EngineConnection>,
    server: ServerHandle,
    /// By their timeout.
    stores: Mutex<HashMap<Duration, Store>>,
    /// A `SyncTransport` or an `AsyncTransport`.
    transport: Py<PyAny>,
}

#[pymethods]
impl ClientConnection {
    /// `place` is where the client connects to, such as host and port, if it says so.
    #[new]
    #[pyo3(signature = (transport, place=None))]
    fn new(py: Python<'_>, transport: Py<PyAny>, place: Option<String>) -> PyResult<Self> {
        let queue: Option<Py<PendingQueue>> = transport.getattr(py, "queue")?.extract(py)?;
        let is_cluster = transport.getattr(py, "is_cluster")?.extract(py)?;
        let server = queue.as_ref().map(|queue| queue.get().server.clone());
        let server = server.unwrap_or_else(|| ServerHandle::new(generation));
        let connection = transport.clone_ref(py);
        let client = Client { transport: connection, queue, is_cluster, server: server.clone() };
        let shared = EngineConnection::new(client, server.clone(), place.as_deref());
        Ok(Self { shared, server, stores: Mutex::default(), transport })
    }
}

impl ClientConnection {
    /// The connection of the client that a limiter was given as its store.
    pub(crate) fn of(store: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let clients = store.py().import("tidegate._clients")?;
        Ok(clients.call_method1("sync_store", (store,))?.cast_into::<Self>()?.unbind())
    }

    /// Sends a single key in each script call from now on.
    pub(crate) fn send_keys_apart(&self) {
        self.server.send_keys_apart();
    }

    pub(crate) fn transport(&self, py: Python<'_>) -> Py<PyAny> {
        self.transport.clone_ref(py)
    }

    /// The store of all limiters with this timeout.
    pub(crate) fn store(&self, timeout: Duration) -> Result<Store, Error> {
        let mut stores = self.stores.lock();
        if let Some(store) = stores.get(&timeout) {
            return Ok(store.clone());
        }
        let store = store_over_client(Arc::clone(&self.shared), timeout)?;
        stores.insert(timeout, store.clone());
        Ok(store)
    }
}

struct Client {
    transport: Py<PyAny>,
    /// Where requests wait for the transport; `None` where it sends each at once.
    queue: Option<Py<PendingQueue>>,
    /// Whether each request is a batch of its own, because a cluster's keys live on several nodes.
    is_cluster: bool,
    server: ServerHandle,
}

impl Transport for Client {
    fn send(&self, requests: Vec<PendingRequest>) {
        Python::attach(|py| {
            let transport = self.transport.bind(py);
            let taken = match &self.queue {
                Some(queue) => {
                    queue.get().waiting().put(requests);
                    transport.call_method0(intern!(py, "wake")).map(drop)
                }
                None => {
                    let batches = batches(requests, self.is_cluster, &self.server, now());
                    batches.into_iter().try_for_each(|batch| {
                        transport.call_method1(intern!(py, "send"), (batch,)).map(drop)
                    })
                }
            };
            if let Err(error) = taken {
                interrupt(py, error);
            }
        });
    }
}

/// The requests that wait for the next batch. A forked child sends none of its parent's.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_PendingQueue")]
pub(crate) struct PendingQueue {
    waiting: PerProcess<Mutex<Waiting>>,
    server: ServerHandle,
}

/// The most requests in one batch.
const MAX_BATCH: usize = 8192;

#[pymethods]
impl PendingQueue {
    #[new]
    fn new() -> Self {
        let (waiting, server) = (PerProcess::new(generation), ServerHandle::new(generation));
        Self { waiting, server }
    }

    /// How many wait.
    fn __len__(&self) -> usize {
        self.waiting().len()
    }

    /// Takes the requests that wait, as one batch or as a batch each; an empty list when none
    /// waits. If the event loop was blocked, requests whose deadline has passed meanwhile are
    /// `excused`: they are sent nevertheless.
    #[pyo3(signature = (*, one_by_one, excused=false))]
    fn next_batches(&self, one_by_one: bool, excused: bool) -> Vec<Batch> {
        let requests = self.waiting().take(MAX_BATCH);
        let now = if excused { 0 } else { now() };
        batches(requests, one_by_one, &self.server, now)
    }

    /// Seconds until the first deadline of the requests that wait, or None when none waits.
    fn left(&self) -> Option<f64> {
        self.waiting().left(now()).map(|left| left.as_secs_f64())
    }

    /// Answers the callers whose deadline has come before their batch began. Returns the seconds
    /// until the next deadline, or None when no request waits.
    fn expire(&self) -> Option<f64> {
        let (late, left) = self.waiting().expire(now());
        late.into_iter().for_each(PendingRequest::give_up);
        left.map(|left| left.as_secs_f64())
    }
}

impl PendingQueue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.get_or_default().lock()
    }
}

fn batches(
    requests: Vec<PendingRequest>,
    one_by_one: bool,
    server: &ServerHandle,
    now: u64,
) -> Vec<Batch> {
    let batch = |requests| Batch(Mutex::new(EngineBatch::new(requests, server.state(), now)));
    match one_by_one {
        true => requests.into_iter().map(|request| batch(vec![request])).collect(),
        false if requests.is_empty() => Vec::new(),
        false => vec![batch(requests)],
    }
}

/// The requests that are sent together.
#[pyclass(frozen, module = "tidegate._tidegate", name = "_Batch")]
pub(crate) struct Batch(Mutex<EngineBatch>);

#[pymethods]
impl Batch {
    /// The words of each command to be sent now, in one pipeline; an empty list when the batch
    /// is complete.
    fn commands<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut batch = self.0.lock();
        let commands = batch.commands(|words| {
            // A text, because the client of a cluster looks the command's name up.
            let name = words.next().unwrap_or_default();
            let name = PyString::new(py, &String::from_utf8_lossy(&name)).into_any();
            let rest = words.map(|word| PyBytes::new(py, &word).into_any());
            PyList::new(py, [name].into_iter().chain(rest).collect::<Vec<_>>())
        });
        PyList::new(py, commands.into_iter().collect::<PyResult<Vec<_>>>()?)
    }

    /// Takes the reply to each command: a list, or the exception for the server's refusal
    /// together with its text, code first. Returns whether there are more commands to send.
    fn take(&self, replies: Vec<Bound<'_, PyAny>>) -> bool {
        let mut batch = self.0.lock();
        batch.take(replies.iter().map(read_reply));
        !batch.is_over()
    }

    /// Ends the batch because of an exception: every request without an answer fails with an
    /// error that has it as its cause.
    #[pyo3(signature = (message, cause, *, timed_out))]
    fn fail(&self, message: String, cause: Bound<'_, PyBaseException>, timed_out: bool) {
        let cause = PyErr::from_value(cause.into_any());
        let error = match timed_out {
            // Each caller gets the timeout of its own limiter.
            true => Error::StoreTimeout { after: Duration::ZERO, cause: Cause::new(cause) },
            false => Error::Store(StoreFailure::new(message, cause)),
        };
        self.0.lock().fail(&error);
    }

    /// Ends the batch because the caller that would send it was cancelled, which says nothing
    /// about the store.
    fn abandon(&self) {
        let message = "its caller was cancelled".to_owned();
        self.0.lock().fail(&Error::InvalidArgument { name: "batch", message });
    }

    /// Answers the callers whose deadline has come. Returns the seconds until the next deadline,
    /// or None when no caller waits any more.
    fn expire(&self) -> Option<f64> {
        self.0.lock().expire(now()).map(|left| left.as_secs_f64())
    }
}

fn read_reply(reply: &Bound<'_, PyAny>) -> Reply {
    let other_form = || Reply::Failure(Error::Store("the client's answer has another form".into()));
    if let Ok(parts) = reply.cast::<PyList>() {
        let parts = parts.iter().map(|part| read_part(&part)).collect::<Option<_>>();
        return parts.map_or_else(other_form, Reply::Parts);
    }
    let Ok((cause, text)) = reply.extract::<(Bound<'_, PyBaseException>, String)>() else {
        return other_form();
    };
    Reply::Refusal(StoreFailure::new(text, PyErr::from_value(cause.into_any())))
}

fn read_part(part: &Bound<'_, PyAny>) -> Option<ReplyPart> {
    if part.is_none() {
        return Some(ReplyPart::Nil);
    }
    if let Ok(bytes) = part.cast::<PyBytes>() {
        return Some(ReplyPart::Bytes(bytes.as_bytes().to_vec()));
    }
    if part.is_instance_of::<PyString>() {
        return part.extract::<String>().ok().map(|text| ReplyPart::Bytes(text.into_bytes()));
    }
    part.cast::<PyInt>().ok()?.extract().ok().map(ReplyPart::Integer)
}

thread_local! {
    /// The exception that has ended a transport in the middle, such as KeyboardInterrupt; `None`
    /// while no caller on this thread would get it.
    static INTERRUPT: RefCell<Option<Result<(), PyErr>>> = const { RefCell::new(None) };
}

/// Starts an operation, and raises the exception that has ended a transport on this thread
/// meanwhile.
pub(crate) fn interruptible(start: impl FnOnce()) -> PyResult<()> {
    let outer = INTERRUPT.replace(Some(Ok(())));
    start();
    INTERRUPT.replace(outer).unwrap_or(Ok(()))
}

/// Leaves an exception to [`interruptible`]. Nothing else can raise it: a reservation is also given
/// back by the garbage collector.
fn interrupt(py: Python<'_>, error: PyErr) {
    let unraisable = INTERRUPT.with_borrow_mut(|interrupt| match interrupt {
        Some(interrupt) => core::mem::replace(interrupt, Err(error)).err(),
        None => Some(error),
    });
    if let Some(error) = unraisable {
        error.write_unraisable(py, None);
    }
}
