//! The keys of a call, as JavaScript gives them.

use napi::bindgen_prelude::{Either, Either3, Uint8Array};
use tidegate::Keys;

/// One key for all limits, or one for each limit.
pub(crate) type KeyOrKeys = Either3<String, Uint8Array, Vec<Either<String, Uint8Array>>>;

/// The bytes of a [`KeyOrKeys`], from which [`Keys`] can be borrowed.
pub(crate) enum KeyBytes<'k> {
    One(&'k [u8]),
    Each(Vec<&'k [u8]>),
}

impl<'k> From<&'k KeyOrKeys> for KeyBytes<'k> {
    fn from(keys: &'k KeyOrKeys) -> Self {
        let one = |key: &'k Either<String, Uint8Array>| -> &'k [u8] {
            match key {
                Either::A(text) => text.as_bytes(),
                Either::B(bytes) => bytes,
            }
        };
        match keys {
            Either3::A(text) => Self::One(text.as_bytes()),
            Either3::B(bytes) => Self::One(bytes),
            Either3::C(keys) => Self::Each(keys.iter().map(one).collect()),
        }
    }
}

impl<'k> From<&'k KeyBytes<'k>> for Keys<'k> {
    fn from(bytes: &'k KeyBytes<'k>) -> Self {
        match bytes {
            KeyBytes::One(key) => Self::One(key),
            KeyBytes::Each(keys) => Self::Each(keys),
        }
    }
}
