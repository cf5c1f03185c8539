//! The shared bucket in Redis: an operation travels to it with its limits, a script
//! takes the engine's step there by the server's clock, and the caller replays the
//! answer from what the script saw.

pub(crate) mod io;
mod link;
mod replay;
mod script;
pub mod value;

use core::time::Duration;
use std::sync::Arc;

use ::redis::RedisError;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_core::{Limit, Operation, Outcome};

use crate::error::Error;
pub(crate) use link::Address;
use link::Link;

pub use replay::{replay, step};
pub use script::{CANCEL, CHECK, Call, HOLD, RESERVE, RESET, SCRIPTS, SETTLE, Script, Seen};

/// A Redis, reached through one multiplexed connection per process and server.
#[derive(Clone)]
pub(crate) struct RedisStore(Arc<Inner>);

struct Inner {
    address: Address,
    timeout: Duration,
    /// The link, and the process that made it: a fork makes its own.
    live: ArcSwapOption<Live>,
    making: Mutex<()>,
}

#[derive(Clone)]
struct Live {
    process: u32,
    io: tokio::runtime::Handle,
    link: Link,
}

impl RedisStore {
    pub(crate) fn open(url: &str, timeout: Duration) -> Result<Self, Error> {
        Ok(Self(Arc::new(Inner {
            address: Address::parse(url)?,
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
        let ready = check_keys(&keys, limits.len()).and_then(|()| {
            Ok((self.slot_of(&keys)?, Call::new(&limits, &operation)?, self.live()?))
        });
        let (slot, call, live) = match ready {
            Ok(ready) => ready,
            Err(error) => return done(Err(error)),
        };
        let timeout = self.0.timeout;
        let io = live.io.clone();
        io.spawn(async move {
            let seen = within(timeout, call.run(&live.link, slot, &keys)).await;
            done(seen.and_then(|seen| replay(&seen, &keys, &limits, operation)));
        });
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let live = self.live()?;
        let timeout = self.0.timeout;
        let pinging = async move {
            let answer = live.link.send(vec![::redis::cmd("PING")], 0).await.pop();
            answer.unwrap_or_else(|| Err(link_gone())).map(|_| ()).map_err(store_error)
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
        let live = Live { process, io: io::handle()?, link: self.link()? };
        if let Some(parents) = self.0.live.swap(Some(Arc::new(live.clone()))) {
            // The parent's socket and tasks are not this process's to close.
            core::mem::forget(parents);
        }
        Ok(live)
    }

    fn link(&self) -> Result<Link, Error> {
        Link::new(&self.0.address, self.0.timeout).map_err(store_error)
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

/// One key for all tiers, or one per tier and no two the same: in one bucket of two tiers
/// one would overwrite the other.
fn check_keys(keys: &[Vec<u8>], tiers: usize) -> Result<(), Error> {
    if keys.len() != 1 && keys.len() != tiers {
        let message = format!("one key or {tiers} are needed, but {} were given", keys.len());
        return Err(Error::argument("key", message));
    }
    if (1..keys.len()).any(|at| keys[..at].contains(&keys[at])) {
        return Err(Error::argument("key", "two limits cannot share one key's bucket"));
    }
    Ok(())
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

/// A command without an answer.
fn link_gone() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}

fn store_error(error: RedisError) -> Error {
    if error.is_timeout() {
        // `within` fills in the timeout that was exceeded.
        return Error::StoreTimeout { after: Duration::ZERO };
    }
    Error::Store(error.to_string())
}
