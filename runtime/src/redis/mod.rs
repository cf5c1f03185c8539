//! The shared bucket in Redis: an operation travels to it with its limits, a script
//! takes the engine's step there by the server's clock, and the caller replays the
//! answer from what the script saw.

pub(crate) mod io;
mod lane;
mod link;
mod protocol;
mod trip;

use core::time::Duration;
use std::sync::Arc;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, IntoConnectionInfo as _, RedisError};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_core::{Limit, Operation, Outcome};

use self::lane::Lane;
use self::link::Link;
use crate::error::Error;

pub use protocol::*;

/// How long one attempt to connect may take. Callers wait for at most the store
/// timeout; an attempt that is nearly there goes on for the next ones.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When sent bytes have been left unacknowledged for this long the connection
/// counts as dead, so that a peer that vanished silently is found out.
#[cfg(target_os = "linux")]
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// A Redis server, reached through one multiplexed connection per process.
#[derive(Clone)]
pub(crate) struct RedisStore(Arc<Inner>);

struct Inner {
    client: Client,
    timeout: Duration,
    /// The connection, and the process that made it: a fork makes its own.
    live: ArcSwapOption<Live>,
    making: Mutex<()>,
}

#[derive(Clone)]
struct Live {
    process: u32,
    io: tokio::runtime::Handle,
    link: Link,
    lane: Lane,
}

impl RedisStore {
    pub(crate) fn open(url: &str, timeout: Duration) -> Result<Self, Error> {
        let invalid = |error: RedisError| {
            // The error's own words; never the URL, which may hold a password.
            Error::argument("store", format!("not a usable Redis URL: {error}"))
        };
        if url.starts_with("rediss://") || url.starts_with("valkeys://") {
            // Fails only when the program has chosen a provider already, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let info = url.into_connection_info().map_err(invalid)?;
        let tcp = ::redis::io::tcp::TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(DEAD_PEER_TIMEOUT);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(invalid)?;
        Ok(Self(Arc::new(Inner {
            client,
            timeout,
            live: ArcSwapOption::empty(),
            making: Mutex::new(()),
        })))
    }

    /// Runs an operation on the buckets of `keys`, one key that holds all tiers or one for
    /// each, and calls `done` on the I/O thread; at once if there is nothing to be sent.
    pub(crate) fn run(
        &self,
        keys: Vec<Vec<u8>>,
        limits: Arc<[Limit]>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        let ready =
            Request::new(keys, limits, operation).and_then(|request| Ok((request, self.live()?)));
        match ready {
            Ok((request, live)) => live.lane.push(&live.io, request, Box::new(done)),
            Err(error) => done(Err(error)),
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let live = self.live()?;
        let timeout = self.0.timeout;
        let pinging = async move {
            let mut replies = live.link.send(vec![::redis::cmd("PING")]).await;
            replies.remove(0).map(drop).map_err(store_error)
        };
        let pinged = live.io.spawn(within(timeout, pinging)).await;
        pinged.unwrap_or_else(|_| Err(Error::Store("the I/O thread is gone".into())))
    }

    fn live(&self) -> Result<Live, Error> {
        let process = std::process::id();
        let of_this_process = || {
            let live = self.0.live.load();
            live.as_ref().filter(|live| live.process == process).map(|live| Live::clone(live))
        };
        if let Some(live) = of_this_process() {
            return Ok(live);
        }
        let _making = self.0.making.lock();
        if let Some(live) = of_this_process() {
            return Ok(live);
        }
        let link = Link::new(self.connect_lazily()?);
        let lane = Lane::new(link.clone(), self.0.timeout);
        let live = Live { process, io: io::handle()?, link, lane };
        if let Some(parents) = self.0.live.swap(Some(Arc::new(live.clone()))) {
            // The parent's socket and tasks are not this process's to close.
            core::mem::forget(parents);
        }
        Ok(live)
    }

    fn connect_lazily(&self) -> Result<ConnectionManager, Error> {
        let io = io::handle()?;
        let _entered = io.enter();
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.0.timeout));
        ConnectionManager::new_lazy_with_config(self.0.client.clone(), config).map_err(store_error)
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(timeout, work).await {
        Ok(Err(Error::StoreTimeout { .. })) | Err(_) => Err(Error::StoreTimeout { after: timeout }),
        Ok(answer) => answer,
    }
}

fn store_error(error: RedisError) -> Error {
    if error.is_timeout() {
        // `within` fills in the timeout that was exceeded.
        return Error::StoreTimeout { after: Duration::ZERO };
    }
    Error::Store(error.to_string())
}
