//! The place in memory where JavaScript writes keys.

use tidegate_core::MAX_KEY;
use tidegate_core::MAX_TIERS;

/// The keys of a call's buckets. The buckets under `Each` differ from those under `One`.
pub(crate) enum Keys<'k> {
    /// One key for all tiers.
    One(&'k [u8]),
    /// A key for each tier; those beyond the limiter's tiers are empty and have no cells.
    Each([&'k [u8]; MAX_TIERS]),
}

/// Where JavaScript writes the keys of a call. It does not move.
///
/// One key for all tiers is at the beginning. When there is one per tier, each is
/// `MAX_KEY` bytes after the one before it, and their lengths are beside them.
pub(crate) struct KeyRoom {
    bytes: Box<[u8]>,
    lengths: Box<[u32; MAX_TIERS]>,
}

impl KeyRoom {
    pub(crate) fn new(tiers: usize) -> Self {
        Self { bytes: vec![0; tiers * MAX_KEY].into(), lengths: Box::default() }
    }

    pub(crate) fn bytes_pointer(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    pub(crate) fn lengths_pointer(&self) -> *const u32 {
        self.lengths.as_ptr()
    }

    /// The one key, of `length` bytes.
    pub(crate) fn one(&self, length: usize) -> &[u8] {
        self.bytes.get(..length).unwrap_or(&[])
    }

    /// The keys of a call in which the one key's length is `length`, or 0 when
    /// there is one per tier: no key is empty. With one tier both mean the same.
    pub(crate) fn keys(&self, length: usize) -> Keys<'_> {
        if length > 0 {
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
        Keys::Each(keys)
    }
}
