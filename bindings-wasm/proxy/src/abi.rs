//! The boundary to the proxy: proxy-wasm ABI 0.2.1 and two functions of WASI. This is the only
//! module with unsafe code.
//!
//! It is sound because a VM has one thread, and the host runs one callback at a time. During a
//! callback the host re-enters only `proxy_on_memory_allocate`, which uses nothing but the arena.
//! (When a gRPC call fails at once, some hosts run `proxy_on_grpc_close` re-entrantly: `enter`
//! refuses it, and `CLOSED_EARLY` remembers it for the caller.)

#![expect(unsafe_code, reason = "imports and exports of a WebAssembly module")]

use core::cell::{Cell, UnsafeCell};
use core::panic::PanicInfo;
use core::{ptr, slice};

use crate::config::KEYS;
use crate::filter::{Action, Filter};
use crate::host::{GrpcCall, Host, LocalReply, Status};
use crate::pairs::{self, Pair};
use crate::text::Text;
use crate::upstream;

const ARENA: usize = 64 * 1024;
/// The most bytes of a body that are read at once.
const PIECE: usize = 16 * 1024;
/// The metadata of a call that reports what has been used: `tidegate-report: 1`, as [`pairs`] writes it.
const REPORT: &[u8] = b"\x01\0\0\0\x0f\0\0\0\x01\0\0\0tidegate-report\x001\0";
/// The bytes reserved for the headers of a reply; enough for any that the filter sends.
const REPLY_HEADERS: usize = 8 * 1024;

const COUNTER: u32 = 0;
const LOG_ERROR: u32 = 4;
const GRPC_MESSAGE: u32 = 5;
const PLUGIN_CONFIGURATION: u32 = 7;
const RESPONSE_BODY: u32 = 1;
const REQUEST_STREAM: u32 = 0;
const DOWNSTREAM: u32 = 2;
const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        data: *mut *const u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *const u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, data: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *const u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_grpc_call(
        upstream: *const u8,
        upstream_size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        message: *const u8,
        message_size: usize,
        timeout_ms: u32,
        call: *mut u32,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: u32,
    ) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_close_stream(kind: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, nanos: *mut u64) -> u32;
    fn random_get(bytes: *mut u8, size: usize) -> u32;
}

/// A static variable that only the VM's one thread uses.
struct Global<T>(UnsafeCell<T>);

// SAFETY: there is one thread.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
}

static FILTER: Global<Filter<{ *KEYS.end() as usize }>> = Global::new(Filter::new());
/// The arena for values that the host returns. It is emptied at the beginning of each callback;
/// there is no allocator, so nothing can leak.
static MEMORY: Global<[u8; ARENA]> = Global::new([0; ARENA]);
/// The headers of a reply. They are not in the arena, which a client can fill with one header: a request
/// whose reply cannot be sent would wait for ever.
static REPLY: Global<[u8; REPLY_HEADERS]> = Global::new([0; REPLY_HEADERS]);
static USED: Global<Cell<usize>> = Global::new(Cell::new(0));
/// Whether a callback is running.
static BUSY: Global<Cell<bool>> = Global::new(Cell::new(false));
/// The id plus one of a call that was closed while a callback was running.
static CLOSED_EARLY: Global<Cell<u64>> = Global::new(Cell::new(0));

impl<T> Global<Cell<T>> {
    fn cell(&self) -> &Cell<T> {
        // SAFETY: a Cell is only ever used through shared references.
        unsafe { &*self.0.get() }
    }
}

/// Runs a callback; returns `None`, without running it, when another one is running.
fn enter<R>(callback: impl FnOnce(&mut WasmFilter, &WasmHost) -> R) -> Option<R> {
    if BUSY.cell().replace(true) {
        return None;
    }
    USED.cell().set(0);
    // SAFETY: BUSY keeps this the only reference to the filter.
    let filter = unsafe { &mut *FILTER.0.get() };
    let result = callback(filter, &WasmHost(()));
    BUSY.cell().set(false);
    Some(result)
}

type WasmFilter = Filter<{ *KEYS.end() as usize }>;

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {}

