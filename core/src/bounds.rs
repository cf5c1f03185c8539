//! The bounds of limits, calls and keys. They have a file of their own because errors, limits and
//! timelines all name them.

/// Nanoseconds in a second.
pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds in a millisecond.
pub(crate) const NANOS_PER_MILLI: u64 = 1_000_000;

/// The fastest rate a limit can have: one token per nanosecond.
pub const MAX_RATE_PER_SECOND: u64 = NANOS_PER_SECOND;

/// The longest time that a smooth bucket may take to refill, in nanoseconds, and the most tokens
/// that a stepped one may hold: 2^53. Up to there a double is exact, so that the Lua twin in Redis
/// computes with the same integers.
pub const MAX_SPAN: u64 = 1 << 53;

/// The longest time that a stepped bucket may take to refill: a hundred years of 365 days, in
/// nanoseconds.
pub(crate) const MAX_STEPPED_FILL: u64 = 100 * 365 * 86_400 * NANOS_PER_SECOND;

/// The most limits that one limiter can hold.
pub const MAX_TIERS: usize = 4;

/// The longest key that a store keeps as it is, in bytes. A longer one is replaced by its digest;
/// see [`StoredKey`](crate::StoredKey).
pub const MAX_KEY: usize = 1024;
