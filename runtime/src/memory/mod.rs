//! Buckets in this process's memory.

mod levels;

use tidegate_core::{
    Clock, Decision, Limit, MAX_TIERS, OnFull, Operation, Outcome, Table, apply_tables,
    check_table, check_tables,
};

use crate::error::Error;
use crate::fingerprint::Fingerprinter;
use levels::Levels;

/// Buckets in this process's memory, for one set of limits: a lock-free table for
/// each of them.
///
/// A check takes no lock and allocates nothing, but for the few that add a segment.
/// A bucket that is full again gives its slot to the next new key that wants it, so
/// memory is bounded by the buckets that owe something, and by `max_keys`.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    limits: Box<[Limit]>,
    on_full: OnFull,
    fingerprinter: Fingerprinter,
    levels: Box<[Levels]>,
}

/// What a store could not keep. A fleet that sees either needs more `max_keys`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Buckets that were dropped although they owed something, since the start.
    pub evicted: u64,
    /// Calls that were refused because their new key found no room, since the start.
    pub denied: u64,
}

impl MemoryStore {
    pub(crate) fn new(limits: &[Limit], max_keys: usize, on_full: OnFull) -> Self {
        Self {
            limits: limits.into(),
            on_full,
            fingerprinter: Fingerprinter::random(),
            levels: limits.iter().map(|_| Levels::new(max_keys)).collect(),
        }
    }

    #[inline(always)]
    pub(crate) fn check(
        &self,
        key: &[u8],
        clock: &impl Clock,
        cost: u64,
    ) -> Result<Decision, Error> {
        let fingerprint = self.fingerprinter.of(key);
        let decision = match &*self.levels {
            [levels] => {
                check_tables(&[self.table(levels)], &self.limits, &[fingerprint], clock, cost)
            }
            _ => self.with_tables(|tables| {
                let fingerprints = &[fingerprint; MAX_TIERS][..tables.len()];
                check_tables(tables, &self.limits, fingerprints, clock, cost)
            }),
        };
        decision.map_err(Error::from_engine)
    }

    /// The check of one limit, when the cost is within its burst; otherwise nothing is done.
    #[inline(always)]
    pub(crate) fn check_affordable(
        &self,
        key: &[u8],
        clock: &impl Clock,
        cost: u64,
    ) -> Option<Decision> {
        let ([levels], [limit]) = (&*self.levels, &*self.limits) else {
            return None;
        };
        let fingerprint = self.fingerprinter.of(key);
        check_table(&self.table(levels), limit, fingerprint, clock.now(), cost).ok()
    }

    fn with_tables<R>(&self, run: impl FnOnce(&[Table<'_, Levels>]) -> R) -> R {
        match &*self.levels {
            [a] => run(&[self.table(a)]),
            [a, b] => run(&[a, b].map(|levels| self.table(levels))),
            [a, b, c] => run(&[a, b, c].map(|levels| self.table(levels))),
            [a, b, c, d] => run(&[a, b, c, d].map(|levels| self.table(levels))),
            _ => run(&[]),
        }
    }

    #[inline]
    fn table<'s>(&self, levels: &'s Levels) -> Table<'s, Levels> {
        Table::new(levels).on_full(self.on_full)
    }
}
