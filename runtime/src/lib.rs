#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![deny(missing_docs)]

#[doc(hidden)]
pub mod answer;
mod bucket;
mod clock;
mod error;
mod fingerprint;
mod key;
mod limiter;
mod memory;
#[doc(hidden)]
pub mod redis;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod shm;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
#[path = "shm_unsupported.rs"]
mod shm;
mod store;

pub use bucket::Bucket;
pub use clock::{FastClock, MonotonicClock, WallClock};
pub use error::Error;
pub use limiter::{Limiter, LimiterBuilder, NamedLimit};
pub use memory::MemoryStore;
pub use store::Store;
pub use tidegate_core::{Clock, Decision, Limit, ManualClock, Shape, Source};
