//! Keys as stores keep them: a key of any length and any bytes has a bucket.

use crate::bounds::MAX_KEY;
use crate::sha256::sha256;

/// What stands before the digest of a key.
const MARK: &[u8; 7] = b"sha256:";

/// The length of a digest as text, in bytes: the mark and 64 hexadecimal digits.
const DIGEST_TEXT: usize = 71;

/// A key as every store keeps it: at most [`MAX_KEY`] bytes.
///
/// A key within the bound is kept as it is, the empty one too. A longer one is replaced by
/// `sha256:` and its SHA-256 in lower-case hexadecimal digits. So keys come from strangers without
/// an error that one of them could provoke, a store keeps a bounded number of bytes for each, and two
/// long keys do not share a bucket. The replacement is the same in every language and on every
/// store, and replacing it again changes nothing: the text `sha256:…` names the same bucket.
///
/// ```
/// use tidegate_core::StoredKey;
/// assert_eq!(StoredKey::new(b"user:42").as_bytes(), b"user:42");
/// let long = StoredKey::new(&[b'a'; 1025]);
/// assert!(long.as_bytes().starts_with(b"sha256:"));
/// assert_eq!(StoredKey::new(long.as_bytes()).as_bytes(), long.as_bytes());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKey<'k>(Form<'k>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'k> {
    Given(&'k [u8]),
    Digest([u8; DIGEST_TEXT]),
}

impl<'k> StoredKey<'k> {
    /// The stored form of any bytes.
    #[inline]
    pub fn new(key: &'k [u8]) -> Self {
        if key.len() <= MAX_KEY { Self(Form::Given(key)) } else { Self::digest(key) }
    }

    /// The stored form of a key for a protocol that has text only, such as Envoy's rate limit
    /// service: bytes that are not UTF-8 are replaced by their digest as well.
    #[inline]
    pub fn text(key: &'k [u8]) -> Self {
        if core::str::from_utf8(key).is_ok() { Self::new(key) } else { Self::digest(key) }
    }

    #[cold]
    fn digest(key: &[u8]) -> Self {
        let mut text = [0; DIGEST_TEXT];
        let (mark, digits) = text.split_at_mut(MARK.len());
        mark.copy_from_slice(MARK);
        let halves = sha256(key).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (digit, half) in digits.iter_mut().zip(halves) {
            *digit = if half < 10 { b'0' + half } else { b'a' + half - 10 };
        }
        Self(Form::Digest(text))
    }

    /// Whether the key is replaced by its digest.
    pub const fn is_digest(&self) -> bool {
        matches!(self.0, Form::Digest(_))
    }

    /// The bytes that are stored.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Given(key) => key,
            Form::Digest(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_within_the_bound_are_kept_and_longer_ones_become_their_digest() {
        for key in [&b""[..], b"a", b"\xFF\0", &[b'a'; MAX_KEY]] {
            assert_eq!(StoredKey::new(key).as_bytes(), key);
        }
        let long = StoredKey::new(&[b'a'; MAX_KEY + 1]);
        // As `head -c 1025 /dev/zero | tr '\0' a | sha256sum` says.
        let digest = b"sha256:4a82297889eb505cf6b5cbdf69977afab4632d6557539782f657bd7dc78091a5";
        assert_eq!((long.as_bytes(), long.is_digest()), (&digest[..], true));
        assert_eq!(StoredKey::new(long.as_bytes()).as_bytes(), long.as_bytes());
    }

    #[test]
    fn text_replaces_what_is_not_utf_8_too() {
        assert_eq!(StoredKey::text("é".as_bytes()).as_bytes(), "é".as_bytes());
        assert!(StoredKey::text(b"\xE9").is_digest());
        assert_ne!(StoredKey::text(b"\xE9"), StoredKey::text(b"\xE8"));
        assert_eq!(StoredKey::text(&[b'a'; 2000]), StoredKey::new(&[b'a'; 2000]));
    }
}
