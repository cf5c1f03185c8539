//! The shared bucket in Redis: an operation travels to it with its limits, a script
//! takes the engine's step there by the server's clock, and the caller replays the
//! answer from what the script saw.

mod courier;
mod deny_cache;
pub(crate) mod io;
mod lane;
mod lease;
mod link;
mod nodes;
mod protocol;
mod trip;

use core::time::Duration;
use std::sync::Arc;

use ::redis::RedisError;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_core::{Decision, Limit, Operation, Outcome};
use tokio::runtime::Handle;

use self::deny_cache::{DenyCache, gives_back};
use self::lane::{Done, Lanes};
use self::link::Link;
use crate::answer::lost;
use crate::error::Error;
use crate::keys::RedisKeys;

pub use courier::{Carriage, Courier, Errand, Trip};
pub(crate) use link::Address;
pub use protocol::*;

/// A Redis that limiters share.
#[derive(Clone)]
pub(crate) struct RedisStore {
    reach: Reach,
    /// How long a refused key may be refused again without asking.
    keep_refusals: Duration,
}

/// Keys, what is asked of them, and who wants to know.
pub(crate) type Ask<D> = (RedisKeys, Operation, D);

/// How it is reached.
#[derive(Clone)]
enum Reach {
    Connected(Connected),
    Carried { carriage: Arc<Carriage>, timeout: Duration },
}

/// A Redis, reached through one multiplexed connection per process and server.
#[derive(Clone)]
struct Connected(Arc<Inner>);

struct Inner {
    address: Address,
    timeout: Duration,
    runtime: Option<GivenRuntime>,
    /// The link, and the process that made it: a fork makes its own.
    live: ArcSwapOption<Live>,
    making: Mutex<()>,
}

/// A runtime of the program's own, and the process in which it runs: a fork inherits none of
/// its threads.
struct GivenRuntime {
    handle: Handle,
    process: u32,
}

struct Live {
    process: u32,
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
        let (live, making) = (ArcSwapOption::empty(), Mutex::new(()));
        let address = Address::parse(url)?;
        let process = crate::process::id();
        let runtime = runtime.map(|handle| GivenRuntime { handle: handle.clone(), process });
        let inner = Arc::new(Inner { address, timeout, runtime, live, making });
        let reach = Reach::Connected(Connected(inner));
        Ok(Self { reach, keep_refusals: Duration::ZERO })
    }

    pub(crate) fn carried(carriage: Arc<Carriage>, timeout: Duration) -> Self {
        Self { reach: Reach::Carried { carriage, timeout }, keep_refusals: Duration::ZERO }
    }

    /// The same store, for a limiter that may be refused so long without asking.
    pub(crate) fn keeping_refusals(self, keep_refusals: Duration) -> Self {
        Self { keep_refusals, ..self }
    }

    /// The way there, for the operations of one call.
    pub(crate) fn way(&self) -> Way<'_> {
        let path = match &self.reach {
            Reach::Connected(server) => server.live().map(|live| Path::Lanes(server, live)),
            Reach::Carried { carriage, timeout } => {
                Ok(Path::Courier { carriage, timeout: *timeout })
            }
        };
        Way { path, keep_refusals: self.keep_refusals }
    }

    /// The longest that a thread may wait for an answer, where nobody knows whether the I/O
    /// runs: that thread may be the one that is to do it.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        match &self.reach {
            Reach::Connected(Connected(inner)) if inner.runtime.is_some() => Some(inner.timeout),
            _ => None,
        }
    }

    /// Whether the server answers; a courier's client is not asked.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        match &self.reach {
            Reach::Connected(server) => server.ping().await,
            Reach::Carried { .. } => Ok(()),
        }
    }
}

/// Where requests are handed over now.
pub(crate) struct Way<'a> {
    path: Result<Path<'a>, Error>,
    keep_refusals: Duration,
}

