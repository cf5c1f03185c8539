//! A host for tests, which set its results and read what the filter has asked of it.

use core::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::host::{GrpcCall, Host, LocalReply, Status};
use crate::pairs::Pair;

type Bytes = Result<&'static [u8], Status>;

/// A gRPC call that the filter has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) root: u32,
    pub(crate) stream: u32,
    pub(crate) cluster: String,
    pub(crate) message: Vec<u8>,
    pub(crate) timeout_ms: u32,
    pub(crate) is_report: bool,
}

/// A reply that the filter has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replied {
    pub(crate) stream: u32,
    pub(crate) status: u32,
    pub(crate) details: &'static str,
    pub(crate) body: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) grpc_status: u32,
}

pub(crate) struct FakeHost {
    pub(crate) configuration: Cell<Bytes>,
    properties: RefCell<HashMap<Vec<u8>, Bytes>>,
    headers: RefCell<HashMap<Vec<u8>, Bytes>>,
    pub(crate) monotonic: Cell<Result<u64, Status>>,
    /// The wall clock minus the monotonic clock.
    pub(crate) since_epoch: Cell<u64>,
    pub(crate) random: Cell<Result<(u64, u64), Status>>,
    pub(crate) metrics: Cell<Result<(), Status>>,
    counters: RefCell<Vec<(String, u64)>>,
    pub(crate) log: RefCell<Vec<String>>,
    /// The result of gRPC calls.
    pub(crate) call: Cell<Result<u32, Status>>,
    pub(crate) calls: RefCell<Vec<Called>>,
    /// The piece of the response's body that has arrived, and how many bytes of it are read at once.
    pub(crate) body: Cell<(&'static [u8], usize)>,
    pub(crate) grpc_message: Cell<Bytes>,
    /// The largest body of a reply that the host takes.
    pub(crate) max_body: Cell<Option<usize>>,
    pub(crate) replies: RefCell<Vec<Replied>>,
    /// The headers that were set on responses of the upstream.
    pub(crate) response_headers: RefCell<Vec<(String, String)>>,
    pub(crate) resumed: RefCell<Vec<u32>>,
    pub(crate) resume: Cell<Result<(), Status>>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self {
            configuration: Cell::new(Err(Status::NOT_FOUND)),
            properties: RefCell::default(),
            headers: RefCell::default(),
            monotonic: Cell::new(Ok(1_000)),
            since_epoch: Cell::new(1_700_000_000_000_000_000),
            random: Cell::new(Ok((3, 4))),
            metrics: Cell::new(Ok(())),
            counters: RefCell::default(),
            log: RefCell::default(),
            call: Cell::new(Ok(1)),
            calls: RefCell::default(),
            body: Cell::new((b"", 1)),
            grpc_message: Cell::new(Err(Status::NOT_FOUND)),
            max_body: Cell::new(Some(usize::MAX)),
            replies: RefCell::default(),
            response_headers: RefCell::default(),
            resumed: RefCell::default(),
            resume: Cell::new(Ok(())),
        }
    }
}

/// A copy of `bytes` that lives as long as the test process.
pub(crate) fn leaked(bytes: &[u8]) -> &'static [u8] {
    Box::leak(bytes.to_vec().into_boxed_slice())
}

impl FakeHost {
    pub(crate) fn set_property(&self, path: &[u8], value: Result<&[u8], Status>) {
        self.properties.borrow_mut().insert(path.to_vec(), value.map(leaked));
    }

    /// Sets the first value of a header, which `first_header` returns.
    pub(crate) fn set_header(&self, name: &[u8], value: Result<&[u8], Status>) {
        self.headers.borrow_mut().insert(name.to_vec(), value.map(leaked));
    }

    pub(crate) fn advance(&self, nanos: u64) {
        self.monotonic.set(self.monotonic.get().map(|now| now + nanos));
    }

    /// The counters that are not zero.
    pub(crate) fn counted(&self) -> Vec<(String, u64)> {
        self.counters.borrow().iter().filter(|(_, count)| *count > 0).cloned().collect()
    }

