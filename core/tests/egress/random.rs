//! A small generator of random numbers (SplitMix64), so that a history is its seed.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 to `most`.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        self.word() % (most + 1)
    }

    pub(crate) fn one_in(&mut self, number: u64) -> bool {
        self.word().is_multiple_of(number)
    }

    /// An index of a list of the given length, which is not 0.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        (self.word() % length as u64) as usize
    }
}
