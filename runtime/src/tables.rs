//! Buckets in tables, in memory or in a shared file.

use tidegate_core::{
    Cells, Clock, Cost, Limit, MAX_TIERS, OnFull, Operation, Outcome, Segments, Source, Table,
    apply_tables, check_table,
};

use crate::answer::Answer;
use crate::fingerprint::Fingerprinter;
use crate::{Error, Keys};

/// How many checks wait for memory together: more than processors keep in flight, so that there are
/// few waits between these groups.
const BATCH: usize = 64;

/// Buckets in memory that this process can read and write, for one set of limits: a lock-free table
/// for each limit, and their clock.
///
/// A call takes no lock and allocates nothing, except a call that makes a table grow.
#[derive(Debug)]
pub(crate) struct KeyedTables<S, C> {
    pub(crate) limits: Box<[Limit]>,
    /// One table for each limit.
    pub(crate) segments: Box<[S]>,
    pub(crate) on_full: OnFull,
    pub(crate) fingerprinter: Fingerprinter,
    pub(crate) clock: C,
    pub(crate) source: Source,
}

impl<S: Segments, C: Clock> KeyedTables<S, C> {
    /// Checks one key. Returns `None`, and does nothing, if the cost is above a burst.
    // Inlined, a caller that reads only part of the decision pays only for that.
    #[inline(always)]
    pub(crate) fn check_affordable<A: Answer>(&self, key: &[u8], cost: u64) -> Option<A> {
        let fingerprint = self.fingerprinter.of(key);
        let answer = match (&*self.segments, &*self.limits) {
            ([segments], [limit]) => {
                let table = self.table(segments);
                check_table(&table, limit, fingerprint, self.clock.now(), cost).ok()?.into()
            }
            ([a, b], limits) => {
                let tables = [self.table(a), self.table(b)];
                let cost = Cost::same(cost);
                A::check(&tables, limits, &[fingerprint; 2], &self.clock, cost).ok()?
            }
            _ => return None,
        };
        Some(answer.with_source(self.source))
    }

    /// Checks a key under any number of limits.
    #[inline(always)]
    pub(crate) fn check<A: Answer>(&self, keys: Keys<'_>, cost: Cost) -> Result<A, Error> {
        let answer = self.with_tables(&self.fingerprints(keys), |tables, fingerprints| {
            A::check(tables, &self.limits, fingerprints, &self.clock, cost)
        });
        Ok(answer.map_err(Error::from_engine)?.with_source(self.source))
    }

    /// Runs any operation.
    pub(crate) fn run(&self, keys: Keys<'_>, operation: Operation) -> Result<Outcome, Error> {
        let outcome = self.with_tables(&self.fingerprints(keys), |tables, fingerprints| {
            apply_tables(tables, &self.limits, fingerprints, &self.clock, operation)
        });
        Ok(outcome.map_err(Error::from_engine)?.from_source(self.source))
    }

    /// Runs any operation on the bucket beside that of the keys which only holds charge, by which
    /// waiting callers of other processes see that a bucket is held.
    pub(crate) fn run_on_marker(
        &self,
        keys: Keys<'_>,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        // The rotation keeps it apart from the buckets of one key and of one key per limit.
        let fingerprints = self.fingerprints(keys).map(|of_tier| of_tier.rotate_left(16));
        let outcome = self.with_tables(&fingerprints, |tables, fingerprints| {
            apply_tables(tables, &self.limits, fingerprints, &self.clock, operation)
        });
        Ok(outcome.map_err(Error::from_engine)?.from_source(self.source))
    }

    /// Makes many checks, in order. Under a single limit, each group of checks has one reading of the
    /// clock.
    ///
    /// The memory that a group needs is prefetched at once, so that its checks wait for slow memory
    /// together.
    pub(crate) fn check_many<A: Answer>(
        &self,
        checks: &[(Keys<'_>, Cost)],
    ) -> Result<Vec<A>, Error> {
        let mut answers = Vec::with_capacity(checks.len());
        for batch in checks.chunks(BATCH) {
            let mut fingerprints = [[0; MAX_TIERS]; BATCH];
            for ((keys, _), fingerprints) in batch.iter().zip(&mut fingerprints) {
                *fingerprints = self.fingerprints(*keys);
            }
            if batch.len() == BATCH {
                for (tier, segments) in self.segments.iter().enumerate() {
                    self.table(segments).fetch(&fingerprints.map(|of_tiers| of_tiers[tier]));
                }
            }
            let now = self.clock.now();
            for ((_, cost), fingerprints) in batch.iter().zip(&fingerprints) {
                let answer = match (&*self.segments, &*self.limits) {
                    ([segments], [limit]) => {
                        let cost = cost.of_tier(0);
                        check_table(&self.table(segments), limit, fingerprints[0], now, cost)
                            .map(A::from)
                    }
                    _ => self.with_tables(fingerprints, |tables, fingerprints| {
                        A::check(tables, &self.limits, fingerprints, &self.clock, *cost)
                    }),
                };
                answers.push(answer.map_err(Error::from_engine)?.with_source(self.source));
            }
        }
        Ok(answers)
    }

    /// Takes what a key owes under some of the limits out of the tables; `None` if that is nothing.
    pub(crate) fn take(
        &self,
        fingerprint: u64,
        tiers: core::ops::Range<usize>,
        now: u64,
    ) -> Option<Cells> {
        let mut cells = Cells::default();
        let mut owes = false;
        let tables = self.segments.iter().zip(&self.limits).enumerate();
        for (tier, (segments, limit)) in tables.skip(tiers.start).take(tiers.len()) {
            let position = limit.timeline().position(now);
            cells[tier] = self.table(segments).take(fingerprint, position);
            owes |= cells[tier] > position;
        }
        owes.then_some(cells)
    }

    #[inline(always)]
    fn fingerprints(&self, keys: Keys<'_>) -> [u64; MAX_TIERS] {
        self.fingerprinter.of_keys(keys)
    }

    #[inline(always)]
    fn with_tables<R>(
        &self,
        fingerprints: &[u64; MAX_TIERS],
        run: impl FnOnce(&[Table<'_, S>], &[u64]) -> R,
    ) -> R {
        let fingerprints = fingerprints.get(..self.segments.len()).unwrap_or(fingerprints);
        match &*self.segments {
            [a] => run(&[self.table(a)], fingerprints),
            [a, b] => run(&[self.table(a), self.table(b)], fingerprints),
            [a, b, c] => run(&[a, b, c].map(|segments| self.table(segments)), fingerprints),
            [a, b, c, d] => run(&[a, b, c, d].map(|segments| self.table(segments)), fingerprints),
            _ => run(&[], fingerprints),
        }
    }

    #[inline]
    fn table<'s>(&self, segments: &'s S) -> Table<'s, S> {
        Table::new(segments).on_full(self.on_full)
    }
}
