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

use tidegate_core::{
    Cells, Clock as _, Decision, Limit, MAX_TIERS, OnFull, Segments, Slot, Source, Table,
    TableError, check_tables, decide_tiers,
};

use crate::error::Error;
use crate::fingerprint::Fingerprinter;
use clock::ShmClock;
use header::{DENIED, EVICTED, Identity, SLOTS};
use mapping::Mapping;
pub(crate) use options::ShmOptions;

/// The buckets of one set of limits, in a file that other processes map too.
///
/// Nothing in it belongs to a process or a thread: it works on in a forked child. The
/// last of its clones unmaps the file.
#[derive(Debug)]
pub(crate) struct SharedTables {
    tiers: [TierSlots; MAX_TIERS],
    on_full: OnFull,
    fingerprinter: Fingerprinter,
    clock: ShmClock,
    mapping: Arc<Mapping>,
    /// Holds the lock that says that the file is in use.
    _file: File,
}

/// What has happened for want of room, by any process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Buckets that owed something and were dropped for new keys.
    pub(crate) evicted: u64,
    /// Calls with new keys that were refused because there was no slot.
    pub(crate) denied: u64,
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
    /// [`Error::Store`] when the file cannot be had, or is refused.
    pub(crate) fn open(
        options: &ShmOptions,
        prefix: &str,
        limits: &[Limit],
    ) -> Result<Self, Error> {
        let identity = Identity::new(prefix, limits);
        let opened = file::open(options, &identity)?;
        siblings::unlink_spent(&opened, &options.name);
        let header = &opened.header;
        let mapping = Mapping::new(&opened.file, header.all_slots()).map_err(|error| {
            file::refused(&opened.path, format!("it cannot be mapped: {error}"))
        })?;
        let mapping = Arc::new(mapping);
        let slots = header.slots();
        let tier = |number: usize| TierSlots {
            mapping: Arc::clone(&mapping),
            start: SLOTS + number.min(limits.len()) * slots,
            end: SLOTS + (number + 1).min(limits.len()) * slots,
        };
        Ok(Self {
            tiers: core::array::from_fn(tier),
            on_full: header.on_full,
            fingerprinter: Fingerprinter::new(header.seed),
            clock: ShmClock::new(header.clock_offset),
            mapping,
            _file: opened.file,
        })
    }

    /// Spends `cost` tokens of `key` if every limit allows; `limits` are those that the
    /// tables were opened with.
    pub(crate) fn check(&self, limits: &[Limit], key: &[u8], cost: u64) -> Result<Decision, Error> {
        let fingerprint = self.fingerprint(key);
        let tables = self.tables();
        let tables = tables.get(..limits.len()).unwrap_or(&tables);
        let mut decision = match check_tables(tables, limits, fingerprint, &self.clock, cost) {
            Ok(decision) => decision,
            Err(TableError::Full) => self.refusal_for_want_of_room(limits, cost)?,
            Err(TableError::Engine(error)) => return Err(Error::from_engine(error)),
            Err(_) => return Err(Error::Store("the shared tables gave no answer".into())),
        };
        decision.source = Source::Shm;
        Ok(decision)
    }

    /// A table for each limit, in order; those beyond the limits have no slots.
    #[inline]
    pub(crate) fn tables(&self) -> [Table<'_, TierSlots>; MAX_TIERS] {
        self.tiers.each_ref().map(|tier| Table::new(tier).on_full(self.on_full))
    }

    pub(crate) fn fingerprint(&self, key: &[u8]) -> u64 {
        self.fingerprinter.of(key)
    }

    /// What has happened in the file since it was made.
    #[cfg_attr(not(test), expect(dead_code, reason = "metrics are to show it"))]
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            evicted: self.mapping.counter(EVICTED).load(Ordering::Relaxed),
            denied: self.mapping.counter(DENIED).load(Ordering::Relaxed),
        }
    }

    /// A new key for which there is no slot is refused as if its tokens were all spent now.
    fn refusal_for_want_of_room(&self, limits: &[Limit], cost: u64) -> Result<Decision, Error> {
        self.mapping.counter(DENIED).fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let mut cells = Cells::default();
        for (cell, limit) in cells.iter_mut().zip(limits) {
            *cell = limit.timeline().position(now).saturating_add(limit.span());
        }
        decide_tiers(limits, &mut cells, now, cost).map_err(Error::from_engine)
    }
}

impl Segments for TierSlots {
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
}

impl Mapping {
    /// A counter of the header, which all processes share.
    fn counter(&self, slot: usize) -> &AtomicU64 {
        &self.slots()[slot][0]
    }
}
