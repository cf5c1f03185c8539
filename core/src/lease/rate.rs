//! Rates of leases, in thousandths of a token per second.

use crate::bounds::NANOS_PER_SECOND;

/// A rate is this many times the tokens, divided by the nanoseconds in which they come: the
/// nanoseconds of a second times the thousandths of a token.
pub(super) const RATE_NANOS: u128 = 1_000_000_000_000;

/// The tokens that come at `rate` in `nanos`, in thousandths.
pub(super) const fn milli_tokens(rate: u64, nanos: u64) -> u64 {
    let product = rate as u128 * nanos as u128 / NANOS_PER_SECOND as u128;
    if product > u64::MAX as u128 { u64::MAX } else { product as u64 }
}
