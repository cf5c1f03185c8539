//! The keyed hash of bucket keys.

use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use tidegate_core::MAX_TIERS;

use crate::key_room::Keys;

/// The random key of the hash. Bucket keys come from outside, and the hash is keyed so that nobody
/// can choose keys that share a bucket or crowd a window.
pub(crate) struct Seed {
    shared: SharedSeed,
    own: u64,
}

impl Seed {
    pub(crate) fn new(shared: u64, own: u64) -> Self {
        Self { shared: SharedSeed::from_u64(shared), own }
    }

    /// The hash of the key of each place.
    pub(crate) fn fingerprints(&self, keys: &Keys<'_>) -> [u64; MAX_TIERS] {
        match keys {
            Keys::One(key) => [self.fingerprint(key); MAX_TIERS],
            // The rotation keeps these buckets apart from those under one key.
            Keys::Each(keys) => keys.map(|key| self.fingerprint(key).rotate_left(32)),
        }
    }

    /// The hash of a key for all limits.
    #[inline]
    pub(crate) fn fingerprint(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.shared);
        hasher.write(key);
        hasher.finish()
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::new(0, 0)
    }
}
