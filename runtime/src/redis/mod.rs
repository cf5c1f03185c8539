//! The shared bucket in Redis: the limit and the cost travel to it, the script
//! `check.lua` takes the engine's step there by the server's clock, and the
//! caller replays the decision from what the script saw.

pub(crate) mod io;
mod script;
pub mod value;

use core::time::Duration;
use std::sync::Arc;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, IntoConnectionInfo as _, RedisError};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_core::{Cells, Decision, Limit, Operation, Outcome, Source, decide_tiers};

use crate::error::Error;

pub use script::{CHECK, Seen, check_arguments};

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
    connection: ConnectionManager,
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

    /// Checks, and calls `done` on the I/O thread; at once if there is none to be had.
    pub(crate) fn check(
        &self,
        key: Vec<u8>,
        limits: Arc<[Limit]>,
        cost: u64,
        done: impl FnOnce(Result<Decision, Error>) + Send + 'static,
    ) {
        let live = match self.live() {
            Ok(live) => live,
            Err(error) => return done(Err(error)),
        };
        let timeout = self.0.timeout;
        let io = live.io.clone();
        io.spawn(async move {
            let checking = script::check(live.connection, &key, &limits, cost);
            let seen = within(timeout, checking).await;
            done(seen.and_then(|seen| replay(&seen, &key, &limits, cost)));
        });
    }

    /// Runs an operation on the buckets of one key for all limits, or of one per limit.
    pub(crate) fn run(
        &self,
        mut keys: Vec<Vec<u8>>,
        limits: Arc<[Limit]>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        match (operation, keys.pop()) {
            (Operation::Check { cost }, Some(key)) if keys.is_empty() => {
                self.check(key, limits, cost, |answer| done(answer.map(Outcome::Decision)));
            }
            _ => done(Err(Error::Store("not an operation of shared buckets yet".into()))),
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let live = self.live()?;
        let timeout = self.0.timeout;
        let mut connection = live.connection;
        let pinging = async move {
            ::redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(store_error)
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
        let live = Live { process, io: io::handle()?, connection: self.connect_lazily()? };
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

/// The decision that the script has taken, from what it saw.
///
/// # Errors
/// [`Error::CorruptBucket`] for a value that Tidegate did not write.
pub fn replay(seen: &Seen, key: &[u8], limits: &[Limit], cost: u64) -> Result<Decision, Error> {
    let mut cells = match &seen.value {
        None => Cells::default(),
        Some(value) => core::str::from_utf8(value)
            .ok()
            .and_then(|value| value::read(value, limits, seen.now))
            .ok_or_else(|| corrupt_bucket(key))?,
    };
    let mut decision =
        decide_tiers(limits, &mut cells, seen.now, cost).map_err(Error::from_engine)?;
    decision.source = Source::Redis;
    Ok(decision)
}

fn corrupt_bucket(key: &[u8]) -> Error {
    Error::CorruptBucket { key: String::from_utf8_lossy(key).into_owned() }
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
