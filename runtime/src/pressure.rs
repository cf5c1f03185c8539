//! What a bounded store could not keep.

use core::iter::Sum;

/// What a store with a bounded number of keys could not keep since it was made. If either number
/// grows, `max_keys` is too small for the keys that owe something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Buckets that were dropped for new keys although they owed something: their keys
    /// may spend what they had owed again.
    pub evicted: u64,
    /// Calls that were refused because there was no room for their new key.
    pub denied: u64,
}

impl Sum for Pressure {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            evicted: sum.evicted + part.evicted,
            denied: sum.denied + part.denied,
        })
    }
}
