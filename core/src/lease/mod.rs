//! Leases: a node takes a slice of a shared bucket ahead and spends it locally at a pace.
//!
//! Rates here are whole numbers of thousandths of a token per second, so that a node's share
//! of a small limit is still an integer.

mod grant;
mod rate_meter;
mod slice;
mod sliding_second;
mod terms;

pub use grant::{Grant, LeaseAsk, LeasedBucket, NodeRecord, ShareKind, grant_lease};
pub use slice::{Next, Slice, SpendResult};
pub use terms::{LeaseError, LeaseTerms, MAX_NODES};

use crate::bounds::NANOS_PER_SECOND;

/// A rate is this many times the tokens, divided by the nanoseconds in which they come: the
/// nanoseconds of a second times the thousandths of a token.
const RATE_NANOS: u128 = 1_000_000_000_000;

/// The tokens that come at `rate` in `nanos`, in thousandths.
const fn milli_tokens(rate: u64, nanos: u64) -> u64 {
    let product = rate as u128 * nanos as u128 / NANOS_PER_SECOND as u128;
    if product > u64::MAX as u128 { u64::MAX } else { product as u64 }
}
