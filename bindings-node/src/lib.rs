//! The addon for Node: names and conversions around the crate `tidegate`.
//!
//! The JavaScript in `lib/` gives it its public shape. Buckets in memory do not come here: the
//! WebAssembly engine keeps them, because it answers faster (see `bench/memory-engine.mjs`). Concurrency
//! permits in memory do.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod answer;
mod completions;
mod concurrency;
mod keys;
mod limiter;
mod millis;
mod reservation;
mod store_changes;
mod tokens;

pub use answer::Failure;
pub use completions::{Answers, Completion, Completions};
pub use concurrency::{
    ConcurrencyFields, Entered, NativeConcurrency, NativePermit, NativePermitWaiter,
    open_concurrency,
};
pub use limiter::{
    CheckInput, LeaseFields, LimitText, NativeLimiter, NativeWaiter, OpenOptions, PressureCounts,
    StoreHealthCounts, WaitingCounts, open_limiter,
};
pub use reservation::{NativeReservation, Reserved};
pub use store_changes::on_store_change;