    pub(crate) fn defined(&self) -> usize {
        self.counters.borrow().len()
    }
}

impl Host for FakeHost {
    fn configuration(&self) -> Result<&[u8], Status> {
        self.configuration.get()
    }

    fn property(&self, path: &[u8]) -> Result<&[u8], Status> {
        self.properties.borrow().get(path).copied().unwrap_or(Err(Status::NOT_FOUND))
    }

    fn keep(&self, _stream: u32, name: &str, bytes: &[u8]) -> Result<(), Status> {
        self.set_property(name.as_bytes(), Ok(bytes));
        Ok(())
    }

    fn response_body(&self, size: usize, read: &mut dyn FnMut(&[u8])) -> Result<(), Status> {
        let (body, at_once) = self.body.get();
        body.get(..size).unwrap_or_default().chunks(at_once).for_each(read);
        Ok(())
    }

    fn first_header(&self, name: &[u8]) -> Result<&[u8], Status> {
        self.headers.borrow().get(name).copied().unwrap_or(Err(Status::NOT_FOUND))
    }

    fn monotonic_now(&self) -> Result<u64, Status> {
        self.monotonic.get()
    }

    fn wall_now(&self) -> Result<u64, Status> {
        self.monotonic.get().map(|now| now + self.since_epoch.get())
    }

    fn random(&self) -> Result<(u64, u64), Status> {
        self.random.get()
    }

    fn define_counter(&self, name: &str) -> Result<u32, Status> {
        self.metrics.get()?;
        let mut counters = self.counters.borrow_mut();
        let known = counters.iter().position(|(known, _)| known == name);
        Ok(known.unwrap_or_else(|| {
            counters.push((name.to_owned(), 0));
            counters.len() - 1
        }) as u32)
    }

    fn increment(&self, counter: u32) -> Result<(), Status> {
        self.metrics.get()?;
        match self.counters.borrow_mut().get_mut(counter as usize) {
            Some((_, count)) => *count += 1,
            None => return Err(Status::NOT_FOUND),
        }
        Ok(())
    }

    fn log_error(&self, message: &str) {
        self.log.borrow_mut().push(message.to_owned());
    }

    fn call(&self, root: u32, stream: u32, call: &GrpcCall<'_>) -> Result<u32, Status> {
        let cluster = String::from_utf8_lossy(call.cluster).into_owned();
        let (message, timeout_ms) = (call.message.to_vec(), call.timeout_ms);
        let is_report = call.is_report;
        let called = Called { root, stream, cluster, message, timeout_ms, is_report };
        self.calls.borrow_mut().push(called);
        self.call.get()
    }

    fn grpc_message(&self, max_size: usize) -> Result<&[u8], Status> {
        self.grpc_message.get().map(|message| message.get(..max_size).unwrap_or(message))
    }

    fn reply(&self, stream: u32, reply: &LocalReply<'_>) -> Result<(), Status> {
        if self.max_body.get().is_none_or(|most| reply.body.len() > most) {
            return Err(Status::INTERNAL_FAILURE);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.replies.borrow_mut().push(Replied {
            stream,
            status: reply.status,
            details: reply.details,
            body: text(reply.body),
            headers: reply.headers.iter().map(|(name, value)| (text(name), text(value))).collect(),
            grpc_status: reply.grpc_status,
        });
        Ok(())
    }

    fn set_response_header(&self, header: Pair<'_>, replaces: bool) -> Result<(), Status> {
        let [name, value] = [header.0, header.1].map(|it| String::from_utf8_lossy(it).into_owned());
        let mut headers = self.response_headers.borrow_mut();
        if replaces {
            headers.retain(|(known, _)| *known != name);
        }
        headers.push((name, value));
        Ok(())
    }

    fn resume(&self, stream: u32) -> Result<(), Status> {
        self.resumed.borrow_mut().push(stream);
        self.resume.get()
    }
}
