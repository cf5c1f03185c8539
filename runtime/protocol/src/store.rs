//! What a program brings to the protocol: its clock, and the route to its Redis.

use std::sync::Arc;

use crate::breaker::StoreBreaker;
use crate::error::Error;
use crate::fallback::StoreChange;
use crate::server_state::ServerState;
use crate::work::Addressed;

/// The clock, randomness and identity of the process: the operating system's, or in WebAssembly
/// JavaScript's.
pub trait Host: Send + Sync + 'static {
    /// Nanoseconds on a clock that does not step back. Later than 0.
    fn now() -> u64;

    /// A random number, not for secrets. A forked child draws other numbers than its parent.
    fn random() -> u64;

    /// A number that differs from that of every process this one descends from: a forked child
    /// tells by it what belongs to its parent. 0 where processes do not fork.
    fn process() -> u32 {
        0
    }

    /// Tells the program that a store fails, or has recovered. It runs on the thread that has got the
    /// answer of a call, so it must neither wait nor make a call of a limiter.
    fn store_changed(_change: StoreChange) {}
}

/// A Redis that limiters share.
pub trait Store: Send + Sync + 'static {
    /// The store's name in what the program is told: without user, password and options.
    fn name(&self) -> String;

    /// The route to the server as it stands now.
    ///
    /// # Errors
    /// [`Error::Store`] when there is none; then nothing is sent.
    fn route(&self) -> Result<&dyn Route, Error>;

    /// The breakers of all nodes of a cluster that are known; none where the store is one server.
    fn node_breakers(&self) -> Vec<Arc<StoreBreaker>> {
        Vec::new()
    }
}

/// The way requests take to a server.
pub trait Route {
    /// What the process remembers of the server.
    fn server(&self) -> &Arc<ServerState>;

    /// The breaker of the cluster node that serves the keys; `None` where the store is one server,
    /// or where a client knows its nodes itself.
    fn node_breaker(&self, _keys: &[Vec<u8>]) -> Option<Arc<StoreBreaker>> {
        None
    }

    /// The hash slot of all the keys of one call; 0 where only a client knows.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of several slots of a cluster.
    fn slot(&self, _keys: &[Vec<u8>]) -> Result<u16, Error> {
        Ok(0)
    }

    /// Sends work, in order, in as few batches as possible. Each callback is called when its
    /// answer has come, or its timeout is over.
    fn send(&self, work: &mut dyn Iterator<Item = Addressed>);
}
