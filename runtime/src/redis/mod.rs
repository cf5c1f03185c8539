//! The shared bucket in Redis: an operation travels to it with its limits, a script
//! takes the engine's step there by the server's clock, and the caller replays the
//! answer from what the script saw.

pub(crate) mod io;
mod lane;
mod lease;
mod link;
mod nodes;
mod trip;

use core::time::Duration;
use std::sync::Arc;

use ::redis::RedisError;
use tidegate_protocol::{Carried, DenyCache, Host as _, PerProcess, Ready, StoreBreaker};
use tokio::runtime::Handle;

use self::lane::Lanes;
use self::link::Link;
use crate::Error;
use crate::answer::lost;
use crate::host::NativeHost;

pub(crate) use link::Address;
pub use tidegate_protocol::{
    CANCEL, CHECK, CHECK_EACH, Call, Carriage, Courier, Errand, Exchange, HOLD, LEASE, LeaseCall,
    MAX_KEYS, Outbox, Part, RESERVE, RESET, Refusal, Reply, Request, SCRIPTS, SETTLE, Script,
    ScriptCall, Seen, Trip, plan, step, value,
};

/// The time by which errands wait, in nanoseconds.
pub fn now() -> u64 {
    NativeHost::now()
}

/// A Redis, and what all who share it know of its failures.
pub(crate) type GuardedStore = tidegate_protocol::GuardedStore<RedisStore>;

/// One limiter's buckets in a Redis.
pub(crate) type Guarded = tidegate_protocol::Guarded<RedisStore>;

/// A Redis that limiters share, by how it is reached.
#[derive(Clone)]
pub(crate) enum RedisStore {
    Connected(Connected),
    Carried(Carried<NativeHost>),
}

/// A Redis, reached through one multiplexed connection per process and server.
#[derive(Clone)]
pub(crate) struct Connected(Arc<Inner>);

struct Inner {
    address: Address,
    timeout: Duration,
    runtime: Option<GivenRuntime>,
    /// A fork makes its own: the parent's socket and tasks are not the child's to use or close.
    live: PerProcess<Live>,
}

/// A runtime of the program's own, and the process in which it runs: a fork inherits none of
/// its threads.
struct GivenRuntime {
    handle: Handle,
    process: u32,
}

pub(crate) struct Live {
    io: Handle,
    link: Link,
    lanes: Lanes,
    refused: Arc<DenyCache>,
}

impl RedisStore {
    /// Its I/O runs on `runtime`, or on Tidegate's own thread.
    pub(crate) fn open(
        url: &str,
        timeout: Duration,
        runtime: Option<&Handle>,
    ) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        let process = NativeHost::process();
        let runtime = runtime.map(|handle| GivenRuntime { handle: handle.clone(), process });
        let live = PerProcess::new(NativeHost::process);
        let inner = Inner { address, timeout, runtime, live };
        Ok(Self::Connected(Connected(Arc::new(inner))))
    }

    pub(crate) const fn carried(carriage: Arc<Carriage>, timeout: Duration) -> Self {
        Self::Carried(Carried::new(carriage, timeout))
    }

    /// The longest that a thread may wait for an answer, where nobody knows whether the I/O
    /// runs: that thread may be the one that is to do it.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        match self {
            Self::Connected(Connected(inner)) if inner.runtime.is_some() => Some(inner.timeout),
            _ => None,
        }
    }

    /// Whether the server answers; a courier's client is not asked.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        match self {
            Self::Connected(server) => server.ping().await,
            Self::Carried(_) => Ok(()),
        }
    }
}

impl tidegate_protocol::Store for RedisStore {
    type Host = NativeHost;
    type Way<'s> = Way<'s>;

    fn way(&self) -> Result<Way<'_>, Error> {
        match self {
            Self::Connected(server) => Ok(Way::Lanes(server, server.live()?)),
            Self::Carried(carried) => carried.way().map(Way::Carried),
        }
    }

    fn breakers_of_nodes(&self) -> Vec<Arc<StoreBreaker>> {
        match self {
            Self::Connected(server) => server.breakers_of_nodes(),
            Self::Carried(carried) => carried.breakers_of_nodes(),
        }
    }
}

/// Where requests are handed over now.
pub(crate) enum Way<'a> {
    Lanes(&'a Connected, &'a Live),
    Carried(&'a Carried<NativeHost>),
}

impl tidegate_protocol::Way for Way<'_> {
    fn refused(&self) -> &Arc<DenyCache> {
        match self {
            Self::Lanes(_, live) => &live.refused,
            Self::Carried(carried) => carried.refused(),
        }
    }

    fn breaker_of_node(&self, keys: &[Vec<u8>]) -> Option<Arc<StoreBreaker>> {
        match self {
            Self::Lanes(server, live) => server.breaker_of_node(live, keys),
            Self::Carried(carried) => carried.breaker_of_node(keys),
        }
    }

    fn slot(&self, keys: &[Vec<u8>]) -> Result<u16, Error> {
        match self {
            Self::Lanes(server, _) => server.slot_of(keys),
            Self::Carried(carried) => carried.slot(keys),
        }
    }

    fn send(&self, requests: impl IntoIterator<Item = Ready>) {
        match self {
            Self::Lanes(_, live) => live.lanes.push(&live.io, requests.into_iter()),
            Self::Carried(carried) => carried.send(requests),
        }
    }
}

impl Connected {
    async fn ping(&self) -> Result<(), Error> {
        let live = self.live()?;
        let timeout = self.0.timeout;
        let link = live.link.clone();
        let pinging = async move {
            let answer = link.send(vec![::redis::cmd("PING")], 0).await.pop();
            answer.map_or_else(|| Err(lost()), |answer| answer.map(drop).map_err(store_error))
        };
        let pinged = live.io.spawn(within(timeout, pinging)).await;
        pinged.unwrap_or_else(|_| Err(Error::Store("the I/O thread is gone".into())))
    }

    fn live(&self) -> Result<&Live, Error> {
        self.0.live.get_or_try_init(|| {
            let link = Link::new(&self.0.address, self.0.timeout).map_err(store_error)?;
            let refused = Arc::<DenyCache>::default();
            let lanes = Lanes::new(link.clone(), self.0.timeout, Arc::clone(&refused));
            let io = match &self.0.runtime {
                Some(given) if given.process == NativeHost::process() => given.handle.clone(),
                _ => io::handle()?,
            };
            Ok(Live { io, link, lanes, refused })
        })
    }

    /// The slot of all the keys of one call.
    fn slot_of(&self, keys: &[Vec<u8>]) -> Result<u16, Error> {
        let mut slots = keys.iter().map(|key| self.0.address.slot(key));
        let first = slots.next().unwrap_or(0);
        if slots.all(|slot| slot == first) {
            return Ok(first);
        }
        let message = "in a cluster the keys of one call must be in one hash slot: give each \
                       the same hash tag, a part in braces, as in {org:7}user:1 and {org:7}";
        Err(Error::argument("key", message))
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
