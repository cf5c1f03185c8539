//! What a program brings: its clock, and the way to its Redis.

use std::sync::Arc;

use tidegate_core::{Operation, Outcome};

use crate::breaker::StoreBreaker;
use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::keys::RedisKeys;
use crate::request::Request;

/// What a program is run by: the operating system, or in WebAssembly JavaScript.
pub trait Host: Send + Sync + 'static {
    /// Nanoseconds on a clock that does not step back. Later than 0.
    fn now() -> u64;

    /// A number by chance, not for secrets.
    fn random() -> u64;

    /// A number that differs from that of every process this one descends from: a forked child
    /// tells by it what belongs to its parent. 0 where processes do not fork.
    fn process() -> u32 {
        0
    }
}

/// Who waits for an answer.
pub type Done = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// Keys, what is asked of them, and who wants to know.
pub type Ask<D> = (RedisKeys, Operation, D);

/// A request, the slot of its keys, and who waits for the answer.
pub type Ready = (u16, Request, Done);

/// A Redis that limiters share.
pub trait Store: Clone + Send + Sync + 'static {
    /// Whose time it is.
    type Host: Host;

    /// The way there, for one call.
    type Way<'s>: Way
    where
        Self: 's;

    /// Where requests are handed over now.
    ///
    /// # Errors
    /// [`Error::Store`] when there is no way; then nothing is sent.
    fn way(&self) -> Result<Self::Way<'_>, Error>;

    /// Of a cluster, those of all nodes that are known.
    fn breakers_of_nodes(&self) -> Vec<Arc<StoreBreaker>> {
        Vec::new()
    }
}

/// Where requests are handed over.
pub trait Way {
    /// The keys that were refused there.
    fn refused(&self) -> &Arc<DenyCache>;

    /// The breaker of the node that serves the keys; none where the store is one server, or
    /// where a client knows its nodes itself.
    fn breaker_of_node(&self, _keys: &[Vec<u8>]) -> Option<Arc<StoreBreaker>> {
        None
    }

    /// The hash slot of all the keys of one call; 0 where only a client knows.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of several slots of a cluster.
    fn slot(&self, _keys: &[Vec<u8>]) -> Result<u16, Error> {
        Ok(0)
    }

    /// Sends requests, in order, in as few trips as can be. Whoever waits is answered when
    /// that is done.
    fn send(&self, requests: impl IntoIterator<Item = Ready>);
}
