//! The one thread that does Tidegate's network I/O, started at the first use.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};

use crate::Error;

static IO: ArcSwapOption<Io> = ArcSwapOption::const_empty();
static STARTING: Mutex<()> = Mutex::new(());

struct Io {
    process: u32,
    handle: Handle,
}

/// The I/O thread's runtime. After a fork the child, which inherits no thread,
/// starts its own.
pub(crate) fn handle() -> Result<Handle, Error> {
    let process = crate::process::id();
    let of_this_process = || {
        let io = IO.load();
        io.as_ref().filter(|io| io.process == process).map(|io| io.handle.clone())
    };
    if let Some(handle) = of_this_process() {
        return Ok(handle);
    }
    let _starting = STARTING.lock();
    if let Some(handle) = of_this_process() {
        return Ok(handle);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .thread_name("tidegate-io")
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::Store(format!("the I/O thread cannot start: {error}")))?;
    let handle = runtime.handle().clone();
    // It serves every limiter until the process ends; stopping it at an arbitrary
    // exit could block on work in flight.
    core::mem::forget(runtime);
    if let Some(parents) = IO.swap(Some(Arc::new(Io { process, handle: handle.clone() }))) {
        core::mem::forget(parents);
    }
    Ok(handle)
}
