//! Code that the conformance tests share: the vectors as types, real redis-servers, and the Lua
//! twin in this process.

pub mod case;
pub mod egress_vectors;
pub mod forgetful_proxy;
pub mod lease_twin;
pub mod lua_twin;
pub mod operation_vectors;
pub mod permit_twin;
pub mod redis_group;
pub mod redis_server;
pub mod redis_twin;
pub mod signal_vectors;
pub mod vectors;
pub mod waiting_vectors;

/// The examples of `docs/outbound.md`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/outbound.md")]
pub struct OutboundDocs;

/// The examples of `docs/concurrency.md`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/concurrency.md")]
pub struct ConcurrencyDocs;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
