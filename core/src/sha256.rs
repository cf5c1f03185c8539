//! SHA-256 (FIPS 180-4), without an allocator.

/// The fractional parts of the square roots of the first eight primes.
#[rustfmt::skip]
const START: [u32; 8] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a,
    0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
];

/// The fractional parts of the cube roots of the first 64 primes.
#[rustfmt::skip]
const ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// The bytes of a block.
const BLOCK: usize = 64;

/// The SHA-256 of `message`.
pub(crate) fn sha256(message: &[u8]) -> [u8; 32] {
    let mut state = START;
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    for block in blocks {
        absorb(&mut state, block);
    }
    // The end of the message: a one bit, zeros, and the length in bits in the last eight bytes.
    let mut last = [0; 2 * BLOCK];
    for (to, from) in last.iter_mut().zip(rest.iter().chain(&[0x80])) {
        *to = *from;
    }
    let used = if rest.len() + 9 <= BLOCK { BLOCK } else { 2 * BLOCK };
    let bits = (message.len() as u64).wrapping_mul(8).to_be_bytes();
    for (to, from) in last.iter_mut().take(used).rev().zip(bits.iter().rev()) {
        *to = *from;
    }
    for block in last.as_chunks::<BLOCK>().0.iter().take(used / BLOCK) {
        absorb(&mut state, block);
    }
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(state.iter().flat_map(|word| word.to_be_bytes())) {
        *to = from;
    }
    digest
}

/// Takes one block into the state.
fn absorb(state: &mut [u32; 8], block: &[u8; BLOCK]) {
    let mut words = [0_u32; 64];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for at in 16..64 {
        let (a, b) = (words[at - 15], words[at - 2]);
        let small = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let large = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        words[at] =
            words[at - 16].wrapping_add(small).wrapping_add(words[at - 7]).wrapping_add(large);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (round, word) in ROUNDS.iter().zip(words) {
        let sum = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let one = h.wrapping_add(sum).wrapping_add(choice).wrapping_add(*round).wrapping_add(word);
        let sum = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let two = sum.wrapping_add(majority);
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(one), c, b, a, one.wrapping_add(two));
    }
    for (word, added) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(added);
    }
}

#[cfg(test)]
mod tests {
    use super::sha256;

    fn first(message: &[u8]) -> u64 {
        u64::from_be_bytes(sha256(message).first_chunk().copied().unwrap_or_default())
    }

    /// The first eight bytes of digests that another implementation (Python's hashlib) has computed.
    #[test]
    fn agrees_with_another_implementation() {
        assert_eq!(first(b"abc"), 0xba78_16bf_8f01_cfea);
        for (length, expect) in [
            (0, 0xe3b0_c442_98fc_1c14),
            (1, 0xca97_8112_ca1b_bdca),
            (55, 0x9f43_90f8_d30c_2dd9),
            (56, 0xb354_39a4_ac6f_0948),
            (63, 0x7d3e_74a0_5d7d_b15b),
            (64, 0xffe0_54fe_7ae0_cb6d),
            (65, 0x6353_61c4_8bb9_eab1),
            (119, 0x31eb_a51c_313a_5c08),
            (120, 0x2f3d_3354_32c7_0b58),
            (128, 0x6836_cf13_bac4_00e9),
            (1025, 0x4a82_2978_89eb_505c),
            (70000, 0x6691_5c08_7293_3db5),
        ] {
            let message = [b'a'; 70_000];
            let message = message.get(..length).unwrap_or_default();
            assert_eq!(first(message), expect, "{length}");
        }
    }
}
