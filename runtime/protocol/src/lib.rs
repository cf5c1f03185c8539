#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod breaker;
mod call;
mod carried;
mod courier;
mod deny_cache;
mod error;
mod exchange;
mod fallback;
mod keys;
mod lease;
pub mod lock;
mod nanos;
mod per_process;
mod plan;
mod replay;
mod request;
mod script;
mod seen;
mod store;
pub mod value;

pub use breaker::{Outage, StoreBreaker};
pub use call::{Call, Refusal};
pub use carried::Carried;
pub use courier::{Carriage, Courier, Errand, Outbox, Trip};
pub use deny_cache::DenyCache;
pub use error::Error;
pub use exchange::{Exchange, Reply, ScriptCall};
pub use fallback::{Guarded, GuardedStore, LeaseAttempt, OnStoreError, StoreHealth};
pub use keys::{Keys, OwnedKeys, RedisKeys, check_prefix, hash_tag};
pub use lease::{Contract, LeaseCall, LeaseOptions};
pub use per_process::PerProcess;
pub use plan::{MAX_KEYS, plan};
pub use replay::step;
pub use request::Request;
pub use script::{CANCEL, CHECK, CHECK_EACH, HOLD, LEASE, RESERVE, RESET, SCRIPTS, SETTLE, Script};
pub use seen::{Part, Seen};
pub use store::{Ask, Done, Host, Ready, Store, Way};
