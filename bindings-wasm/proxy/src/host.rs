//! The calls that the filter makes to the proxy that runs it.

use crate::pairs::Pair;

/// Why a host call failed: a `proxy_status_t` of proxy-wasm, or an `errno` of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// There is no such value.
    pub const NOT_FOUND: Self = Self(1);
    /// The host had no room to write its result to.
    pub const INVALID_MEMORY_ACCESS: Self = Self(6);
    /// The host failed.
    pub const INTERNAL_FAILURE: Self = Self(10);
}

/// A unary gRPC call.
#[derive(Clone, Copy, Debug)]
pub struct GrpcCall<'a> {
    /// The host's name of the upstream cluster.
    pub cluster: &'a [u8],
    /// The full name of the service.
    pub service: &'a [u8],
    /// The method's name.
    pub method: &'a [u8],
    /// The encoded request.
    pub message: &'a [u8],
    /// How long the host waits for the response, in milliseconds.
    pub timeout_ms: u32,
    /// Whether the call tells what has been used already, so that it is to be charged in any case.
    pub is_report: bool,
}

/// A response that the filter sends in place of the upstream's.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'a> {
    /// The HTTP status.
    pub status: u32,
    /// The response code details in access logs; one word.
    pub details: &'static str,
    /// The body.
    pub body: &'a [u8],
    /// Headers to add.
    pub headers: &'a [Pair<'a>],
    /// The status that a gRPC client is given instead.
    pub grpc_status: u32,
}

/// The calls that the filter makes. Bytes that a host returns stay valid as long as the host
/// value does: for one callback.
pub trait Host {
    /// The configuration of the plugin that is being configured.
    ///
    /// # Errors
    /// The host's status.
    fn configuration(&self) -> Result<&[u8], Status>;
    /// A property of the current request; NUL separates the parts of `path`.
    ///
    /// # Errors
    /// [`Status::NOT_FOUND`] when the request has none; otherwise the host's status.
    fn property(&self, path: &[u8]) -> Result<&[u8], Status>;
    /// Keeps bytes with `stream`, until it ends: they are its property of this name.
    ///
    /// # Errors
    /// The host's status.
    fn keep(&self, stream: u32, name: &str, bytes: &[u8]) -> Result<(), Status>;
    /// Reads the piece of the response's body that has just arrived, of `size` bytes, in parts.
    ///
    /// # Errors
    /// The host's status.
    fn response_body(&self, size: usize, read: &mut dyn FnMut(&[u8])) -> Result<(), Status>;
    /// The value of a request header; the first one, if the header is repeated. The name is in lower
    /// case.
    ///
    /// # Errors
    /// [`Status::NOT_FOUND`] when the request has no such header; otherwise the host's status.
    fn first_header(&self, name: &[u8]) -> Result<&[u8], Status>;
    /// Nanoseconds on a clock that never goes backward.
    ///
    /// # Errors
    /// The host's status.
    fn monotonic_now(&self) -> Result<u64, Status>;
    /// Nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// The host's status.
    fn wall_now(&self) -> Result<u64, Status>;
    /// Random bits.
    ///
    /// # Errors
    /// The host's status.
    fn random(&self) -> Result<(u64, u64), Status>;
    /// Defines a counter, or finds it by its name, and returns its id.
    ///
    /// # Errors
    /// The host's status.
    fn define_counter(&self, name: &str) -> Result<u32, Status>;
    /// Adds one to a counter.
    ///
    /// # Errors
    /// The host's status.
    fn increment(&self, counter: u32) -> Result<(), Status>;
    /// Writes an error to the host's log.
    fn log_error(&self, message: &str);
    /// Starts a call for the root context `root`, while a callback of `stream` runs, and
    /// returns the call's id.
    ///
    /// # Errors
    /// The host's status; also when the call has failed before this returns.
    fn call(&self, root: u32, stream: u32, call: &GrpcCall<'_>) -> Result<u32, Status>;
    /// The response message of the call that has just been answered, up to `max_size` bytes.
    ///
    /// # Errors
    /// The host's status.
    fn grpc_message(&self, max_size: usize) -> Result<&[u8], Status>;
    /// Answers the request of `stream` in place of the upstream.
    ///
    /// # Errors
    /// The host's status.
    fn reply(&self, stream: u32, reply: &LocalReply<'_>) -> Result<(), Status>;
    /// Adds a header to the current stream's response, or replaces those of the same name.
    ///
    /// # Errors
    /// The host's status.
    fn set_response_header(&self, header: Pair<'_>, replaces: bool) -> Result<(), Status>;
    /// Resumes the paused request of `stream`.
    ///
    /// # Errors
    /// The host's status.
    fn resume(&self, stream: u32) -> Result<(), Status>;
}
