use super::{Charged, Receipt, Segments, Table, TableFull};
use crate::clock::Clock;
use crate::decision::{Decision, Source};
use crate::error::Error;
use crate::gcra::{decide_affordable, describe_charged};
use crate::limit::Limit;
use crate::tiers::{binds_over, check_cost};

/// How often a call starts over because another call's charge stood in its way
/// in one tier after an earlier tier had allowed.
const ATTEMPTS: u32 = 3;

/// [`decide_tiers`](crate::decide_tiers) on tables, one for each limit in the same
/// order: all charge, or none does.
///
/// There is one fingerprint for each limit, all the same for one key with several
/// limits; different ones are parent and child buckets (a user, its organisation).
///
/// Tiers are charged in order and given back when a later one refuses after all,
/// because another call came between. So under contention a call may refuse
/// because of a charge still in flight, never admit because of one; once it has
/// returned, a refusal has changed nothing (but when others have charged the same
/// cell meanwhile: the time that the charge was in flight is then not given back).
///
/// A new key without room is refused, until the first of its slots is free.
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
    cost: u64,
) -> Result<Decision, Error> {
    match (tables, limits, fingerprints) {
        ([table], [limit], [print]) => check_table(table, limit, *print, clock.now(), cost),
        ([t0, t1], [l0, l1], [p0, p1]) => check_each([*t0, *t1], [l0, l1], [*p0, *p1], clock, cost),
        ([t0, t1, t2], [l0, l1, l2], [p0, p1, p2]) => {
            check_each([*t0, *t1, *t2], [l0, l1, l2], [*p0, *p1, *p2], clock, cost)
        }
        ([t0, t1, t2, t3], [l0, l1, l2, l3], [p0, p1, p2, p3]) => {
            check_each([*t0, *t1, *t2, *t3], [l0, l1, l2, l3], [*p0, *p1, *p2, *p3], clock, cost)
        }
        _ => {
            check_cost(limits, cost)?;
            let count = [tables.len(), fingerprints.len(), limits.len()];
            let wrong = count.into_iter().find(|count| *count != limits.len());
            Err(Error::TierCount { count: wrong.unwrap_or(limits.len()) })
        }
    }
}

/// [`decide`](crate::decide) on a table: [`check_tables`] with a single limit.
///
/// # Errors
/// As [`decide`](crate::decide).
// Inlined, and the decision made last of all from the cell alone, a caller that reads only
// part of the decision pays only for that.
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
    // As a rule the bucket is there, nobody wants its slot, and nobody comes between.
    if let Some((entry, before)) = table.look(fingerprint) {
        let (decision, next) = decide_affordable(limit, before, now, cost);
        if next == before || entry.charge(before, next) {
            return Ok(decision);
        }
    }
    Ok(match charge_in_the_end(*table, limit, fingerprint, now, cost) {
        Ok(before) => decide_affordable(limit, before, now, cost).0,
        Err(full) => without_room(limit, full, now),
    })
}

