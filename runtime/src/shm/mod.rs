//! Buckets that the processes of a host share, in one mapped file: a header page, then a
//! table of slots for each limit.
//!
//! The tables are lock-free and every moment of theirs is a sound one, so a process
//! can be killed at any time. See `docs/shm.md`.

mod clock;
mod file;
mod header;
mod host;
mod mapping;
mod options;
mod siblings;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::sync::Arc;

use tidegate_core::{Limit, Segments, Slot, Source};

use crate::error::Error;
use crate::fingerprint::Fingerprinter;
use crate::pressure::Pressure;
use crate::tables::KeyedTables;
use clock::ShmClock;
use header::{DENIED, EVICTED, Identity, SLOTS};
use mapping::Mapping;
pub(crate) use options::ShmOptions;

/// Buckets in a file that other processes map too.
///
/// Nothing in it belongs to a process or a thread: it works on in a forked child. The
/// last of its limiters unmaps the file.
pub(crate) type SharedTables = KeyedTables<TierSlots, ShmClock>;

/// The slots of one tier.
#[derive(Debug)]
pub(crate) struct TierSlots {
    shared: Arc<Shared>,
    start: usize,
    end: usize,
}

#[derive(Debug)]
struct Shared {
    mapping: Mapping,
    /// Holds the lock that says that the file is in use.
    _file: File,
}

impl SharedTables {
    /// Opens the file, or makes it, and maps it.
    ///
    /// # Errors
    /// [`Error::Store`] when the file cannot be had, or is refused.
    pub(crate) fn open(
        options: &ShmOptions,
        prefix: &str,
        limits: &[Limit],
    ) -> Result<Self, Error> {
        let opened = file::open(options, &Identity::new(prefix, limits))?;
        siblings::unlink_spent(&opened, &options.name);
        let header = opened.header;
        let mapping = Mapping::new(&opened.file, header.all_slots()).map_err(|error| {
            file::refused(&opened.path, format!("it cannot be mapped: {error}"))
        })?;
        let shared = Arc::new(Shared { mapping, _file: opened.file });
        let slots = header.slots();
        let tier = |number: usize| TierSlots {
            shared: Arc::clone(&shared),
            start: SLOTS + number * slots,
            end: SLOTS + (number + 1) * slots,
        };
        Ok(Self {
            limits: limits.into(),
            segments: (0..limits.len()).map(tier).collect(),
            on_full: header.on_full,
            fingerprinter: Fingerprinter::new(header.seed),
            clock: ShmClock::new(header.clock_offset),
            source: Source::Shm,
        })
    }

    /// What the file could not keep, in all processes and since it was made.
    pub(crate) fn pressure(&self) -> Pressure {
        // The tiers share their counters.
        self.segments.first().map_or_else(Pressure::default, |tier| Pressure {
            evicted: tier.shared.counter(EVICTED).load(Ordering::Relaxed),
            denied: tier.shared.counter(DENIED).load(Ordering::Relaxed),
        })
    }
}

impl Segments for TierSlots {
    #[inline]
    fn count(&self) -> usize {
        1
    }

    #[inline]
    fn segment(&self, index: usize) -> &[Slot] {
        let slots = if index == 0 { self.start..self.end } else { 0..0 };
        self.shared.mapping.slots().get(slots).unwrap_or(&[])
    }

    fn owed_bucket_evicted(&self) {
        self.shared.counter(EVICTED).fetch_add(1, Ordering::Relaxed);
    }

    fn new_key_denied(&self) {
        self.shared.counter(DENIED).fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// A counter in the header; all processes count with it.
    fn counter(&self, slot: usize) -> &AtomicU64 {
        &self.mapping.slots()[slot][0]
    }
}
