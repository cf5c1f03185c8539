//! Keys as JavaScript gives them.

use napi::bindgen_prelude::{Either, Either3, Uint8Array};
use tidegate::Keys;

/// One key for all limits, or one for each, as JavaScript gives them.
pub(crate) type KeyOrKeys = Either3<String, Uint8Array, Vec<Either<String, Uint8Array>>>;

/// The same, lent to the crate `tidegate`.
pub(crate) enum Lent<'k> {
    One(&'k [u8]),
    Each(Vec<&'k [u8]>),
}

impl<'k> From<&'k KeyOrKeys> for Lent<'k> {
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

impl<'k> From<&'k Lent<'k>> for Keys<'k> {
    fn from(lent: &'k Lent<'k>) -> Self {
        match lent {
            Lent::One(key) => Self::One(key),
            Lent::Each(keys) => Self::Each(keys),
        }
    }
}
