#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

#[doc(hidden)]
pub mod answer;
#[doc(hidden)]
pub mod answer_queue;
mod bucket;
mod clock;
mod fingerprint;
mod generation;
mod host;
mod lease;
mod limiter;
mod mapping;
mod memory;
#[doc(hidden)]
pub mod oneshot;
mod pressure;
#[doc(hidden)]
pub mod redis;
mod reservation;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod shm;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
#[path = "shm_unsupported.rs"]
mod shm;
mod store;
mod tables;
mod timer;

pub use bucket::Bucket;
pub use clock::{FastClock, MonotonicClock, WallClock};
#[doc(hidden)]
pub use generation::generation;
pub use limiter::{Limiter, LimiterBuilder, NamedLimit};
pub use pressure::Pressure;
#[doc(hidden)]
pub use reservation::CancelOnDrop;
pub use reservation::Reservation;
pub use store::Store;
pub use tidegate_core::{
    BreakerState, Clock, Decision, Limit, ManualClock, OnFull, Operation, Outcome, Reserved, Shape,
    Source,
};
#[doc(inline)]
pub use tidegate_protocol::{
    Cause, Error, Keys, LeaseOptions, OnStoreError, StoreFailure, StoreHealth,
};
#[doc(hidden)]
pub use tidegate_protocol::{PerProcess, lock};
