use core::hash::BuildHasher as _;
use std::hash::RandomState;

/// A number by chance, not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
