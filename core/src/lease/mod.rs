//! A slice of a shared bucket, taken ahead and spent locally at a pace.
//!
//! Rates here are whole numbers of thousandths of a token per second, so that a node's part
//! of a small limit is still an integer.

mod demand;
mod grant;
mod second;
mod slice;
mod terms;

pub use grant::{Grant, LeaseAsk, Member, Part, grant_lease};
pub use slice::{Next, Slice, Spent};
pub use terms::{LeaseError, LeaseTerms, MAX_MEMBERS};

/// Nanoseconds in a second times thousandths in a token: what a rate is divided into.
const RATE_NANOS: u128 = 1_000_000_000_000;

/// The tokens that come at `rate` in `nanos`, in thousandths.
const fn milli_tokens(rate: u64, nanos: u64) -> u64 {
    let product = rate as u128 * nanos as u128 / 1_000_000_000;
    if product > u64::MAX as u128 { u64::MAX } else { product as u64 }
}
