//! The shared bucket for Node: names and conversions around the crate `tidegate`.
//!
//! The JavaScript in `lib/` gives this its public shape. Buckets in memory do not
//! come here: they are in the WebAssembly engine, which answers faster (see
//! `bench/memory-engine.mjs`).

mod answer;
mod completions;
mod limiter;

pub use answer::{Answer, Failure};
pub use completions::{Completion, Completions};
pub use limiter::{LimitText, NativeLimiter, OpenOptions, open_limiter};
