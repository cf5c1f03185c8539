#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod batch;
mod breaker;
mod bucket_map;
mod call;
mod client_store;
mod default_prefix;
mod deny_cache;
mod error;
mod fallback;
mod keys;
mod lease;
mod line;
pub mod lock;
mod nanos;
mod pending;
mod per_process;
mod permits;
mod pipeline;
mod plan;
mod replay;
mod request;
mod script;
mod server_state;
mod slot;
mod snapshot;
mod store;
mod transport;
pub mod value;
mod work;

pub use batch::Batch;
pub use breaker::{Outage, StoreBreaker};
pub use bucket_map::{BucketMap, OwedUnder};
pub use call::{Call, Learned, Refusal};
pub use client_store::ClientStore;
pub use default_prefix::{PrefixClaim, PrefixHold};
pub use deny_cache::DenyCache;
pub use error::{Cause, Error, StoreFailure};
pub use fallback::{
    Ask, Guarded, GuardedStore, OnStoreError, StoreChange, StoreHealth, StoreNotice,
};
pub use keys::{Keys, OwnedKeys, RedisKeys, check_prefix, hash_tag};
pub use lease::{LeaseCall, LeaseKeeper, LeaseOptions, LeasePlan, lease_once};
pub use line::{Action, Asked, Cancelled, LOOK_INTERVAL, Line, LineOptions, Waiting};
pub use pending::{PendingQueue, PendingRequest};
pub use per_process::PerProcess;
pub use permits::{
    DeskOptions, PermitAction, PermitCall, PermitDesk, PermitReply, PermitSet, PermitStep,
    PermitTerms, call_permits,
};
pub use pipeline::Reply;
pub use plan::{MAX_KEYS, plan};
pub use replay::step;
pub use request::Request;
pub use script::{
    CANCEL, CHECK, CHECK_EACH, HOLD, LEASE, PERMITS, RESERVE, RESET, SCRIPTS, SETTLE, Script,
    ScriptCall,
};
pub use server_state::{ServerHandle, ServerState};
pub use slot::{SLOTS, slot};
pub use snapshot::{ReplyPart, Snapshot};
pub use store::{Host, Route, Store};
pub use transport::{ClientConnection, Transport};
pub use work::{Addressed, Done, GrantDone, PermitsDone, Work};
