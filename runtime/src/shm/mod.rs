//! Buckets that the processes of a host share, in one mapped file: a header page, then a
//! table of slots for each limit.
//!
//! The tables are lock-free and valid at every moment, so a process can be killed at any time. See
//! `docs/shm.md`.

mod clock;
mod file;
mod header;
mod host;
mod options;
mod siblings;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::sync::Arc;

use tidegate_core::{Limit, Segments, Slot, Source};

use crate::Error;
use crate::fingerprint::Fingerprinter;
use crate::mapping::Mapping;
use crate::pressure::Pressure;
use crate::tables::KeyedTables;
use clock::ShmClock;
use header::{DENIED, EVICTED, Identity, SLOTS};
pub(crate) use options::ShmOptions;

/// The buckets of one set of limits, in a file that other processes map too.
///
/// Nothing in it belongs to a process or a thread, so it also works in a forked child. The last of its
/// clones unmaps the file.
#[derive(Debug)]
pub(crate) struct SharedTables {
    tables: KeyedTables<TierSlots, ShmClock>,
    mapping: Arc<Mapping>,
    /// The open file, whose lock says that it is in use.
    _file: File,
}

/// The slots of one tier.
#[derive(Debug)]
pub(crate) struct TierSlots {
    mapping: Arc<Mapping>,
    start: usize,
    end: usize,
}

impl SharedTables {
    /// Opens the file, or makes it, and maps it.
    ///
    /// # Errors
    /// [`Error::Store`] when the file cannot be made or opened, or is refused.
    pub(crate) fn open(
        options: &ShmOptions,
        prefix: &str,
        limits: &[Limit],
    ) -> Result<Self, Error> {
        let identity = Identity::new(prefix, limits);
        let opened = file::open(options, &identity)?;
        siblings::unlink_spent(&opened, &options.name);
        let header = &opened.header;
        let mapping = Mapping::of_file(&opened.file, header.all_slots()).map_err(|error| {
            file::refused(&opened.path, format!("it cannot be mapped: {error}"))
        })?;
        let mapping = Arc::new(mapping);
        let slots = header.slots();
        let tier = |number: usize| TierSlots {
            mapping: Arc::clone(&mapping),
            start: SLOTS + number * slots,
            end: SLOTS + (number + 1) * slots,
        };
        let tables = KeyedTables {
            limits: limits.into(),
            segments: (0..limits.len()).map(tier).collect(),
            on_full: header.on_full,
            fingerprinter: Fingerprinter::new(header.seed),
            clock: ShmClock::new(header.clock_offset),
            source: Source::Shm,
        };
        Ok(Self { tables, mapping, _file: opened.file })
    }

    #[inline]
    pub(crate) fn tables(&self) -> &KeyedTables<TierSlots, ShmClock> {
        &self.tables
    }

    /// What the file could not keep since it was made, for all processes.
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure {
            evicted: self.mapping.counter(EVICTED).load(Ordering::Relaxed),
            denied: self.mapping.counter(DENIED).load(Ordering::Relaxed),
        }
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
        self.mapping.slots().get(slots).unwrap_or(&[])
    }

    fn owed_bucket_evicted(&self) {
        self.mapping.counter(EVICTED).fetch_add(1, Ordering::Relaxed);
    }

    fn new_key_denied(&self) {
        self.mapping.counter(DENIED).fetch_add(1, Ordering::Relaxed);
    }
}

impl Mapping {
    /// A counter of the header, which all processes share.
    fn counter(&self, slot: usize) -> &AtomicU64 {
        &self.slots()[slot][0]
    }
}
