use core::fmt;
use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// Turns keys into the 64 bits by which a table knows them, with a secret seed, so that
/// nobody can choose keys that meet.
#[derive(Clone)]
pub(crate) struct Fingerprinter {
    shared: SharedSeed,
    own: u64,
}

impl Fingerprinter {
    /// The same seed gives the same fingerprints in every process of one build.
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        Self { shared: SharedSeed::from_u64(seed[0]), own: seed[1] }
    }

    #[inline]
    pub(crate) fn of(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.shared);
        hasher.write(key);
        hasher.finish()
    }
}

/// Without the seed, which is a secret.
impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}
