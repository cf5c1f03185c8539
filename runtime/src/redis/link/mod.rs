//! How commands reach the server that keeps the buckets: one server, the master of a
//! Sentinel group, or the nodes of a cluster.
//!
//! The `redis` crate speaks over the connections, which are opened here so that TLS can trust a server by
//! its own certificate and an answer has a bound. Its cluster client, sentinel client and connection
//! manager are not used, for four reasons. Commands of one slot have to be carried out in the order
//! in which they were sent. A command that was surely not carried out is sent again here, while one
//! that may have been is not: only the protocol's `Pipeline` knows which call may be repeated. The
//! crate's cluster client repeats both. A connection on which nothing is answered has to be noticed and
//! replaced long before the system gives it up. And commands must go on while the topology is asked for again, for which the
//! crate's cluster client makes all of them wait. See `docs/redis.md`, "When Redis fails".

mod address;
mod cluster;
mod connection;
mod failure;
mod lookup;
mod options;
mod pending;
mod sentinel;
mod server;
mod single_flight;
mod tls;
mod topology;

use core::time::Duration;
use std::sync::Arc;

use ::redis::Cmd;
use tidegate_protocol::StoreBreaker;
use tokio::time::Instant;

pub(crate) use address::Address;
pub(crate) use failure::{Answer, Failure};

use address::Servers;
use cluster::Cluster;
use pending::Pending;
use sentinel::Sentinel;
use server::{Server, is_stale};

/// The way to a store. It connects when it is first used, and again whenever it must.
///
/// It belongs to the process that made it, and is used on the I/O thread.
#[derive(Clone)]
pub(crate) struct Link {
    route: Route,
    timeout: Duration,
}

#[derive(Clone)]
enum Route {
    Server(Server),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

impl Link {
    /// The way to `address`, over which calls take `timeout` at most.
    pub(crate) fn new(address: &Address, timeout: Duration) -> Self {
        let access = address.access.clone();
        let route = match &address.servers {
            Servers::One(place) => Route::Server(Server::new(access.login(place), timeout)),
            Servers::Cluster(seeds) => Route::Cluster(Cluster::new(seeds, access, timeout)),
            Servers::Sentinels { sentinels, master, access: theirs } => {
                let master = master.clone();
                Route::Sentinel(Sentinel::new(sentinels, theirs, master, access, timeout))
            }
        };
        Self { route, timeout }
    }

    /// Sends the commands pipelined, in order, and gives an answer to each, within the
    /// timeout.
    ///
    /// In a cluster all are about keys of `slot`; elsewhere it does not matter. An error is
    /// that command's alone. When the connection breaks, or the time is up, those without an
    /// answer get that error; they may have been carried out. A command that surely was not,
    /// as its server is not the one to ask any more, is sent to the one that is.
    pub(crate) async fn send(&self, commands: Vec<Cmd>, slot: u16) -> Vec<Answer> {
        let deadline = Instant::now() + self.timeout;
        match &self.route {
            Route::Server(server) => {
                let sent = server.send(&commands, false, deadline).await;
                if !sent.redialled {
                    return sent.answers;
                }
                // The server did nothing, and the next connection may lead to another one.
                let mut pending = Pending::new(commands);
                pending.settle(sent.answers, |failure| is_stale(failure).is_some());
                let sent = server.send(pending.commands(), false, deadline).await;
                pending.settle(sent.answers, |_| false);
                pending.into_answers()
            }
            Route::Sentinel(sentinel) => sentinel.send(commands, deadline).await,
            Route::Cluster(cluster) => cluster.send(commands, slot, deadline).await,
        }
    }

    /// Makes sure that the server known for the master is it still, if that takes no more than
    /// half of the timeout: what follows has to come about as well.
    pub(crate) async fn look_first(&self) {
        if let Route::Sentinel(sentinel) = &self.route {
            sentinel.look_first(Instant::now() + self.timeout / 2).await;
        }
    }

    /// What a call that gets no answer in time may have waited for, where that is known.
    pub(super) fn unanswered(&self) -> Option<String> {
        match &self.route {
            Route::Server(server) => server.unanswered(),
            Route::Sentinel(_) | Route::Cluster(_) => None,
        }
    }

    /// Closes the connections, as soon as the answers that are due have come. The next command
    /// connects again.
    pub(super) fn disconnect(&self) {
        match &self.route {
            Route::Server(server) => server.disconnect(),
            Route::Sentinel(sentinel) => sentinel.disconnect(),
            Route::Cluster(cluster) => cluster.disconnect(),
        }
    }

    /// The breaker of the node that serves the slot; none where there is one server only.
    pub(super) fn node_breaker(&self, slot: u16) -> Option<Arc<StoreBreaker>> {
        match &self.route {
            Route::Cluster(cluster) => Some(cluster.breaker(slot)),
            Route::Server(_) | Route::Sentinel(_) => None,
        }
    }

    /// The breakers of all nodes of a cluster.
    pub(super) fn node_breakers(&self) -> Vec<Arc<StoreBreaker>> {
        match &self.route {
            Route::Cluster(cluster) => cluster.breakers(),
            Route::Server(_) | Route::Sentinel(_) => Vec::new(),
        }
    }
}

impl Address {
    pub(super) fn is_of_a_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// The hash slot of a key in a cluster, where only keys of one slot can share a command; 0
    /// elsewhere.
    pub(crate) fn slot(&self, key: &[u8]) -> u16 {
        match self.servers {
            Servers::Cluster(_) => tidegate_protocol::slot(key),
            Servers::One(_) | Servers::Sentinels { .. } => 0,
        }
    }
}
