//! What the filter asks of the proxy it runs in.

use crate::pairs::Pair;

/// Why a host call failed: a `proxy_status_t` of proxy-wasm, or an `errno` of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// There is no such value.
    pub const NOT_FOUND: Self = Self(1);
    /// The host could not write its answer to where it should: there was no room.
    pub const INVALID_MEMORY_ACCESS: Self = Self(6);
    /// The host could not do it.
    pub const INTERNAL_FAILURE: Self = Self(10);
}

/// A unary gRPC call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The host's name for where to send it.
    pub cluster: &'a [u8],
    /// The full name of the service.
    pub service: &'a [u8],
    /// The method's name.
    pub method: &'a [u8],
    /// The encoded request.
    pub message: &'a [u8],
    /// How long to wait for the answer, in milliseconds.
    pub timeout_ms: u32,
}

/// An answer that the filter gives in the place of the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The HTTP status.
    pub status: u32,
    /// What access logs show as the response's details; one word.
    pub details: &'static str,
    /// The body.
    pub body: &'a [u8],
    /// Headers to add.
    pub headers: &'a [Pair<'a>],
    /// The status that a gRPC client is given instead.
    pub grpc_status: u32,
}

/// The calls that the filter makes. Bytes that a host returns stay valid for as
/// long as the host value does: one callback.
pub trait Host {
    /// The configuration of the filter that is being configured.
    ///
    /// # Errors
    /// As every method: the host's status.
    fn configuration(&self) -> Result<&[u8], Status>;
    /// A property of the request at hand; the parts of its path are divided by NUL.
    ///
    /// # Errors
    /// [`Status::NOT_FOUND`] when the request has none.
    fn property(&self, path: &[u8]) -> Result<&[u8], Status>;
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
    /// Writes to the host's log, as an error.
    fn log_error(&self, message: &str);
    /// Starts a call on behalf of the context `root`, while `stream` is being handled,
    /// and returns the call's id.
    ///
    /// # Errors
    /// The host's status, also when the call failed before it was on its way.
    fn call(&self, root: u32, stream: u32, call: &Call<'_>) -> Result<u32, Status>;
    /// The answer to the call that is being handled.
    ///
    /// # Errors
    /// The host's status.
    fn answer(&self) -> Result<&[u8], Status>;
    /// Answers the request of `stream` in the place of the upstream.
    ///
    /// # Errors
    /// The host's status.
    fn reply(&self, stream: u32, reply: &Reply<'_>) -> Result<(), Status>;
    /// Lets the paused request of `stream` go on.
    ///
    /// # Errors
    /// The host's status.
    fn resume(&self, stream: u32) -> Result<(), Status>;
}
