//! The engine for JavaScript hosts, as a WebAssembly module.
//!
//! The host reads the clock, draws the seed and writes keys into the module's
//! memory; the module holds the buckets and takes the decisions. The JavaScript
//! beside it gives both their public shape, see `README.md`. For buckets in Redis the host
//! brings a client, and the module says what travels and what follows from it.

mod buckets;
mod client;
mod clock;
mod engine;
mod failure;
mod key_room;
mod leases;
mod packed;
mod parsed;
mod random;
mod redis;
mod shared;
mod trip;

// What travels to Redis is the same as the native client's, and so are its words, and what is
// answered when that fails.
#[path = "../../../runtime/src/breaker.rs"]
#[allow(dead_code, unreachable_pub, reason = "the native client uses more of it")]
mod breaker;
#[path = "../../../runtime/src/error.rs"]
#[allow(dead_code, unreachable_pub, reason = "the native client uses more of it")]
mod error;
#[path = "../../../runtime/src/fallback/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the native client uses more of it")]
mod fallback;
#[path = "../../../runtime/src/keys.rs"]
#[allow(dead_code, unreachable_pub, reason = "the native client uses more of it")]
mod keys;
#[path = "../../../runtime/src/lease/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "the native client uses more of it")]
mod lease_options;

pub use client::Client;
pub use engine::Engine;
pub use failure::Failure;
pub use leases::LeaseTrip;
pub use parsed::ParsedLimit;
pub use shared::{SharedBuckets, SharedOptions};
pub use trip::Trip;
