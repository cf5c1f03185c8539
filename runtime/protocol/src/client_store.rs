//! A Redis that is reached over a client of the program's own, as a store.

use core::time::Duration;
use std::sync::Arc;

use crate::error::Error;
use crate::pending::PendingRequest;
use crate::server_state::ServerState;
use crate::store::{Route, Store};
use crate::transport::ClientConnection;
use crate::work::Addressed;

/// A client connection, for all limiters whose callers wait equally long.
pub struct ClientStore {
    connection: Arc<ClientConnection>,
    timeout: Duration,
    now: fn() -> u64,
}

impl ClientStore {
    /// A store whose callers wait for `timeout` by the clock `now`, in nanoseconds.
    pub const fn new(
        connection: Arc<ClientConnection>,
        timeout: Duration,
        now: fn() -> u64,
    ) -> Self {
        Self { connection, timeout, now }
    }
}

impl Store for ClientStore {
    fn name(&self) -> String {
        self.connection.name().to_owned()
    }

    fn route(&self) -> Result<&dyn Route, Error> {
        Ok(self)
    }
}

impl Route for ClientStore {
    fn server(&self) -> &Arc<ServerState> {
        self.connection.server()
    }

    fn send(&self, work: &mut dyn Iterator<Item = Addressed>) {
        let now = (self.now)();
        let pending = |Addressed { work, .. }| PendingRequest::new(work, self.timeout, now);
        self.connection.send(work.map(pending).collect());
    }
}
