//! The shared bucket in Redis: an operation travels to it with its limits, a script
//! takes the engine's step there by the server's clock, and the caller replays the
//! answer from what the script saw.

mod deny_cache;
pub(crate) mod io;
mod lane;
mod lease;
mod link;
mod protocol;
mod trip;

use core::time::Duration;
use std::sync::Arc;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, IntoConnectionInfo as _, RedisError};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_core::{Decision, Limit, Operation, Outcome};

use self::deny_cache::{DenyCache, gives_back};
use self::lane::{Done, Lane};
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
pub(crate) struct RedisStore {
    inner: Arc<Inner>,
    /// How long a refused key may be refused again without asking.
    keep_refusals: Duration,
}

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
    refused: Arc<DenyCache>,
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
        let (live, making) = (ArcSwapOption::empty(), Mutex::new(()));
        let inner = Arc::new(Inner { client, timeout, live, making });
        Ok(Self { inner, keep_refusals: Duration::ZERO })
    }

    /// The same store, for a limiter that may be refused so long without asking.
    pub(crate) fn keeping_refusals(self, keep_refusals: Duration) -> Self {
        Self { keep_refusals, ..self }
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
        self.run_all(&limits, core::iter::once((keys, operation, done)));
    }

    /// Runs operations one after the other, in as few trips as can be.
    pub(crate) fn run_all<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        limits: &Arc<[Limit]>,
        asked: impl IntoIterator<Item = (Vec<Vec<u8>>, Operation, D)>,
    ) {
        let live = match self.live() {
            Ok(live) => live,
            Err(error) => return asked.into_iter().for_each(|(.., done)| done(Err(error.clone()))),
        };
        // What is not sent is answered here, outside the lane's lock.
        let mut ready: Vec<(Request, Done)> = Vec::new();
        for (keys, operation, done) in asked {
            if let Some(decision) = self.refuse(&live, &keys, limits, &operation) {
                done(Ok(Outcome::Decision(decision)));
                continue;
            }
            let forget = gives_back(&operation).then(|| (Arc::clone(&live.refused), keys.clone()));
            forget.iter().for_each(forget_all);
            match Request::new(keys, Arc::clone(limits), operation) {
                Ok(request) => ready.push((request, forgetting(forget, done))),
                Err(error) => done(Err(error)),
            }
        }
        live.lane.push(&live.io, ready);
    }

    /// The refusal of a check that needs no asking.
    fn refuse(
        &self,
        live: &Live,
        keys: &[Vec<u8>],
        limits: &Arc<[Limit]>,
        operation: &Operation,
    ) -> Option<Decision> {
        match (operation, keys) {
            _ if self.keep_refusals.is_zero() => None,
            (&Operation::Check { cost: cost @ 1.. }, [key]) => {
                live.refused.refuse(key, limits, cost, self.keep_refusals)
            }
            _ => None,
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let live = self.live()?;
        let timeout = self.inner.timeout;
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
            let live = self.inner.live.load();
            live.as_ref().filter(|live| live.process == process).map(|live| Live::clone(live))
        };
        if let Some(live) = of_this_process() {
            return Ok(live);
        }
        let _making = self.inner.making.lock();
        if let Some(live) = of_this_process() {
            return Ok(live);
        }
        let link = Link::new(self.connect_lazily()?);
        let refused = Arc::new(DenyCache::new());
        let lane = Lane::new(link.clone(), self.inner.timeout, Arc::clone(&refused));
        let live = Live { process, io: io::handle()?, link, lane, refused };
        if let Some(parents) = self.inner.live.swap(Some(Arc::new(live.clone()))) {
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
            .set_response_timeout(Some(self.inner.timeout));
        ConnectionManager::new_lazy_with_config(self.inner.client.clone(), config)
            .map_err(store_error)
    }
}

/// Keys to which something is given back, and where their refusals are kept.
type Forget = (Arc<DenyCache>, Vec<Vec<u8>>);

fn forget_all((refused, keys): &Forget) {
    keys.iter().for_each(|key| refused.forget(key));
}

/// Forgets keys again once something has been given back, before anybody is told: a trip
/// that was under way may have brought a refusal meanwhile.
fn forgetting(
    forget: Option<Forget>,
    done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
) -> Done {
    let Some(forget) = forget else { return Box::new(done) };
    Box::new(move |outcome| {
        forget_all(&forget);
        done(outcome);
    })
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
