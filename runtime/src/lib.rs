#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[doc(hidden)]
pub mod answer;
mod bucket;
mod clock;
mod error;
mod keys;
mod limiter;
mod memory;
#[doc(hidden)]
pub mod redis;
mod reservation;
mod store;
mod timer;

pub use bucket::Bucket;
pub use clock::{FastClock, MonotonicClock, WallClock};
pub use error::Error;
pub use keys::Keys;
pub use limiter::{Limiter, LimiterBuilder, NamedLimit};
pub use memory::MemoryStore;
pub use reservation::Reservation;
pub use store::Store;
pub use tidegate_core::{
    Clock, Decision, Limit, ManualClock, Operation, Outcome, Reserved, Shape, Source,
};
