//! Sleeps on any executor.

use core::time::Duration;

use tokio::task::JoinHandle;

use crate::{Error, io};

/// Waits at least `duration` on any executor. The I/O thread keeps the time.
pub(crate) async fn sleep(duration: Duration) -> Result<(), Error> {
    if duration.is_zero() {
        return Ok(());
    }
    let asleep = io::handle()?.spawn(async move { tokio::time::sleep(duration).await });
    let mut asleep = AbortOnDrop(asleep);
    (&mut asleep.0).await.map_err(|_| Error::Store("the I/O thread is gone".into()))
}

/// Ends the sleep when nobody waits for it any more.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
