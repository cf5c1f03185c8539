//! The memory into which JavaScript writes the keys of a call.

use tidegate_core::{BucketTiers, MAX_KEY, MAX_TIERS, StoredKey};
use tidegate_protocol::RedisKeys;
use wasm_bindgen::prelude::wasm_bindgen;

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

/// The memory into which JavaScript writes the keys of a call. It does not move.
///
/// A key for all tiers stands at the beginning. If there is one key per limit, each begins `MAX_KEY`
/// bytes after the one before it, and `lengths` has their lengths.
pub(crate) struct KeyRoom {
    bytes: Box<[u8]>,
    lengths: Box<[u32; MAX_TIERS]>,
    tiers: BucketTiers,
}

impl KeyRoom {
    /// The room for keys of `limits` limits, of which those of `tiers` have buckets.
    pub(crate) fn new(limits: usize, tiers: BucketTiers) -> Self {
        Self { bytes: vec![0; limits * MAX_KEY].into(), lengths: Box::default(), tiers }
    }

    /// The address at which the first key is to be written.
    pub(crate) fn bytes_pointer(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// The address at which the lengths are to be written.
    pub(crate) fn lengths_pointer(&self) -> *const u32 {
        self.lengths.as_ptr()
    }

    /// The key for all tiers, of `length` bytes.
    pub(crate) fn one(&self, length: usize) -> &[u8] {
        self.bytes.get(..length).unwrap_or(&[])
    }

    /// The keys of a call. `length` is that of the key for all tiers, or [`ONE_FOR_EACH`]; the keys of limits without a bucket are left out. If there is only
    /// one tier, its key is a key for all tiers.
    pub(crate) fn keys(&self, length: usize) -> Keys<'_> {
        if length != ONE_FOR_EACH {
            return Keys::One(self.one(length));
        }
        if self.bytes.len() == MAX_KEY {
            return Keys::One(self.one(self.lengths[0] as usize));
        }
        let mut keys: [&[u8]; MAX_TIERS] = Default::default();
        let rooms = self.bytes.chunks(MAX_KEY).zip(*self.lengths);
        for (key, (room, length)) in keys.iter_mut().zip(rooms) {
            *key = room.get(..length as usize).unwrap_or(&[]);
        }
        let mut picked: [&[u8]; MAX_TIERS] = Default::default();
        for (place, key) in picked.iter_mut().zip(self.tiers.pick(&keys)) {
            *place = key;
        }
        if self.tiers.count() == 1 { Keys::One(picked[0]) } else { Keys::Each(picked) }
    }
}
