//! What a process remembers of a server, for all limiters that use it.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tidegate_core::{Operation, OperationKind, Outcome};

use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::per_process::PerProcess;
use crate::plan::Together;
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
    /// Whether each call must have a single key, because a proxy sends a call where its first key lives.
    per_key: Arc<AtomicBool>,
}

/// The state of one server as each process has it: a forked child begins with none.
#[derive(Clone)]
pub struct ServerHandle {
    states: Arc<PerProcess<Arc<ServerState>>>,
    /// Holds in every process, because a limiter has said it.
    per_key: Arc<AtomicBool>,
}

impl ServerHandle {
    /// A server of which nothing is known. `process` is that of [`Host`](crate::Host).
    pub fn new(process: fn() -> u32) -> Self {
        Self { states: Arc::new(PerProcess::new(process)), per_key: Arc::default() }
    }

    /// The state of this process.
    pub fn state(&self) -> &Arc<ServerState> {
        let per_key = || Arc::clone(&self.per_key);
        self.states
            .get_or_init(|| Arc::new(ServerState { per_key: per_key(), ..ServerState::default() }))
    }

    /// Sends a single key in each call from now on, for all limiters that use the server.
    pub fn send_keys_apart(&self) {
        self.per_key.store(true, Ordering::Relaxed);
    }
}

impl ServerState {
    /// A server of which nothing is known, and to which each call has a single key if `per_key` is set.
    pub fn new(per_key: bool) -> Self {
        Self { per_key: Arc::new(AtomicBool::new(per_key)), ..Self::default() }
    }

    pub(crate) fn together(&self) -> Together {
        match (self.per_key.load(Ordering::Relaxed), self.by_slot.load(Ordering::Relaxed)) {
            (true, _) => Together::Key,
            (false, true) => Together::Slot,
            (false, false) => Together::All,
        }
    }

    /// Forgets the refusals of keys whose buckets an operation may change: now, and again before `done`
    /// is called, because a batch in flight may bring a refusal meanwhile. That of a bucket which owes
    /// more since, after a hold for example, would promise tokens too soon.
    pub(crate) fn forgetting(
        self: &Arc<Self>,
        keys: &[Vec<u8>],
        operation: &Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) -> Done {
        if !changes_buckets(operation) {
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

/// Whether an operation may change what a bucket owes that refuses checks.
const fn changes_buckets(operation: &Operation) -> bool {
    match operation.kind() {
        // A check that such a bucket allows is of a smaller cost. Its answer is not kept, and the refusal
        // is then too short by that cost at most until the key is asked for again.
        OperationKind::Check(_) | OperationKind::Peek(_) => false,
        OperationKind::Reserve { .. } | OperationKind::Cancel(_) | OperationKind::Correction(_) => {
            true
        }
    }
}
