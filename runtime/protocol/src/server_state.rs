//! What a process remembers of a server, for all limiters that use it.

use core::sync::atomic::AtomicBool;
use std::sync::Arc;

use tidegate_core::{MAX_TIERS, Operation, Outcome};

use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::per_process::PerProcess;
use crate::script::KnownScripts;
use crate::work::Done;

/// The keys that a server has refused, and the scripts that it knows.
#[derive(Default)]
pub struct ServerState {
    /// Keys that were refused a moment ago.
    pub(crate) refused: DenyCache,
    /// Scripts that need not be sent as text.
    pub(crate) known: KnownScripts,
    /// Whether it takes only keys of one hash slot in one call, as a node of a cluster does that is
    /// used like a single server.
    pub(crate) by_slot: AtomicBool,
}

/// The state of one server as each process has it: a forked child begins with none.
#[derive(Clone)]
pub struct ServerHandle(Arc<PerProcess<Arc<ServerState>>>);

impl ServerHandle {
    /// A server of which nothing is known. `process` is that of [`Host`](crate::Host).
    pub fn new(process: fn() -> u32) -> Self {
        Self(Arc::new(PerProcess::new(process)))
    }

    /// The state of this process.
    pub fn state(&self) -> &Arc<ServerState> {
        self.0.get_or_default()
    }
}

impl ServerState {
    /// Forgets the refusals of keys to which an operation may give something back: now, and again
    /// before `done` is called, because a batch in flight may bring a refusal meanwhile.
    pub(crate) fn forgetting(
        self: &Arc<Self>,
        keys: &[Vec<u8>],
        operation: &Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) -> Done {
        if !gives_back(operation) {
            return Box::new(done);
        }
        let (server, keys) = (Arc::clone(self), keys.to_vec());
        keys.iter().for_each(|key| server.refused.forget(key));
        Box::new(move |outcome| {
            keys.iter().for_each(|key| server.refused.forget(key));
            done(outcome);
        })
    }
}

/// Whether an operation may leave a bucket owing less than it did.
fn gives_back(operation: &Operation) -> bool {
    match operation {
        Operation::Check { .. }
        | Operation::Peek { .. }
        | Operation::Reserve { .. }
        | Operation::Hold { .. } => false,
        Operation::Settle { charged, actual } => {
            (0..MAX_TIERS).any(|tier| actual.of_tier(tier) < charged.of_tier(tier))
        }
        Operation::Cancel(_) | Operation::Credit { .. } | Operation::Reset => true,
    }
}
