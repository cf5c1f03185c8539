//! The slots of the memory store, which grow in segments.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::io;
use std::sync::OnceLock;

use tidegate_core::{Segments, Slot, WINDOW};

use crate::mapping::Mapping;
use crate::pressure::Pressure;

/// How many times as large as the one before each segment is. It keeps the number of segments small
/// in which a key must be looked for.
const GROWTH: usize = 4;
/// The first segment has about this many slots: 16 KiB.
const FIRST: usize = 1024;
/// The largest number of segments: enough for as many slots as memory can hold.
const MAX_SEGMENTS: usize = 24;
/// The percentage of slots that can be taken before the first key finds no room in either of its
/// windows.
const LOAD_PERCENT: usize = 70;

/// A table's slots, in segments. A segment is allocated when those before it are taken, so no call
/// has to clear or to copy existing slots.
#[derive(Debug)]
pub(crate) struct Levels {
    segments: [OnceLock<Mapping>; MAX_SEGMENTS],
    sizes: Box<[usize]>,
    count: AtomicUsize,
    evicted: AtomicU64,
    denied: AtomicU64,
}

impl Levels {
    /// The first segment, with room to grow to `max_keys` keys.
    pub(super) fn new(max_keys: usize) -> io::Result<Self> {
        let levels = Self {
            segments: [const { OnceLock::new() }; MAX_SEGMENTS],
            sizes: sizes(max_keys),
            count: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        };
        levels.add(0)?;
        Ok(levels)
    }

    /// Adds the next segment. Says whether this call added it: false if another call did, or if no more
    /// may be added.
    fn add(&self, count: usize) -> io::Result<bool> {
        let (Some(segment), Some(size)) = (self.segments.get(count), self.sizes.get(count)) else {
            return Ok(false);
        };
        if segment.get().is_none() {
            // The second caller finds the segment added.
            _ = segment.set(Mapping::anonymous(*size)?);
        }
        let (from, to) = (count, count + 1);
        Ok(self.count.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    pub(super) fn pressure(&self) -> Pressure {
        Pressure {
            evicted: self.evicted.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
        }
    }
}

impl Segments for Levels {
    #[inline]
    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    #[inline]
    fn segment(&self, index: usize) -> &[Slot] {
        self.segments.get(index).and_then(OnceLock::get).map_or(&[], Mapping::slots)
    }

    #[cold]
    fn grow(&self, count: usize) -> bool {
        // If there is no more memory, the table stays as large as it is.
        self.add(count).unwrap_or(false)
    }

    fn can_grow(&self, count: usize) -> bool {
        count < self.sizes.len()
    }

    fn owed_bucket_evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    fn new_key_denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }
}

/// The segments' sizes from the first to the last; all but the first are
/// three quarters of all slots so far.
fn sizes(max_keys: usize) -> Box<[usize]> {
    let mut rest = slots_for(max_keys);
    let mut sizes = Vec::new();
    while rest >= FIRST * GROWTH && sizes.len() + 1 < MAX_SEGMENTS {
        let newest = whole_windows(rest / GROWTH * (GROWTH - 1));
        sizes.push(newest);
        rest -= newest;
    }
    sizes.push(rest);
    sizes.reverse();
    sizes.into()
}

/// How many slots hold `keys` keys at the load that finds room for all.
pub(crate) fn slots_for(keys: usize) -> usize {
    whole_windows(keys.saturating_mul(100) / LOAD_PERCENT)
}

fn whole_windows(slots: usize) -> usize {
    slots.div_ceil(WINDOW).max(1).saturating_mul(WINDOW)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_to_the_room_that_was_asked_for() {
        for keys in [1, 8, 700, 716, 100_000, 1_000_000, 10_000_000, 1 << 32] {
            let sizes = sizes(keys);
            assert_eq!(sizes.iter().sum::<usize>(), slots_for(keys));
            assert!(sizes.iter().all(|size| size % WINDOW == 0 && *size > 0), "{sizes:?}");
            assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
            assert!(sizes[0] < FIRST * GROWTH, "{sizes:?}");
        }
    }

    #[test]
    fn whoever_grows_second_finds_it_done() {
        let levels = Levels::new(100_000).unwrap();
        assert_eq!(levels.count(), 1);
        assert!(levels.grow(1));
        assert!(!levels.grow(1));
        assert_eq!(levels.count(), 2);
        assert_eq!(levels.segment(1).len(), sizes(100_000)[1]);
        assert!(levels.segment(2).is_empty());
    }
}
