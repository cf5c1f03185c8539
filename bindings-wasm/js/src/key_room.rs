//! The memory into which JavaScript writes the keys of a call.

use tidegate_core::{BucketTiers, MAX_KEY, MAX_TIERS, StoredKey};
use tidegate_protocol::RedisKeys;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::Border;

/// The key length that says that there is one key per limit.
pub(crate) const ONE_FOR_EACH: usize = usize::MAX;

/// The form in which a key of any length is kept, which fits into the room of a key.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "an export of the module")]
pub fn stored_key(key: &[u8]) -> Vec<u8> {
    StoredKey::new(key).as_bytes().to_vec()
}

/// The keys of a call's buckets. The buckets under `Each` are separate from those under `One`.
pub(crate) enum Keys<'k> {
    /// One key for all tiers.
    One(&'k [u8]),
    /// A key for each tier. The keys beyond the limiter's tiers are empty and have no cells.
    Each([&'k [u8]; MAX_TIERS]),
}

impl<'k> Keys<'k> {
    /// The same keys, to be kept.
    pub(crate) fn to_owned(&self) -> RedisKeys {
        match self {
            Self::One(key) => RedisKeys::One(key.to_vec()),
            Self::Each(keys) => RedisKeys::Each(keys.iter().map(|key| key.to_vec()).collect()),
        }
    }

    /// The keys that [`to_owned`](Self::to_owned) has kept.
    pub(crate) fn of(kept: &'k RedisKeys) -> Self {
        match kept {
            RedisKeys::One(key) => Self::One(key),
            RedisKeys::Each(kept) => {
                let mut keys: [&[u8]; MAX_TIERS] = Default::default();
                for (key, kept) in keys.iter_mut().zip(kept) {
                    *key = kept;
                }
                Self::Each(keys)
            }
        }
    }
}

/// Reads the keys of a call from where JavaScript has written them.
///
/// A key for all tiers stands at the beginning. If there is one key per limit, each begins `MAX_KEY`
/// bytes after the one before it, and their lengths are beside them.
pub(crate) struct KeyRoom {
    border: &'static Border,
    limits: usize,
    tiers: BucketTiers,
}

impl KeyRoom {
    /// The room for keys of `limits` limits, of which those of `tiers` have buckets.
    pub(crate) fn new(limits: usize, tiers: BucketTiers) -> Self {
        Self { border: Border::of_the_module(), limits, tiers }
    }

    /// The address at which the first key is to be written.
    pub(crate) fn bytes_pointer(&self) -> *const u8 {
        self.border.keys.borrow().0.as_ptr()
    }

    /// The address at which the lengths are to be written.
    pub(crate) fn lengths_pointer(&self) -> *const u32 {
        self.border.key_lengths.borrow().as_ptr()
    }

    /// What `read` makes of the key for all tiers, of `length` bytes.
    #[inline]
    pub(crate) fn with_one<R>(&self, length: usize, read: impl FnOnce(&[u8]) -> R) -> R {
        read(one(&self.border.keys.borrow().0, length))
    }

    /// What `read` makes of the keys of a call. `length` is that of the key for all tiers, or
    /// [`ONE_FOR_EACH`]; the keys of limits without a bucket are left out. If there is only one tier,
    /// its key is a key for all tiers.
    pub(crate) fn with<R>(&self, length: usize, read: impl FnOnce(&Keys<'_>) -> R) -> R {
        let bytes = &self.border.keys.borrow().0;
        if length != ONE_FOR_EACH {
            return read(&Keys::One(one(bytes, length)));
        }
        let lengths = *self.border.key_lengths.borrow();
        if self.limits == 1 {
            return read(&Keys::One(one(bytes, lengths[0] as usize)));
        }
        let mut keys: [&[u8]; MAX_TIERS] = Default::default();
        let rooms = bytes.chunks(MAX_KEY).zip(lengths).take(self.limits);
        for (key, (room, length)) in keys.iter_mut().zip(rooms) {
            *key = one(room, length as usize);
        }
        let mut picked: [&[u8]; MAX_TIERS] = Default::default();
        for (place, key) in picked.iter_mut().zip(self.tiers.pick(&keys)) {
            *place = key;
        }
        let is_one = self.tiers.count() == 1;
        read(&if is_one { Keys::One(picked[0]) } else { Keys::Each(picked) })
    }

    /// A copy of the keys of a call, to be kept.
    pub(crate) fn owned(&self, length: usize) -> RedisKeys {
        self.with(length, |keys| keys.to_owned())
    }
}

fn one(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(&[])
}
