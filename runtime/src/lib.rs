#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
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
mod store;

pub use bucket::Bucket;
pub use clock::{FastClock, MonotonicClock, WallClock};
pub use error::Error;
pub use limiter::{Limiter, LimiterBuilder, NamedLimit};
pub use memory::Pressure;
pub use store::Store;
pub use tidegate_core::{Clock, Decision, Limit, ManualClock, Shape, Source};
