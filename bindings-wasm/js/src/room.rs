//! The slots of one limit's table in the memory of the module, which grow in segments.

use core::cell::{Cell, OnceCell};

use tidegate_core::{Segments, Slot, WINDOW};

/// The first segment has at most this many slots: 1 KiB, so that a limiter with few keys is small.
const FIRST: usize = 64;
/// A table with at least this many slots, 256 KiB, becomes twice as large when it grows: a key then
/// takes at most 46 bytes, right after the growth. A smaller one becomes four times as large, which
/// keeps the number of segments small in which a key must be looked for.
const LARGE: usize = 16 * 1024;
/// The number of segments with which a table has room for 100,000,000 keys.
const MAX_SEGMENTS: usize = 24;
/// The percentage of slots that can be taken before the first key finds no room in either of its
/// windows.
const LOAD_PERCENT: usize = 70;
/// What a growing table leaves free: calls that need memory for a moment find it there.
const SPARE_BYTES: usize = 1 << 20;

/// The slots of one limit's table.
///
/// A segment is allocated when those before it are taken, so no call has to clear or to copy
/// existing slots. Where there is no memory for it, the table stays as large as it is, and the policy
/// for a full table answers.
pub(crate) struct Room {
    segments: [OnceCell<Box<[Slot]>>; MAX_SEGMENTS],
    count: Cell<usize>,
    max_slots: usize,
    evicted: Cell<u64>,
    denied: Cell<u64>,
}

impl Room {
    /// No slots yet, with room to grow to `max_keys` keys.
    pub(crate) fn new(max_keys: usize) -> Self {
        Self {
            segments: [const { OnceCell::new() }; MAX_SEGMENTS],
            count: Cell::new(0),
            max_slots: slots_for(max_keys),
            evicted: Cell::new(0),
            denied: Cell::new(0),
        }
    }

    /// The number of buckets that were dropped although they owed something.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.get()
    }

    /// The number of calls that were refused because there was no room for their new key.
    pub(crate) fn denied(&self) -> u64 {
        self.denied.get()
    }
}

impl Segments for Room {
    #[inline]
    fn count(&self) -> usize {
        self.count.get()
    }

    #[inline]
    fn segment(&self, index: usize) -> &[Slot] {
        self.segments.get(index).and_then(OnceCell::get).map_or(&[], |slots| slots)
    }

    #[cold]
    fn grow(&self, count: usize) -> bool {
        let (Some(size), Some(segment)) = (size(self.max_slots, count), self.segments.get(count))
        else {
            return false;
        };
        let Some(slots) = allocate(size) else { return false };
        self.count.set(count + 1);
        segment.set(slots).is_ok()
    }

    fn can_grow(&self, count: usize) -> bool {
        size(self.max_slots, count).is_some()
    }

    fn owed_bucket_evicted(&self) {
        self.evicted.set(self.evicted.get().saturating_add(1));
    }

    fn new_key_denied(&self) {
        self.denied.set(self.denied.get().saturating_add(1));
    }
}

/// Empty slots; `None` if there is no memory for them.
fn allocate(size: usize) -> Option<Box<[Slot]>> {
    let mut spare = Vec::<u8>::new();
    spare.try_reserve_exact(SPARE_BYTES).ok()?;
    let mut slots = Vec::new();
    slots.try_reserve_exact(size).ok()?;
    slots.resize_with(size, Slot::default);
    Some(slots.into())
}

/// The size of a segment of a table that grows to `max_slots`; `None` if there is no such segment.
fn size(max_slots: usize, index: usize) -> Option<usize> {
    let mut sizes = [0; MAX_SEGMENTS];
    let (mut count, mut rest) = (0, max_slots);
    while rest > FIRST && count + 1 < MAX_SEGMENTS {
        let newest = if rest >= 2 * LARGE { rest / 2 } else { rest / 4 * 3 };
        sizes[count] = whole_windows(newest).min(rest);
        rest -= sizes[count];
        count += 1;
    }
    if rest > 0 {
        sizes[count] = rest;
        count += 1;
    }
    sizes[..count].iter().rev().nth(index).copied()
}

/// How many slots hold `keys` keys at the load that finds room for all.
fn slots_for(keys: usize) -> usize {
    let slots = (keys as u64).saturating_mul(100) / LOAD_PERCENT as u64;
    whole_windows(usize::try_from(slots).unwrap_or(usize::MAX))
}

fn whole_windows(slots: usize) -> usize {
    slots.div_ceil(WINDOW).max(1).saturating_mul(WINDOW)
}
