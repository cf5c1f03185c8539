//! The options of a lease.

use core::time::Duration;

use tidegate_core::{LeaseTerms, Limit};

use crate::error::Error;
use crate::nanos::nanos;

/// How a limiter leases slices of its shared buckets; see
/// `LimiterBuilder::lease`.
///
/// ```
/// use core::time::Duration;
/// use tidegate::{LeaseOptions, Limiter};
/// let limiter = Limiter::builder()
///     .limit("1000/s")
///     .store_url("redis://127.0.0.1/")
///     .lease(LeaseOptions::new(Duration::from_secs(1)).max_share(0.5))
///     .build()?;
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeaseOptions {
    ttl: Duration,
    max_share: f64,
}

impl LeaseOptions {
    /// Slices that live for `ttl`: 100 ms to 60 s, in whole milliseconds. A crashed process
    /// wastes its slice for as long at most.
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, max_share: 1.0 }
    }

    /// The largest part of the rate that one process may take: 0.001 to 1, which it is
    /// unless given. Counted in thousandths.
    #[must_use]
    pub const fn max_share(self, max_share: f64) -> Self {
        Self { max_share, ..self }
    }

    /// Checks what does not depend on the limits, for a store whose buckets are not leased.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a value out of bounds.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), Error> {
        let fast = Limit::parse("1000000/s").map_err(Error::from_engine)?;
        self.terms(&[fast]).map(drop)
    }

    /// The same for the limits of a limiter.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a value out of bounds, or too few tokens to be shared.
    #[doc(hidden)]
    pub fn terms(&self, limits: &[Limit]) -> Result<LeaseTerms, Error> {
        // Out of range, and not a number, become a share that is refused by name.
        let thousandths = (self.max_share * 1_000.0).round() as u64;
        let most = if self.max_share <= 1.0 { thousandths } else { u64::MAX };
        LeaseTerms::new(limits, nanos(self.ttl), most)
            .map_err(|error| Error::argument("lease", error.to_string()))
    }
}