#[cold]
#[inline(never)]
fn charge_in_the_end<S: Segments + ?Sized>(
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

/// As a rule all buckets are there, nobody wants their slots, and nobody comes between.
///
/// Until a bucket is charged nothing is written to memory, not even to the stack: a
/// compare-and-swap waits for all that was.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a tier's number is the index of five arrays")]
fn check_each<S: Segments + ?Sized, const N: usize>(
    tables: [Table<'_, S>; N],
    limits: [&Limit; N],
    fingerprints: [u64; N],
    clock: &(impl Clock + ?Sized),
    cost: u64,
) -> Result<Decision, Error> {
    for limit in limits {
        if cost > limit.burst() {
            return Err(too_large(limits, cost));
        }
    }
    let now = clock.now();
    let tiers = || Tiers { tables, limits, fingerprints, now, cost };
    // Arrays of plain words, filled in a loop, stay in registers; one of pairs does not.
    let (mut entries, mut cells, mut nexts) = ([None; N], [0; N], [0; N]);
    for tier in 0..N {
        let Some((entry, cell)) = tables[tier].look(fingerprints[tier]) else {
            return Ok(tiers().check(clock));
        };
        (entries[tier], cells[tier]) = (Some(entry), cell);
    }
    for tier in 0..N {
        let (decision, next) = decide_affordable(limits[tier], cells[tier], now, cost);
        if !decision.allowed || cost == 0 {
            return Ok(tiers().bind(&cells));
        }
        nexts[tier] = next;
    }
    for tier in 0..N {
        if !entries[tier].is_some_and(|entry| entry.charge(cells[tier], nexts[tier])) {
            let mut receipts = [None; N];
            for charged in 0..tier {
                let receipt = |entry| Receipt::of(entry, cells[charged], nexts[charged]);
                receipts[charged] = entries[charged].map(receipt);
            }
            let tiers = tiers();
            return Ok(tiers.conclude(tiers.check_with_others(clock, receipts, tier)));
        }
    }
    let mut binding = describe_charged(limits[0], nexts[0], now);
    for tier in 1..N {
        let decision = describe_charged(limits[tier], nexts[tier], now);
        if binds_over(&decision, &binding) {
            binding = Decision { tier: tier as u8, ..decision };
        }
    }
    Ok(binding)
}

#[cold]
#[inline(never)]
fn too_large<const N: usize>(limits: [&Limit; N], cost: u64) -> Error {
    let burst = limits.map(Limit::burst).into_iter().min().unwrap_or(0);
    Error::CostTooLarge { cost, burst }
}

/// A check of `N` limits, for a cost within their bursts.
struct Tiers<'a, 's, S: Segments + ?Sized, const N: usize> {
    tables: [Table<'s, S>; N],
    limits: [&'a Limit; N],
    fingerprints: [u64; N],
    now: u64,
    cost: u64,
}

#[allow(clippy::needless_range_loop, reason = "a tier's number is the index of three arrays")]
impl<'s, S: Segments + ?Sized, const N: usize> Tiers<'_, 's, S, N> {
    /// Where not all buckets are there, or not all left alone.
    #[cold]
    #[inline(never)]
    fn check(&self, clock: &(impl Clock + ?Sized)) -> Decision {
        let seen = self.bind(&self.cells());
        if self.cost == 0 || !seen.allowed {
            return seen;
        }
        self.conclude(self.check_with_others(clock, [None; N], 0))
    }

    fn cells(&self) -> [u64; N] {
        core::array::from_fn(|tier| self.tables[tier].cell(self.fingerprints[tier]))
    }

    #[inline(always)]
    fn next(&self, tier: usize, cell: u64) -> u64 {
        decide_affordable(self.limits[tier], cell, self.now, self.cost).1
    }

    #[inline(always)]
    fn decide(&self, tier: usize, cell: u64) -> Decision {
        decide_affordable(self.limits[tier], cell, self.now, self.cost).0
    }

    /// What all tiers together answer, given the cells before the call.
    #[inline(always)]
    fn bind(&self, cells: &[u64; N]) -> Decision {
        let mut binding = self.decide(0, cells[0]);
        for tier in 1..N {
            let decision = self.decide(tier, cells[tier]);
            if binds_over(&decision, &binding) {
                binding = Decision { tier: tier as u8, ..decision };
            }
        }
        binding
    }

    #[inline(always)]
    fn conclude(&self, end: End<N>) -> Decision {
        match end {
            End::Bound(cells) => self.bind(&cells),
            End::Refused { tier, cell } => Decision { tier: tier as u8, ..self.decide(tier, cell) },
            End::WithoutRoom { tier, cell } => {
                let refused = without_room(self.limits[tier], TableFull { cell }, self.now);
                Decision { tier: tier as u8, ..refused }
            }
        }
    }

    /// The rest of a check that has met a new key or another call; its tiers before `first` have
    /// been charged.
    #[cold]
    #[inline(never)]
    fn check_with_others(
        &self,
        clock: &(impl Clock + ?Sized),
        mut receipts: [Option<Receipt<'s>>; N],
        mut first: usize,
    ) -> End<N> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let end = self.charge_from(first, &mut receipts);
            if matches!(end, End::Bound(_)) {
                return end;
            }
            self.give_back(&receipts, clock.now());
            if attempts == 0 {
                return end;
            }
            let cells = self.cells();
            if !self.bind(&cells).allowed {
                return End::Bound(cells);
            }
            (first, receipts) = (0, [None; N]);
        }
    }

    fn charge_from(&self, first: usize, receipts: &mut [Option<Receipt<'s>>; N]) -> End<N> {
        for tier in first..N {
            let position = self.limits[tier].timeline().position(self.now);
            let charged = self.tables[tier].charge(self.fingerprints[tier], position, |cell| {
                Some(self.next(tier, cell)).filter(|next| *next != cell)
            });
            match charged {
                Ok(Charged { receipt: Some(receipt), .. }) => receipts[tier] = Some(receipt),
                Ok(Charged { before: cell, receipt: None }) => {
                    return End::Refused { tier, cell };
                }
                Err(TableFull { cell }) => {
                    return End::WithoutRoom { tier, cell };
                }
            }
        }
        End::Bound(receipts.map(|receipt| receipt.map_or(0, |receipt| receipt.before)))
    }

    fn give_back(&self, receipts: &[Option<Receipt<'s>>; N], later: u64) {
        for (tier, receipt) in receipts.iter().enumerate() {
            if let Some(receipt) = receipt {
                let timeline = self.limits[tier].timeline();
                let elapsed = timeline.position(later).saturating_sub(timeline.position(self.now));
                self.tables[tier].give_back(receipt, self.cost * timeline.width(), elapsed);
            }
        }
    }
}

/// The refusal of a new key that has no slot.
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

/// How a check ended that met others, in few words, of which the decision is made where it
/// is needed.
enum End<const N: usize> {
    /// As decided on these cells.
    Bound([u64; N]),
    /// By this tier, another call having come between.
    Refused { tier: usize, cell: u64 },
    /// By this tier, where a new key has no slot.
    WithoutRoom { tier: usize, cell: u64 },
}
