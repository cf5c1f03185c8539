//! The shared bucket for Node: names and conversions around the crate `tidegate`.
//!
//! The JavaScript in `lib/` gives this its public shape. Buckets in memory do not
//! come here: they are in the WebAssembly engine, which answers faster (see
//! `bench/memory-engine.mjs`).

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod answer;
mod completions;
mod keys;
mod limiter;
mod reservation;

pub use answer::{Answer, Failure, Reserved, source_names};
pub use completions::{Answers, Completion, Completions};
pub use limiter::{
    CheckInput, LeaseFields, LimitText, NativeLimiter, OpenOptions, PressureCounts,
    StoreHealthCounts, open_limiter,
};
pub use reservation::NativeReservation;
