//! The engine for JavaScript hosts, as a WebAssembly module.
//!
//! The host reads the clock, draws the seed and writes keys into the module's
//! memory; the module holds the buckets and takes the decisions. The JavaScript
//! beside it gives both their public shape, see `README.md`.

mod buckets;
mod engine;
mod failure;
mod keys;
mod parsed;

pub use engine::Engine;
pub use failure::Failure;
pub use parsed::ParsedLimit;
