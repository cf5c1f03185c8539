//! The engine for JavaScript hosts, as a WebAssembly module.
//!
//! The host reads the clock, draws the seed and writes keys into the module's memory; the module
//! keeps the buckets and takes the decisions. The JavaScript beside it gives both their public
//! shape, see `README.md`. For buckets in Redis the host brings a client: the module then makes the
//! commands to send, and reads the replies.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod batch;
mod border;
mod buckets;
mod client;
mod completion;
mod cost_room;
mod engine;
mod failure;
mod host;
mod key_room;
mod line;
mod packed_commands;
mod parsed_limit;
mod room;
mod shared_buckets;
mod shared_lines;
mod signal;

pub use batch::Batch;
pub use client::Client;
pub use engine::Engine;
pub use failure::Failure;
pub use parsed_limit::ParsedLimit;
pub use shared_buckets::{SharedBuckets, SharedOptions};
pub use signal::ReadSignal;
