//! The slots of a table: the segments that hold them, and the windows in which a key may live.

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

    /// The slice at `index`, which is empty unless `index` is below [`count`](Self::count). Each
    /// slice has at least one slot. If the length is not a multiple of [`WINDOW`], the slots of
    /// the rest may stay unused.
    fn segment(&self, index: usize) -> &[Slot];

    /// Adds a slice for new keys, unless there are no longer `count` slices. False when there
    /// cannot be more.
    fn grow(&self, count: usize) -> bool {
        let _ = count;
        false
    }

    /// Whether [`grow`](Self::grow) could add a slice to `count` slices. Changes nothing. Segments
    /// that can grow must say so here; otherwise a peek takes them for full.
    fn can_grow(&self, count: usize) -> bool {
        let _ = count;
        false
    }

    /// Called after a bucket was dropped although it owed something.
    fn owed_bucket_evicted(&self) {}

    /// Called after a new key found no slot.
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
    /// The index of the slot in which the key is looked for, and put, first.
    pub(super) home: usize,
}

/// A key may live in this many windows of a segment.
pub(super) const CHOICES: usize = 2;

/// One of the windows of a segment in which a key may live. In a segment of one
/// window the second is empty.
#[inline]
pub(super) fn window(slots: &[Slot], fingerprint: u64, choice: usize) -> Window<'_> {
    let home = (fingerprint % WINDOW as u64) as usize;
    let (windows, rest) = slots.as_chunks::<WINDOW>();
    let slots: &[Slot] = match windows {
        [] if choice == 0 => rest,
        [only] if choice == 0 => only,
        [] | [_] => &[],
        windows => {
            let index = window_index(windows.len(), fingerprint, choice);
            windows.get(index).map_or(&[], |window| window)
        }
    };
    Window { slots, home }
}

/// The index of a key's first or second window among `count`, which is at least two. The two are
/// never the same.
#[inline]
fn window_index(count: usize, fingerprint: u64, choice: usize) -> usize {
    let first = scale(fingerprint, count);
    if choice == 0 {
        return first;
    }
    // The second index comes from the same bits in another order: the rotation and the odd
    // multiplication carry the low bits up.
    match scale(fingerprint.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15), count) {
        other if other != first => other,
        _ if first + 1 < count => first + 1,
        _ => 0,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Fingerprints that are spread over all 64 bits.
    fn fingerprints() -> impl Iterator<Item = u64> {
        (0..10_000u64).map(|number| (number << 32 ^ number).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    #[test]
    fn a_key_has_two_windows_and_all_windows_have_keys() {
        for count in [2, 3, 5, 64, 1000] {
            let mut keys = [[0; 1000]; CHOICES];
            for fingerprint in fingerprints() {
                let [first, second] = [0, 1].map(|choice| window_index(count, fingerprint, choice));
                assert!(first != second && first < count && second < count);
                keys[0][first] += 1;
                keys[1][second] += 1;
            }
            for counts in &keys {
                assert!(counts[..count].iter().all(|keys| *keys > 0), "{counts:?}");
            }
        }
    }

    #[test]
    fn the_first_window_goes_by_the_high_bits() {
        assert_eq!([0, u64::MAX >> 1, 1 << 63, u64::MAX].map(|it| scale(it, 2)), [0, 0, 1, 1]);
        assert_eq!([0, 1 << 62, 3 << 62, u64::MAX].map(|it| scale(it, 1000)), [0, 250, 750, 999]);
    }

    /// When both views of the bits lead to the same window, the second window is the next one, or
    /// the first after the last.
    #[test]
    fn two_views_of_one_window_are_two_windows() {
        for (fingerprint, expected) in [(0, 1), (0xFFFF_FFFF_0000_0000, 0)] {
            assert_eq!(window_index(3, fingerprint, 1), expected, "{fingerprint:x}");
        }
    }
}
