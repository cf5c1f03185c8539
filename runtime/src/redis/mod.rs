//! Shared buckets in Redis, over Tidegate's own connections: an operation goes to its bucket with
//! its limits, a script takes the engine's step there by the server's clock, and the caller
//! replays the step from the state that the script found.

mod eviction;
mod link;
mod open_stores;
mod reply;
mod slot_queue;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tidegate_protocol::{
    Addressed, Host as _, PerProcess, Route, ServerState, Store, StoreBreaker,
};
use tokio::runtime::Handle;

use self::link::{Failure, Link};
use self::slot_queue::SlotQueues;
use crate::answer::lost;
use crate::host::NativeHost;
use crate::{Error, io};

pub(crate) use link::Address;
pub(crate) use open_stores::open;

/// A Redis, reached through one multiplexed connection per process and server.
pub(crate) struct RedisStore {
    address: Arc<Address>,
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

/// The connections of one process.
struct Live {
    address: Arc<Address>,
    io: Handle,
    link: Link,
    queues: SlotQueues,
    server: Arc<ServerState>,
    /// Whether the server's eviction policy was asked for.
    is_looked_at: AtomicBool,
}

impl RedisStore {
    /// A store whose I/O runs on `runtime`, or else on Tidegate's own thread.
    pub(crate) fn open(
        url: &str,
        timeout: Duration,
        runtime: Option<&Handle>,
    ) -> Result<Self, Error> {
        let address = Arc::new(Address::parse(url)?);
        let process = NativeHost::process();
        let runtime = runtime.map(|handle| GivenRuntime { handle: handle.clone(), process });
        Ok(Self { address, timeout, runtime, live: PerProcess::new(NativeHost::process) })
    }

    /// The longest that a thread may wait for an answer, where nobody knows whether the I/O
    /// runs: that thread may be the one that is to do it.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        self.runtime.as_ref().map(|_| self.timeout)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Closes the connections of this process, as soon as the answers that are due have come. The
    /// next call connects again.
    pub(crate) fn disconnect(&self) {
        if let Some(live) = self.live.get() {
            live.link.disconnect();
        }
    }

    /// Whether the server answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let live = self.live()?;
        let link = live.link.clone();
        let pinging = async move {
            let answer = link.send(vec![::redis::cmd("PING")], 0).await.pop();
            answer.map_or_else(
                || Err(lost()),
                |answer| answer.map(drop).map_err(Failure::into_store_error),
            )
        };
        let pinged = live.io.spawn(tokio::time::timeout(self.timeout, pinging)).await;
        match pinged {
            Ok(Ok(Err(Error::StoreTimeout { .. })) | Err(_)) => Err(Error::timeout(self.timeout)),
            Ok(Ok(answer)) => {
                if answer.is_ok() {
                    self.look_at_eviction();
                }
                answer
            }
            Err(_) => Err(Error::Store("the I/O thread is gone".into())),
        }
    }

    /// Asks the server, once in a process, whether it evicts buckets, and tells the program if so.
    pub(crate) fn look_at_eviction(&self) {
        if let Some(live) = self.live.get()
            && !live.is_looked_at.swap(true, Ordering::Relaxed)
        {
            live.io.spawn(eviction::look(live.link.clone(), self.name()));
        }
    }

    fn live(&self) -> Result<&Live, Error> {
        self.live.get_or_try_init(|| {
            let link = Link::new(&self.address, self.timeout);
            let server = Arc::new(ServerState::new(self.address.has_per_key_calls()));
            let io = match &self.runtime {
                Some(given) if given.process == NativeHost::process() => given.handle.clone(),
                _ => io::handle()?,
            };
            let queues =
                SlotQueues::new(io.clone(), link.clone(), self.timeout, Arc::clone(&server));
            let (address, is_looked_at) = (Arc::clone(&self.address), AtomicBool::new(false));
            Ok(Live { address, io, link, queues, server, is_looked_at })
        })
    }
}

impl Store for RedisStore {
    fn name(&self) -> String {
        self.address.to_string()
    }

    fn route(&self) -> Result<&dyn Route, Error> {
        self.live().map(|live| live as &dyn Route)
    }

    fn node_breakers(&self) -> Vec<Arc<StoreBreaker>> {
        self.live.get().map_or_else(Vec::new, |live| live.link.node_breakers())
    }
}

impl Route for Live {
    fn server(&self) -> &Arc<ServerState> {
        &self.server
    }

    fn node_breaker(&self, keys: &[Vec<u8>]) -> Option<Arc<StoreBreaker>> {
        if !self.address.is_of_a_cluster() {
            return None;
        }
        self.link.node_breaker(self.address.slot(keys.first()?))
    }

    fn slot(&self, keys: &[Vec<u8>]) -> Result<u16, Error> {
        let mut slots = keys.iter().map(|key| self.address.slot(key));
        let first = slots.next().unwrap_or(0);
        if slots.all(|slot| slot == first) {
            return Ok(first);
        }
        let message = "in a cluster the keys of one call must be in one hash slot: give each \
                       the same hash tag, a part in braces, as in {org:7}user:1 and {org:7}";
        Err(Error::argument("key", message))
    }

    fn send(&self, work: &mut dyn Iterator<Item = Addressed>) {
        self.queues.push(work);
    }
}
