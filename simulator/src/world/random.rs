//! Random numbers: one stream for each component, by its name.

/// A SplitMix64 stream. Its start is a hash of the seed and the component's name, so that a component
/// that is added changes no other's numbers.
#[derive(Clone, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self(mix(seed ^ fnv1a(name.as_bytes())))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// An exponentially distributed number with the given mean.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let nats = negative_ln(self.next() | 1);
        u64::try_from((u128::from(mean) * u128::from(nats)) >> 32).unwrap_or(u64::MAX)
    }
}

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// `-ln(word / 2^64)` with 32 binary places, for a `word` of at least 1. Integers only, because the
/// platforms' `ln` differ in their last digit.
fn negative_ln(word: u64) -> u64 {
    const LN_2: u128 = 2_977_044_472;
    let zeros = word.leading_zeros();
    // The mantissa is in [1, 2) with 63 binary places. Each squaring gives a digit of its logarithm.
    let mut mantissa = u128::from(word << zeros);
    let mut digits = 0u64;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        digits <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            digits |= 1;
        }
    }
    let log2 = (u64::from(63 - zeros) << 32) | digits;
    let halvings = (64u64 << 32) - log2;
    ((u128::from(halvings) * LN_2) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::{Stream, negative_ln};

    #[test]
    fn the_logarithm_is_right_to_eight_digits() {
        for word in [1, 3, 1 << 20, u64::MAX / 7, u64::MAX / 2, u64::MAX - 5, u64::MAX] {
            let exact = -(word as f64 / 2f64.powi(64)).ln();
            let ours = negative_ln(word) as f64 / 2f64.powi(32);
            assert!((ours - exact).abs() < 1e-8, "{word}: {ours} {exact}");
        }
    }

    #[test]
    fn a_stream_depends_on_its_seed_and_its_name_only() {
        let first = |seed, name| Stream::new(seed, name).next();
        assert_eq!(first(1, "source"), first(1, "source"));
        assert_ne!(first(1, "source"), first(2, "source"));
        assert_ne!(first(1, "source"), first(1, "vendor"));
    }

    #[test]
    fn an_exponential_has_its_mean() {
        let mut stream = Stream::new(7, "test");
        let sum: u64 = (0..100_000).map(|_| stream.exponential(1_000_000)).sum();
        assert!((990_000..1_010_000).contains(&(sum / 100_000)), "{sum}");
    }
}