enum Path<'a> {
    Lanes(&'a Connected, Arc<Live>),
    Courier { carriage: &'a Carriage, timeout: Duration },
}

impl Way<'_> {
    /// Runs an operation on the buckets of `keys`, and calls `done` on the I/O thread; at once
    /// if there is nothing to be sent.
    pub(crate) fn run(
        &self,
        keys: RedisKeys,
        limits: &Arc<[Limit]>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        match &self.path {
            Ok(path) => path.send(path.prepare(limits, (keys, operation, done))),
            Err(error) => done(Err(error.clone())),
        }
    }

    /// Runs operations one after the other, in as few trips as can be.
    pub(crate) fn run_all<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        limits: &Arc<[Limit]>,
        asked: impl IntoIterator<Item = Ask<D>>,
    ) {
        match &self.path {
            Ok(path) => {
                // What is not sent is answered here, outside the lane's lock.
                let ready = asked.into_iter().filter_map(|ask| path.prepare(limits, ask));
                path.send(ready.collect::<Vec<_>>());
            }
            Err(error) => asked.into_iter().for_each(|(.., done)| done(Err(error.clone()))),
        }
    }

    /// The refusal of a check that needs no asking.
    pub(crate) fn refuse(
        &self,
        keys: &[Vec<u8>],
        limits: &Arc<[Limit]>,
        operation: &Operation,
    ) -> Option<Decision> {
        match (operation, keys, &self.path) {
            _ if self.keep_refusals.is_zero() => None,
            (&Operation::Check { cost: cost @ 1.. }, [key], Ok(path)) => {
                path.refused().refuse(key, limits, cost, self.keep_refusals)
            }
            _ => None,
        }
    }
}

/// A request, the slot of its keys, and who waits for the answer.
type Ready = (u16, Request, Done);

impl Path<'_> {
    /// What is to be sent; what cannot be is answered.
    fn prepare<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        limits: &Arc<[Limit]>,
        (keys, operation, done): Ask<D>,
    ) -> Option<Ready> {
        let forget = gives_back(&operation).then(|| (Arc::clone(self.refused()), keys.clone()));
        forget.iter().for_each(forget_all);
        let slot = self.slot_of(&keys);
        let request = Request::new(keys, Arc::clone(limits), operation);
        match slot.and_then(|slot| Ok((slot, request?))) {
            Ok((slot, request)) => Some((slot, request, forgetting(forget, done))),
            Err(error) => {
                done(Err(error));
                None
            }
        }
    }

    fn refused(&self) -> &Arc<DenyCache> {
        match self {
            Self::Lanes(_, live) => &live.refused,
            Self::Courier { carriage, .. } => carriage.refused(),
        }
    }

    /// The slot of all the keys of one call; a courier's client finds its own way.
    fn slot_of(&self, keys: &[Vec<u8>]) -> Result<u16, Error> {
        match self {
            Self::Lanes(server, _) => server.slot_of(keys),
            Self::Courier { .. } => Ok(0),
        }
    }

    fn send(&self, requests: impl IntoIterator<Item = Ready>) {
        match self {
            Self::Lanes(_, live) => live.lanes.push(&live.io, requests.into_iter()),
            Self::Courier { carriage, timeout } => {
                let errands = requests.into_iter().map(|(_, request, done)| (request, done));
                carriage.send(errands, *timeout);
            }
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

    fn live(&self) -> Result<Arc<Live>, Error> {
        let process = crate::process::id();
        let of_this_process = || self.0.live.load_full().filter(|live| live.process == process);
        if let Some(live) = of_this_process() {
            return Ok(live);
        }
        let _making = self.0.making.lock();
        if let Some(live) = of_this_process() {
            return Ok(live);
        }
        let link = Link::new(&self.0.address, self.0.timeout).map_err(store_error)?;
        let refused = Arc::new(DenyCache::new());
        let lanes = Lanes::new(link.clone(), self.0.timeout, Arc::clone(&refused));
        let io = match &self.0.runtime {
            Some(given) if given.process == process => given.handle.clone(),
            _ => io::handle()?,
        };
        let live = Arc::new(Live { process, io, link, lanes, refused });
        if let Some(parents) = self.0.live.swap(Some(Arc::clone(&live))) {
            // The parent's socket and tasks are not this process's to close.
            core::mem::forget(parents);
        }
        Ok(live)
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

/// Keys to which something is given back, and where their refusals are kept.
type Forget = (Arc<DenyCache>, RedisKeys);

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
