//! The one thread that does Tidegate's network I/O, started at the first use.

use tidegate_protocol::{Host as _, PerProcess};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::host::NativeHost;
use crate::{Error, StoreFailure};

/// A forked child, which inherits no thread, starts its own.
static IO: PerProcess<Io> = PerProcess::new(NativeHost::process);

/// It serves every limiter until the process ends; stopping it at an arbitrary exit could block
/// on work in flight.
struct Io(Option<Runtime>);

/// The I/O thread's runtime.
pub(crate) fn handle() -> Result<Handle, Error> {
    let io = IO.get_or_try_init(start)?;
    io.0.as_ref().map(|runtime| runtime.handle().clone()).ok_or_else(crate::answer::lost)
}

fn start() -> Result<Io, Error> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        // For leases over clients of the program's own, which may block. Names are looked up on
        // other threads.
        .max_blocking_threads(64)
        .thread_name("tidegate-io")
        .enable_all()
        .build()
        .map_err(|error| {
            let message = format!("the I/O thread cannot start: {error}");
            Error::Store(StoreFailure::new(message, error))
        })?;
    Ok(Io(Some(runtime)))
}

impl Drop for Io {
    /// Two threads have started it at the same time, and this one is not used.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
