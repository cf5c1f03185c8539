//! Hashes keys for tables.

use core::fmt;
use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use tidegate_core::{MAX_KEY, MAX_TIERS, StoredKey};
use tidegate_protocol::Host as _;

use crate::Keys;
use crate::host::NativeHost;

/// Hashes keys to the 64 bits by which a table knows them. The seed is secret, so that nobody can
/// choose keys that share a bucket or crowd a window.
///
/// The hash is not cryptographic. It need not be, because none of its bits can be seen from outside,
/// and two keys with the same hash only share a bucket.
#[derive(Clone)]
pub(crate) struct Fingerprinter {
    shared: SharedSeed,
    own: u64,
}

impl Fingerprinter {
    /// A hasher with a new seed, from the system's randomness.
    pub(crate) fn random() -> Self {
        Self::new([NativeHost::random(), NativeHost::random()])
    }

    /// The same seed gives the same fingerprints in every process of one build.
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        Self { shared: SharedSeed::from_u64(seed[0]), own: seed[1] }
    }

    /// The fingerprint of a key's stored form.
    #[inline]
    pub(crate) fn of(&self, key: &[u8]) -> u64 {
        if key.len() > MAX_KEY { self.of_long(key) } else { self.of_stored(key) }
    }

    /// The fingerprints of a call's keys, one for each limit.
    #[inline(always)]
    pub(crate) fn of_keys(&self, keys: Keys<'_>) -> [u64; MAX_TIERS] {
        match keys {
            Keys::One(key) => [self.of(key); MAX_TIERS],
            // The rotation keeps these buckets apart from those under one key.
            Keys::Each(keys) => core::array::from_fn(|tier| {
                keys.get(tier).map_or(0, |key| self.of(key).rotate_left(32))
            }),
        }
    }

    #[cold]
    #[inline(never)]
    fn of_long(&self, key: &[u8]) -> u64 {
        self.of_stored(StoredKey::new(key).as_bytes())
    }

    #[inline]
    fn of_stored(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.shared);
        hasher.write(key);
        hasher.finish()
    }
}

/// Shows everything but the seed, which is secret.
impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_make_other_fingerprints_of_the_same_keys() {
        let fingerprints = [[1, 2], [1, 3], [2, 2]].map(|seed| Fingerprinter::new(seed).of(b"key"));
        assert_ne!(fingerprints[0], fingerprints[1]);
        assert_ne!(fingerprints[0], fingerprints[2]);
        assert_ne!(Fingerprinter::random().of(b"key"), Fingerprinter::random().of(b"key"));
        assert_eq!(Fingerprinter::new([1, 2]).of(b"key"), fingerprints[0]);
    }
}
