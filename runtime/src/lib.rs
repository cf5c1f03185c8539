#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![deny(missing_docs)]
// A build without a feature does not use everything.
#![cfg_attr(
    not(all(feature = "redis", feature = "shm", feature = "__bindings")),
    allow(dead_code, unreachable_pub, unused_imports)
)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod answer;
mod answer_queue;
#[cfg(feature = "__bindings")]
#[doc(hidden)]
pub mod bindings;
mod bounds;
mod bucket;
mod clock;
mod concurrency;
mod default_prefix;
mod fingerprint;
mod generation;
mod host;
mod io;
mod lease;
mod limiter;
mod limits;
mod line;
mod mapping;
mod memory;
mod oneshot;
mod pressure;
#[doc(hidden)]
pub mod quota;
#[cfg(feature = "redis")]
mod redis;
#[cfg(not(feature = "redis"))]
#[path = "redis_unsupported.rs"]
mod redis;
mod reservation;
mod shared_store;
#[cfg(all(feature = "shm", any(target_os = "linux", target_os = "macos")))]
mod shm;
#[cfg(not(all(feature = "shm", any(target_os = "linux", target_os = "macos"))))]
#[path = "shm_unsupported.rs"]
mod shm;
mod store;
mod tables;

pub use bucket::Bucket;
pub use clock::{FastClock, MonotonicClock, WallClock};
pub use concurrency::{Concurrency, ConcurrencyBuilder, Permit};
use generation::generation;
pub use limiter::{Limiter, LimiterBuilder, NamedLimit};
pub use limits::Limits;
pub use pressure::Pressure;
pub use reservation::Reservation;
pub use store::Store;
pub use tidegate_core::{
    AnyLimit, BreakerState, CallEvent, CallOutcome, CallStep, CallTerms, Clock, ControlPolicy,
    ControlReport, Controller, Cost, Decision, Failure, Gate, GateAnswer, GatePolicy, GateReport,
    GiveUp, HoldScope, Limit, ManualClock, Meaning, OnFull, Operation, OutboundCall, Outcome,
    Profile, Reserved, Retry, RetryBudget, RetryPolicy, Row, Shape, Signal, SignalKind,
    SignalReader, Source, StoredKey, TierDecision, TieredDecision, TransportFailure, Unit,
};
use tidegate_protocol::lock;
#[doc(inline)]
pub use tidegate_protocol::{
    Cause, Error, Keys, LeaseOptions, OnStoreError, StoreChange, StoreFailure, StoreHealth,
    StoreNotice, Waiting,
};
