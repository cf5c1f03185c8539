//! The engine for JavaScript hosts, as a WebAssembly module.
//!
//! The host reads the clock, draws the seed and writes keys into the module's memory; the module
//! keeps the buckets and takes the decisions. The JavaScript beside it gives both their public
//! shape, see `README.md`. For buckets in Redis the host brings a client: the module then makes the
//! commands to send, and reads the replies.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

#[cfg(feature = "shared")]
mod batch;
mod border;
#[cfg_attr(not(feature = "tables"), path = "buckets_in_map.rs")]
mod buckets;
#[cfg(feature = "shared")]
mod client;
#[cfg(feature = "shared")]
mod completion;
mod cost_room;
mod engine;
mod failure;
mod host;
mod key_room;
mod line;
#[cfg(feature = "signals")]
mod outbound;
#[cfg(feature = "shared")]
mod packed_commands;
mod parsed_limit;
#[cfg(feature = "tables")]
mod room;
mod seed;
#[cfg(feature = "shared")]
mod shared_buckets;
#[cfg(feature = "shared")]
mod shared_lines;
#[cfg(feature = "signals")]
mod signal;
mod spare_memory;

#[cfg(feature = "shared")]
pub use batch::Batch;
#[cfg(feature = "shared")]
pub use client::Client;
pub use engine::Engine;
pub use failure::Failure;
#[cfg(feature = "signals")]
pub use outbound::{OutboundCall, RetryBudget, is_idempotent, profile_of_host};
pub use parsed_limit::ParsedLimit;
#[cfg(feature = "shared")]
pub use shared_buckets::{SharedBuckets, SharedOptions};
#[cfg(feature = "signals")]
pub use signal::ReadSignal;