/// Allocates from the arena. Returns null when it is full, which the host reports as a failed
/// call.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let start = USED.cell().get();
    match start.checked_add(size) {
        Some(end) if end <= ARENA => {
            USED.cell().set(end);
            // SAFETY: start is inside the arena, or just past its end if size is 0.
            unsafe { MEMORY.0.get().cast::<u8>().add(start) }
        }
        _ => ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    enter(|filter, _| filter.context_created(context, parent));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_root: u32, _size: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, _size: usize) -> u32 {
    u32::from(enter(|filter, host| filter.configure(host, root)).unwrap_or(false))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(stream: u32, _count: usize, end_of_stream: u32) -> u32 {
    match enter(|filter, host| filter.request_headers(host, stream, end_of_stream == 0)) {
        Some(Action::Pause) => 1,
        Some(Action::Continue) | None => 0,
    }
}

/// Only a network filter is told of connections. As one, the module sees no requests, so that nothing would be
/// limited and nothing would say so: it closes each connection, and names what is wrong.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(_stream: u32) -> u32 {
    log_error(
        "tidegate: an HTTP filter, configured as a network filter: put it into http_filters; the connection is closed",
    );
    // SAFETY: no memory is passed.
    unsafe { proxy_close_stream(DOWNSTREAM) };
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(stream: u32, _count: usize, end_of_stream: u32) -> u32 {
    enter(|filter, host| filter.response_headers(host, stream, end_of_stream != 0));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(stream: u32, size: usize, end_of_stream: u32) -> u32 {
    enter(|filter, host| filter.response_body(host, stream, size, end_of_stream != 0));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(stream: u32, _count: usize) -> u32 {
    enter(|filter, _| filter.response_ended(stream));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(_context: u32, call: u32, _size: usize) {
    enter(|filter, host| filter.call_answered(host, call));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(_context: u32, call: u32, status: u32) {
    if enter(|filter, host| filter.call_failed(host, call, status)).is_none() {
        CLOSED_EARLY.cell().set(u64::from(call) + 1);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    enter(|filter, host| filter.context_done(host, context));
    1
}

/// The host during one callback. The bytes that it returns are in the arena.
struct WasmHost(());

impl WasmHost {
    /// The bytes that a host call has written into the arena.
    fn returned(
        &self,
        call: impl FnOnce(*mut *const u8, *mut usize) -> u32,
    ) -> Result<&[u8], Status> {
        let mut data = ptr::null();
        let mut size = 0;
        ok(call(&raw mut data, &raw mut size))?;
        if data.is_null() || size == 0 {
            return Ok(&[]);
        }
        // SAFETY: the host has this memory from proxy_on_memory_allocate, which returns no byte
        // twice within one callback, and `self` does not outlive the callback.
        Ok(unsafe { slice::from_raw_parts(data, size) })
    }

    fn buffer(&self, buffer: u32, max_size: usize) -> Result<&[u8], Status> {
        self.buffer_from(buffer, 0, max_size)
    }

    fn buffer_from(&self, buffer: u32, start: usize, max_size: usize) -> Result<&[u8], Status> {
        self.returned(|data, size| {
            // SAFETY: both pointers are valid for writing.
            unsafe { proxy_get_buffer_bytes(buffer, start, max_size, data, size) }
        })
    }

    fn clock(&self, clock: u32) -> Result<u64, Status> {
        let mut nanos = 0;
        // SAFETY: the pointer is valid for writing.
        ok(unsafe { clock_time_get(clock, 1, &raw mut nanos) }).map(|()| nanos)
    }

    fn act_for(&self, context: u32) -> Result<(), Status> {
        // SAFETY: no memory is passed.
        ok(unsafe { proxy_set_effective_context(context) })
    }
}

impl Host for WasmHost {
    fn configuration(&self) -> Result<&[u8], Status> {
        self.buffer(PLUGIN_CONFIGURATION, usize::MAX)
    }

    fn property(&self, path: &[u8]) -> Result<&[u8], Status> {
        self.returned(|data, size| {
            // SAFETY: the path is readable, and both pointers are valid for writing.
            unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }
        })
    }

    fn keep(&self, stream: u32, name: &str, bytes: &[u8]) -> Result<(), Status> {
        self.act_for(stream)?;
        // SAFETY: both slices are readable.
        ok(unsafe { proxy_set_property(name.as_ptr(), name.len(), bytes.as_ptr(), bytes.len()) })
    }

    fn response_body(&self, size: usize, read: &mut dyn FnMut(&[u8])) -> Result<(), Status> {
        let used = USED.cell().get();
        let mut start = 0;
        while start < size {
            let piece = self.buffer_from(RESPONSE_BODY, start, PIECE.min(size - start))?;
            if piece.is_empty() {
                break;
            }
            start += piece.len();
            read(piece);
            // The piece is no longer borrowed, and what was returned before it stays.
            USED.cell().set(used);
        }
        Ok(())
    }

    fn first_header(&self, name: &[u8]) -> Result<&[u8], Status> {
        self.returned(|data, size| {
            // SAFETY: the name is readable, and both pointers are valid for writing.
            unsafe {
                proxy_get_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), data, size)
            }
        })
    }

    fn monotonic_now(&self) -> Result<u64, Status> {
        self.clock(CLOCK_MONOTONIC)
    }

    fn wall_now(&self) -> Result<u64, Status> {
        self.clock(CLOCK_REALTIME)
    }

    fn random(&self) -> Result<(u64, u64), Status> {
        let mut bits = [0_u64; 2];
        // SAFETY: the array is writable, and any bits are a valid u64.
        ok(unsafe { random_get(bits.as_mut_ptr().cast(), size_of_val(&bits)) })?;
        Ok((bits[0], bits[1]))
    }

    fn define_counter(&self, name: &str) -> Result<u32, Status> {
        let mut id = 0;
        // SAFETY: the name is readable, and the pointer is valid for writing.
        let status =
            unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut id) };
        ok(status).map(|()| id)
    }

    fn increment(&self, counter: u32) -> Result<(), Status> {
        // SAFETY: no memory is passed.
        ok(unsafe { proxy_increment_metric(counter, 1) })
    }

    fn log_error(&self, message: &str) {
        log_error(message);
    }

    /// Makes the call in the root context, because a host may bind a call to the context that
    /// makes it: one bound to the stream would end with the stream, and its outcome would never
    /// be reported.
    fn call(&self, root: u32, stream: u32, call: &GrpcCall<'_>) -> Result<u32, Status> {
        let mut room = [0; upstream::GRPC_SERVICE];
        let upstream = upstream::grpc_service(call.cluster, &mut room);
        let upstream = upstream.ok_or(Status::INTERNAL_FAILURE)?;
        let metadata = if call.is_report { REPORT } else { b"" };
        let mut id = 0;
        CLOSED_EARLY.cell().set(0);
        self.act_for(root)?;
        // SAFETY: all slices are readable, and the pointer is valid for writing.
        let status = unsafe {
            proxy_grpc_call(
                upstream.as_ptr(),
                upstream.len(),
                call.service.as_ptr(),
                call.service.len(),
                call.method.as_ptr(),
                call.method.len(),
                metadata.as_ptr(),
                metadata.len(),
                call.message.as_ptr(),
                call.message.len(),
                call.timeout_ms,
                &raw mut id,
            )
        };
        self.act_for(stream)?;
        ok(status)?;
        if CLOSED_EARLY.cell().get() == u64::from(id) + 1 {
            return Err(Status::INTERNAL_FAILURE);
        }
        Ok(id)
    }

    fn grpc_message(&self, max_size: usize) -> Result<&[u8], Status> {
        self.buffer(GRPC_MESSAGE, max_size)
    }

    fn reply(&self, stream: u32, reply: &LocalReply<'_>) -> Result<(), Status> {
        // SAFETY: this is the only use, and `enter` lets one callback run at a time.
        let room = unsafe { &mut *REPLY.0.get() };
        let headers = pairs::serialize(reply.headers, room).ok_or(Status::INTERNAL_FAILURE)?;
        self.act_for(stream)?;
        // SAFETY: all slices are readable.
        ok(unsafe {
            proxy_send_local_response(
                reply.status,
                reply.details.as_ptr(),
                reply.details.len(),
                reply.body.as_ptr(),
                reply.body.len(),
                headers.as_ptr(),
                headers.len(),
                reply.grpc_status,
            )
        })
    }

    fn set_response_header(&self, header: Pair<'_>, replaces: bool) -> Result<(), Status> {
        let (name, value) = header;
        let set =
            if replaces { proxy_replace_header_map_value } else { proxy_add_header_map_value };
        // SAFETY: both slices are readable.
        ok(unsafe { set(RESPONSE_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }

    fn resume(&self, stream: u32) -> Result<(), Status> {
        self.act_for(stream)?;
        // SAFETY: no memory is passed.
        ok(unsafe { proxy_continue_stream(REQUEST_STREAM) })
    }
}

fn ok(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

fn log_error(message: &str) {
    // SAFETY: the message is readable. A failure to log cannot be reported.
    unsafe { proxy_log(LOG_ERROR, message.as_ptr(), message.len()) };
}

/// Logs the place of the panic and traps, so that the host's failure policy applies.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(place) = info.location() {
        let (file, line) = (place.file(), place.line());
        log_error(
            Text::<160>::format(format_args!("tidegate: panicked at {file}:{line}")).as_str(),
        );
    }
    core::arch::wasm32::unreachable()
}
