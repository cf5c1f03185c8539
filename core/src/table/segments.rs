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

    /// Is told that a new key found no room.
    fn new_key_denied(&self) {}
}

impl Segments for [Slot] {
    fn count(&self) -> usize {
        1
    }

    fn segment(&self, index: usize) -> &[Slot] {
        if index == 0 { self } else { &[] }
    }
}

/// Slots side by side in which a key may live; no more than [`WINDOW`], a power of two.
#[derive(Clone, Copy)]
pub(super) struct Window<'s> {
    pub(super) slots: &'s [Slot],
    /// Where the key is looked for, and put, first.
    pub(super) home: usize,
}

/// How many windows of a segment a key may live in.
pub(super) const CHOICES: usize = 2;

/// One of the windows of a segment in which a key may live. In a segment of one
/// window the second is empty.
#[inline]
pub(super) fn window(slots: &[Slot], fingerprint: u64, choice: usize) -> Window<'_> {
    let home = (fingerprint % WINDOW as u64) as usize;
    let count = slots.len() / WINDOW;
    if count < 2 {
        let end = if choice == 0 { slots.len().min(WINDOW) } else { 0 };
        return Window { slots: slots.get(..end).unwrap_or(&[]), home };
    }
    let first = scale(fingerprint, count);
    let index = if choice == 0 {
        first
    } else {
        // Another view of the same bits: odd multiplication carries the low ones up.
        let other = scale(fingerprint.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15), count);
        match other {
            other if other != first => other,
            _ if first + 1 < count => first + 1,
            _ => 0,
        }
    };
    let start = index * WINDOW;
    Window { slots: slots.get(start..start + WINDOW).unwrap_or(&[]), home }
}

/// The slot in which a key is looked for first: its home in its first window.
#[inline(always)]
pub(super) fn home(slots: &[Slot], fingerprint: u64) -> Option<&Slot> {
    let (windows, _) = slots.as_chunks::<WINDOW>();
    let window = windows.get(scale(fingerprint, windows.len()))?;
    Some(&window[(fingerprint % WINDOW as u64) as usize])
}

/// Maps a fingerprint evenly to `0..count`, by its high bits.
#[inline]
fn scale(fingerprint: u64, count: usize) -> usize {
    ((u128::from(fingerprint) * count as u128) >> 64) as usize
}
