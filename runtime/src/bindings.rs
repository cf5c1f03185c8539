//! What only Tidegate's bindings and tests use, with the feature `__bindings`. It is not part of the
//! public API and may change in any version. `limiter/bindings.rs` has the methods.

use core::time::Duration;
use std::sync::Arc;

use tidegate_protocol::Host as _;

use crate::host::NativeHost;
use crate::{Error, Store};

pub use crate::answer::{after_batch, decision, tiered};
pub use crate::answer_queue::{AnswerQueue, Pushed};
pub use crate::bounds::{
    MAX_CHECKS, invalid_deny_cache, invalid_max_keys, invalid_max_waiting, invalid_store_timeout,
    too_many_checks,
};
pub use crate::concurrency::PermitWaiter;
pub use crate::generation::generation;
pub use crate::limiter::{Granted, Waiter};
pub use crate::oneshot::{OneshotReceiver, OneshotSender, oneshot};
pub use crate::reservation::CancelOnDrop;
pub use tidegate_core::{
    Admission, DeadReason, Egress, EgressAction, EgressCounts, EgressGauges, EgressMessage,
    EgressOrder, EgressPartition, EgressResponse, EgressTerms, HeldMessage,
};
pub use tidegate_protocol::{
    Batch, CANCEL, CHECK, CHECK_EACH, Call, ClientConnection, ClientStore, HOLD, LEASE, LeaseCall,
    MAX_KEYS, PERMITS, PendingQueue, PendingRequest, PerProcess, PermitCall, PermitReply,
    PermitSet, PermitStep, PermitTerms, RESERVE, RESET, Refusal, Reply, ReplyPart, Request,
    SCRIPTS, SETTLE, Script, ScriptCall, ServerHandle, Snapshot, Transport, lock, plan, step,
    value,
};

/// The clock of deadlines, in nanoseconds.
pub fn now() -> u64 {
    NativeHost::now()
}

/// A store over a client of the program's own. `timeout` is how long callers wait: 1 ms to 60 s.
///
/// # Errors
/// [`Error::InvalidArgument`] for the timeout.
pub fn store_over_client(
    connection: Arc<ClientConnection>,
    timeout: Duration,
) -> Result<Store, Error> {
    Store::over_client(connection, timeout)
}
