use crate::sync::AtomicU64;

/// A key word and a cell: 16 bytes, all zero when never used.
pub type Slot = [AtomicU64; 2];

pub(super) const KEY: usize = 0;
pub(super) const CELL: usize = 1;

/// Slots side by side in which a key may live: two cache lines of 64 bytes.
pub const WINDOW: usize = 8;

/// The slots of a table: one slice, or several that were added one by one.
pub trait Segments {
    /// How many slices there are; never shrinks, at least 1.
    fn count(&self) -> usize;

    /// The slice `index`, below [`count`](Self::count); empty otherwise. Each has
    /// at least one slot; whole multiples of [`WINDOW`] use all of theirs.
    fn segment(&self, index: usize) -> &[Slot];

    /// Adds a slice for new keys, unless `count` is no longer the number of them;
    /// false when there cannot be more.
    fn grow(&self, count: usize) -> bool {
        let _ = count;
        false
    }

    /// Is told that a bucket was dropped although it owed something.
    fn owed_bucket_evicted(&self) {}
}

impl Segments for [Slot] {
    fn count(&self) -> usize {
        1
    }

    fn segment(&self, index: usize) -> &[Slot] {
        if index == 0 { self } else { &[] }
    }
}

/// The two windows of a segment in which a key may live, each with the index
/// of its first slot. In a segment of one window the second is empty.
pub(super) fn windows(slots: &[Slot], fingerprint: u64) -> [(usize, &[Slot]); 2] {
    let width = if slots.len() < WINDOW { slots.len() } else { WINDOW };
    let count = slots.len().checked_div(width).unwrap_or(0);
    let first = scale(fingerprint, count);
    // Another view of the same bits: odd multiplication carries the low ones up.
    let second = scale(fingerprint.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15), count);
    let second = if second == first { (first + 1) % count.max(1) } else { second };
    let window = |index: usize| {
        let start = index * width;
        (start, slots.get(start..start + width).unwrap_or(&[]))
    };
    if count > 1 { [window(first), window(second)] } else { [window(0), (0, &[])] }
}

/// Maps a fingerprint evenly to `0..count`, by its high bits.
fn scale(fingerprint: u64, count: usize) -> usize {
    ((u128::from(fingerprint) * count as u128) >> 64) as usize
}
