//! A client that the program brings: it does the I/O, and what is sent and what follows from the
//! replies is decided here.

use std::sync::Arc;

use crate::pending::PendingRequest;
use crate::server_state::{ServerHandle, ServerState};

/// Carries requests over a client of the program's own.
pub trait Transport: Send + Sync {
    /// Takes requests that belong together. They are sent in order, in one
    /// [`Batch`](crate::Batch) or with others, before this returns or later.
    fn send(&self, requests: Vec<PendingRequest>);
}

/// A client of the program's own, for any number of limiters.
pub struct ClientConnection {
    transport: Box<dyn Transport>,
    server: ServerHandle,
    name: Box<str>,
}

impl ClientConnection {
    /// A connection over `transport`. The batches of the transport are made with the same
    /// `server`. Its name in logs is `place`, such as host and port, without secrets; `None` where the
    /// client does not say it.
    pub fn new(
        transport: impl Transport + 'static,
        server: ServerHandle,
        place: Option<&str>,
    ) -> Arc<Self> {
        let name = match place {
            Some(place) => format!("the Redis client of {place}").into(),
            None => "the Redis client of the program".into(),
        };
        Arc::new(Self { transport: Box::new(transport), server, name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn server(&self) -> &Arc<ServerState> {
        self.server.state()
    }

    pub(crate) fn send(&self, requests: Vec<PendingRequest>) {
        if !requests.is_empty() {
            self.transport.send(requests);
        }
    }
}
