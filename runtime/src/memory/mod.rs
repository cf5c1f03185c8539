//! Buckets in this process's memory.

mod levels;
mod with_plans;

use std::io;

use tidegate_core::{Limit, OnFull, Source};

use crate::Error;
use crate::clock::ProcessClock;
use crate::fingerprint::Fingerprinter;
use crate::pressure::Pressure;
use crate::tables::KeyedTables;
pub(crate) use levels::Levels;
pub(crate) use with_plans::{MemoryBuckets, PlanBuckets};

/// Buckets in this process's memory.
///
/// A bucket that is full again gives its slot to the next new key that wants it, so
/// memory is bounded by the buckets that owe something, and by `max_keys`.
pub(crate) type MemoryTables = KeyedTables<Levels, ProcessClock>;

/// The default number of keys for which there is room.
pub(crate) const DEFAULT_MAX_KEYS: usize = 1_000_000;

impl MemoryTables {
    pub(crate) fn new(
        limits: &[Limit],
        max_keys: usize,
        on_full: OnFull,
        clock: ProcessClock,
    ) -> Result<Self, Error> {
        let segments = limits.iter().map(|_| Levels::new(max_keys)).collect::<io::Result<_>>();
        let no_memory =
            |error| Error::Store(format!("there is no memory for buckets: {error}").into());
        Ok(Self {
            limits: limits.into(),
            segments: segments.map_err(no_memory)?,
            on_full,
            fingerprinter: Fingerprinter::random(),
            clock,
            source: Source::Memory,
        })
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.segments.iter().map(Levels::pressure).sum()
    }
}
