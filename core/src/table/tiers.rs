//! Checks of one to four limits on tables.

use super::{Charged, Receipt, Segments, Table, TableFull};
use crate::clock::Clock;
use crate::cost::Cost;
use crate::decision::{Decision, Source, TierDecision, TieredDecision};
use crate::error::Error;
use crate::gcra::{decide_affordable, describe_charged, describe_tier};
use crate::limit::Limit;
use crate::tiers::{binds_over, check_cost};

/// A check makes this many attempts when one tier refuses because of another call's charge after
/// an earlier tier has been charged. Then it is refused.
const ATTEMPTS: u32 = 3;

/// [`decide_tiers`](crate::decide_tiers) on tables, one for each limit in the same
/// order: all charge, or none does.
///
/// There is one fingerprint for each limit. They are the same for one key with several limits, and
/// different for parent and child buckets (a user and its organisation).
///
/// Tiers are charged in order. If a later tier refuses after all because another call came first,
/// the charges are given back. So under contention a call may be refused because of a charge that
/// is about to be given back, but is never allowed because of one. Once it has returned, a refusal
/// has changed nothing, except where others have charged the same cell meanwhile: the time for
/// which the charge stood is then not given back.
///
/// A new key that finds no slot is refused, and `retry_after` tells when the first of its slots is
/// free.
///
/// The clock is read once, and once more if a charge is given back.
///
/// # Errors
/// As [`decide_tiers`](crate::decide_tiers), also when there are not as many
/// tables and fingerprints as limits.
#[inline(always)]
pub fn check_tables<S: Segments + ?Sized>(
    tables: &[Table<'_, S>],
    limits: &[Limit],
    fingerprints: &[u64],
    clock: &(impl Clock + ?Sized),
    cost: impl Into<Cost>,
) -> Result<Decision, Error> {
    check_tables_as(tables, limits, fingerprints, clock, cost.into())
}

#[inline(always)]
fn check_tables_as<A: Answer, S: Segments + ?Sized>(
    tables: &[Table<'_, S>],
    limits: &[Limit],
    fingerprints: &[u64],
    clock: &(impl Clock + ?Sized),
    cost: Cost,
) -> Result<A, Error> {
    match (tables, limits, fingerprints) {
        ([table], [limit], [fingerprint]) => {
            cost.check_count(1)?;
            let decision = check_table(table, limit, *fingerprint, clock.now(), cost.of_tier(0))?;
            Ok(A::new(decision, || decision.into()))
        }
        ([t0, t1], [l0, l1], [p0, p1]) => {
            check_each([*t0, *t1], [l0, l1], [*p0, *p1], clock, &cost)
        }
        ([t0, t1, t2], [l0, l1, l2], [p0, p1, p2]) => {
            check_each([*t0, *t1, *t2], [l0, l1, l2], [*p0, *p1, *p2], clock, &cost)
        }
        ([t0, t1, t2, t3], [l0, l1, l2, l3], [p0, p1, p2, p3]) => {
            check_each([*t0, *t1, *t2, *t3], [l0, l1, l2, l3], [*p0, *p1, *p2, *p3], clock, &cost)
        }
        _ => {
            check_cost(limits, &cost)?;
            let count = [tables.len(), fingerprints.len(), limits.len()];
            let wrong = count.into_iter().find(|count| *count != limits.len());
            Err(Error::TierCount { count: wrong.unwrap_or(limits.len()) })
        }
    }
}

/// [`check_tables`], which answers also what each limit says.
///
/// # Errors
/// As [`check_tables`].
// Not inlined: a caller that wants every limit's answer reads all of it.
pub fn check_each_table<S: Segments + ?Sized>(
    tables: &[Table<'_, S>],
    limits: &[Limit],
    fingerprints: &[u64],
    clock: &(impl Clock + ?Sized),
    cost: impl Into<Cost>,
) -> Result<TieredDecision, Error> {
    check_tables_as(tables, limits, fingerprints, clock, cost.into())
}

/// A check's answer: the decision alone, or with what each limit says, which costs nothing where
/// only the decision is wanted.
trait Answer: Sized {
    fn new(decision: Decision, each: impl FnOnce() -> TieredDecision) -> Self;
}

impl Answer for Decision {
    #[inline(always)]
    fn new(decision: Decision, _: impl FnOnce() -> TieredDecision) -> Self {
        decision
    }
}

impl Answer for TieredDecision {
    #[inline(always)]
    fn new(_: Decision, each: impl FnOnce() -> Self) -> Self {
        each()
    }
}

/// [`decide`](crate::decide) on a table: [`check_tables`] with a single limit.
///
/// # Errors
/// As [`decide`](crate::decide).
// Inlined, and with a decision that is made last and from the cell alone, it costs a caller that
// reads only part of the decision no more than that part.
#[inline(always)]
pub fn check_table<S: Segments + ?Sized>(
    table: &Table<'_, S>,
    limit: &Limit,
    fingerprint: u64,
    now: u64,
    cost: u64,
) -> Result<Decision, Error> {
    let burst = limit.burst();
    if cost > burst {
        return Err(Error::CostTooLarge { cost, burst });
    }
    // The common case: the bucket is there, its slot is not being taken away, and no other call
    // interferes.
    if let Some((entry, before)) = table.read_live(fingerprint) {
        let (decision, next) = decide_affordable(limit, before, now, cost);
        if next == before || entry.charge(before, next) {
            return Ok(decision);
        }
    }
    Ok(match charge_slow_path(*table, limit, fingerprint, now, cost) {
        Ok(before) => decide_affordable(limit, before, now, cost).0,
        Err(full) => without_room(limit, full, now),
    })
}

#[cold]
#[inline(never)]
fn charge_slow_path<S: Segments + ?Sized>(
    table: Table<'_, S>,
    limit: &Limit,
    fingerprint: u64,
    now: u64,
    cost: u64,
) -> Result<u64, TableFull> {
    let position = limit.timeline().position(now);
    table.update(fingerprint, position, |cell| {
        let (_, next) = decide_affordable(limit, cell, now, cost);
        (next != cell).then_some(next)
    })
}

/// A check of `N` limits in the common case: all buckets are there, no slot is being taken away,
/// and no other call interferes. Everything else is left to [`TieredCheck`].
///
/// Until a bucket is charged nothing is written to memory, not even to the stack, because a
/// compare-and-swap waits for all earlier stores.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a tier's number is the index of five arrays")]
fn check_each<A: Answer, S: Segments + ?Sized, const N: usize>(
    tables: [Table<'_, S>; N],
    limits: [&Limit; N],
    fingerprints: [u64; N],
    clock: &(impl Clock + ?Sized),
    cost: &Cost,
) -> Result<A, Error> {
    cost.check_count(N)?;
    for tier in 0..N {
        if cost.of_tier(tier) > limits[tier].burst() {
            return Err(cost.too_large(limits.into_iter()));
        }
    }
    let now = clock.now();
    let check = || TieredCheck { tables, limits, fingerprints, now, cost };
    // Arrays of plain words that are filled in a loop stay in registers; an array of pairs does
    // not.
    let (mut entries, mut cells, mut nexts) = ([None; N], [0; N], [0; N]);
    for tier in 0..N {
        let Some((entry, cell)) = tables[tier].read_live(fingerprints[tier]) else {
            return Ok(check().run(clock));
        };
        (entries[tier], cells[tier]) = (Some(entry), cell);
    }
    for tier in 0..N {
        let cost = cost.of_tier(tier);
        let (decision, next) = decide_affordable(limits[tier], cells[tier], now, cost);
        if !decision.allowed {
            let check = check();
            return Ok(check.answer(check.decide_all(&cells), &cells));
        }
        nexts[tier] = next;
    }
    for tier in 0..N {
        // Nothing is taken from a tier whose cost is 0.
        if nexts[tier] == cells[tier] {
            continue;
        }
        if !entries[tier].is_some_and(|entry| entry.charge(cells[tier], nexts[tier])) {
            let mut receipts = [None; N];
            for charged in (0..tier).filter(|tier| nexts[*tier] != cells[*tier]) {
                let receipt = |entry| Receipt::new(entry, cells[charged], nexts[charged]);
                receipts[charged] = entries[charged].map(receipt);
            }
            let check = check();
            return Ok(check.conclude(check.run_contended(clock, receipts, tier)));
        }
    }
    let mut binding = describe_charged(limits[0], nexts[0], now);
    for tier in 1..N {
        let decision = describe_charged(limits[tier], nexts[tier], now);
        if binds_over(&decision, &binding) {
            binding = Decision { tier: tier as u8, ..decision };
        }
    }
    Ok(A::new(binding, || {
        let each = (0..N).map(|tier| {
            let decision = describe_charged(limits[tier], nexts[tier], now);
            TierDecision::from(&Decision { tier: tier as u8, ..decision })
        });
        TieredDecision::new(binding, each)
    }))
}

/// A check of `N` limits, for a cost within their bursts.
struct TieredCheck<'a, 's, S: Segments + ?Sized, const N: usize> {
    tables: [Table<'s, S>; N],
    limits: [&'a Limit; N],
    fingerprints: [u64; N],
    now: u64,
    cost: &'a Cost,
}

#[allow(clippy::needless_range_loop, reason = "a tier's number is the index of three arrays")]
impl<'s, S: Segments + ?Sized, const N: usize> TieredCheck<'_, 's, S, N> {
    /// Runs the check when a bucket is missing, or its slot is being taken away.
    #[cold]
    #[inline(never)]
    fn run<A: Answer>(&self, clock: &(impl Clock + ?Sized)) -> A {
        let cells = self.cells();
        let decision = self.decide_all(&cells);
        if self.cost.is_zero() || !decision.allowed {
            return self.answer(decision, &cells);
        }
        self.conclude(self.run_contended(clock, [None; N], 0))
    }

    fn cells(&self) -> [u64; N] {
        core::array::from_fn(|tier| self.tables[tier].cell(self.fingerprints[tier]))
    }

    #[inline(always)]
    fn next(&self, tier: usize, cell: u64) -> u64 {
        decide_affordable(self.limits[tier], cell, self.now, self.cost.of_tier(tier)).1
    }

    #[inline(always)]
    fn decide(&self, tier: usize, cell: u64) -> Decision {
        decide_affordable(self.limits[tier], cell, self.now, self.cost.of_tier(tier)).0
    }

    /// The decision of all tiers together, by the cells before the call.
    #[inline(always)]
    fn decide_all(&self, cells: &[u64; N]) -> Decision {
        let mut binding = self.decide(0, cells[0]);
        for tier in 1..N {
            let decision = self.decide(tier, cells[tier]);
            if binds_over(&decision, &binding) {
                binding = Decision { tier: tier as u8, ..decision };
            }
        }
        binding
    }

    /// The decision of a check that ended in this way.
    #[inline(always)]
    fn conclude<A: Answer>(&self, end: Ending<N>) -> A {
        let refused = match end {
            Ending::Decided(cells) => return self.answer(self.decide_all(&cells), &cells),
            Ending::Refused { tier, cell } => {
                Decision { tier: tier as u8, ..self.decide(tier, cell) }
            }
            Ending::WithoutRoom { tier, cell } => {
                let refused = without_room(self.limits[tier], TableFull { cell }, self.now);
                Decision { tier: tier as u8, ..refused }
            }
        };
        A::new(refused, || self.describe_all(refused, &self.cells()))
    }

    /// The answer of this decision, by the cells before the call.
    #[inline(always)]
    fn answer<A: Answer>(&self, decision: Decision, cells: &[u64; N]) -> A {
        A::new(decision, || self.describe_all(decision, cells))
    }

    #[inline(never)]
    fn describe_all(&self, decision: Decision, cells: &[u64; N]) -> TieredDecision {
        let each = (0..N).map(|tier| {
            let (limit, cost) = (self.limits[tier], self.cost.of_tier(tier));
            describe_tier(tier as u8, limit, cells[tier], self.now, cost, decision.allowed)
        });
        TieredDecision::new(decision, each)
    }

    /// Completes a check that has met a new key or another call. Its tiers before `first` have been
    /// charged.
    #[cold]
    #[inline(never)]
    fn run_contended(
        &self,
        clock: &(impl Clock + ?Sized),
        mut receipts: [Option<Receipt<'s>>; N],
        mut first: usize,
    ) -> Ending<N> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let end = self.charge_from(first, &mut receipts);
            if matches!(end, Ending::Decided(_)) {
                return end;
            }
            self.give_back(&receipts, clock.now());
            if attempts == 0 {
                return end;
            }
            let cells = self.cells();
            if !self.decide_all(&cells).allowed {
                return Ending::Decided(cells);
            }
            (first, receipts) = (0, [None; N]);
        }
    }

    /// Charges the tiers from `first` on, up to the first that refuses.
    fn charge_from(&self, first: usize, receipts: &mut [Option<Receipt<'s>>; N]) -> Ending<N> {
        for tier in (first..N).filter(|tier| self.cost.of_tier(*tier) > 0) {
            let position = self.limits[tier].timeline().position(self.now);
            let charged = self.tables[tier].charge(self.fingerprints[tier], position, |cell| {
                Some(self.next(tier, cell)).filter(|next| *next != cell)
            });
            match charged {
                Ok(Charged { receipt: Some(receipt), .. }) => receipts[tier] = Some(receipt),
                Ok(Charged { before: cell, receipt: None }) => {
                    return Ending::Refused { tier, cell };
                }
                Err(TableFull { cell }) => {
                    return Ending::WithoutRoom { tier, cell };
                }
            }
        }
        let uncharged = |tier: usize| self.tables[tier].cell(self.fingerprints[tier]);
        Ending::Decided(core::array::from_fn(|tier| {
            receipts[tier].map_or_else(|| uncharged(tier), |receipt| receipt.before)
        }))
    }

    /// Takes all charges back at the time `later`.
    fn give_back(&self, receipts: &[Option<Receipt<'s>>; N], later: u64) {
        for (tier, receipt) in receipts.iter().enumerate() {
            if let Some(receipt) = receipt {
                let timeline = self.limits[tier].timeline();
                let elapsed = timeline.position(later).saturating_sub(timeline.position(self.now));
                let charge = self.cost.of_tier(tier) * timeline.width();
                self.tables[tier].give_back(receipt, charge, elapsed);
            }
        }
    }
}

/// The refusal of a new key that found no slot.
#[inline(always)]
pub(super) fn without_room(limit: &Limit, full: TableFull, now: u64) -> Decision {
    let timeline = limit.timeline();
    let ahead = full.cell.saturating_sub(timeline.position(now));
    let wait = timeline.until(now, ahead.saturating_add(1));
    Decision {
        allowed: false,
        limit: limit.burst(),
        remaining: 0,
        retry_after: wait,
        reset_after: wait,
        tier: 0,
        source: Source::Memory,
    }
}

/// How a contended check ended: a few words, from which [`TieredCheck::conclude`] makes the
/// decision where it is needed.
enum Ending<const N: usize> {
    /// All tiers decide on these cells, as they were before the call.
    Decided([u64; N]),
    /// This tier refused, because another call charged it first.
    Refused { tier: usize, cell: u64 },
    /// A new key found no slot in this tier.
    WithoutRoom { tier: usize, cell: u64 },
}
