use super::charge::Seen;
use super::{Charged, Receipt, Segments, Table, TableFull};
use crate::clock::Clock;
use crate::decision::{Decision, Source};
use crate::error::Error;
use crate::gcra::decide_affordable;
use crate::limit::Limit;
use crate::tiers::{MAX_TIERS, binds_over, check_cost, check_count};

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
    if let ([table], [limit], [fingerprint]) = (tables, limits, fingerprints) {
        return check_table(table, limit, *fingerprint, clock.now(), cost);
    }
    check_each(tables, limits, fingerprints, clock, cost)
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
    let step = |cell| {
        let (_, next) = decide_affordable(limit, cell, now, cost);
        (next != cell).then_some(next)
    };
    let before = match table.charge_as_a_rule(fingerprint, step) {
        Some(charged) => Ok(charged.before),
        None => charge_in_the_end(table, limit, fingerprint, now, cost),
    };
    Ok(match before {
        Ok(before) => decide_affordable(limit, before, now, cost).0,
        Err(full) => without_room(limit, full, now),
    })
}

#[cold]
#[inline(never)]
fn charge_in_the_end<S: Segments + ?Sized>(
    table: &Table<'_, S>,
    limit: &Limit,
    fingerprint: u64,
    now: u64,
    cost: u64,
) -> Result<u64, TableFull> {
    let tier = Tier { table, limit, fingerprint };
    tier.try_charge(now, cost).map(|charged| charged.before)
}

#[inline(never)]
fn check_each<S: Segments + ?Sized>(
    tables: &[Table<'_, S>],
    limits: &[Limit],
    fingerprints: &[u64],
    clock: &(impl Clock + ?Sized),
    cost: u64,
) -> Result<Decision, Error> {
    Call::new(tables, limits, fingerprints, clock.now())?.check(clock, cost)
}

/// One call on all of a key's buckets.
pub(super) struct Call<'a, 's, S: Segments + ?Sized> {
    tables: &'a [Table<'s, S>],
    pub(super) limits: &'a [Limit],
    fingerprints: &'a [u64],
    pub(super) now: u64,
}

/// One of them.
pub(super) struct Tier<'a, 's, S: Segments + ?Sized> {
    pub(super) table: &'a Table<'s, S>,
    pub(super) limit: &'a Limit,
    pub(super) fingerprint: u64,
}

impl<'a, 's, S: Segments + ?Sized> Call<'a, 's, S> {
    pub(super) fn new(
        tables: &'a [Table<'s, S>],
        limits: &'a [Limit],
        fingerprints: &'a [u64],
        now: u64,
    ) -> Result<Self, Error> {
        check_count(limits)?;
        for count in [tables.len(), fingerprints.len()] {
            if count != limits.len() {
                return Err(Error::TierCount { count });
            }
        }
        Ok(Self { tables, limits, fingerprints, now })
    }

    pub(super) fn tiers(&self) -> impl Iterator<Item = (u8, Tier<'a, 's, S>)> {
        let tiers = self.tables.iter().zip(self.limits).zip(self.fingerprints);
        (0u8..).zip(tiers.map(|((table, limit), fingerprint)| Tier {
            table,
            limit,
            fingerprint: *fingerprint,
        }))
    }

    pub(super) fn check(
        &self,
        clock: &(impl Clock + ?Sized),
        cost: u64,
    ) -> Result<Decision, Error> {
        check_cost(self.limits, cost)?;
        let mut attempts = ATTEMPTS;
        loop {
            let (decision, seen) = self.look(cost)?;
            if !decision.allowed || cost == 0 {
                return Ok(decision);
            }
            attempts -= 1;
            let decision = self.charge_all(clock, cost, decision, &seen)?;
            if decision.allowed || attempts == 0 {
                return Ok(decision);
            }
        }
    }

    /// What all tiers together would answer, and the cells that say so.
    fn look(&self, cost: u64) -> Result<(Decision, [Option<Seen<'s>>; MAX_TIERS]), Error> {
        let mut seen = [const { None }; MAX_TIERS];
        let mut binding = Binding::default();
        for ((tier, of), seen) in self.tiers().zip(&mut seen) {
            let bucket = of.table.look(of.fingerprint);
            let cell = bucket.as_ref().map_or(0, Seen::cell);
            let (decision, after) = decide_affordable(of.limit, cell, self.now, cost);
            binding.consider(tier, decision);
            *seen = bucket.map(|bucket| bucket.to_become(after));
        }
        Ok((binding.decision()?, seen))
    }

    /// Charges what was seen; where a bucket has changed since, what it is now.
    fn charge_all(
        &self,
        clock: &(impl Clock + ?Sized),
        cost: u64,
        looked: Decision,
        seen: &[Option<Seen<'s>>; MAX_TIERS],
    ) -> Result<Decision, Error> {
        let mut receipts = [None; MAX_TIERS];
        let mut binding = Binding::default();
        let mut as_seen = true;
        for (((tier, of), seen), place) in self.tiers().zip(seen).zip(&mut receipts) {
            let charged = seen.as_ref().and_then(|seen| of.table.charge_seen(seen));
            let (decision, receipt) = match charged {
                Some(receipt) => (None, Some(receipt)),
                None => {
                    as_seen = false;
                    let (decision, receipt) = of.charge(self.now, cost);
                    (Some(decision), receipt)
                }
            };
            *place = receipt;
            match decision {
                Some(refused) if !refused.allowed => {
                    self.give_back(&receipts, clock.now(), cost);
                    return Ok(Decision { tier, ..refused });
                }
                Some(decision) => binding.consider(tier, decision),
                None => {
                    let after = receipt.map_or(0, |receipt| receipt.after);
                    let (decision, _) = decide_affordable(of.limit, after, self.now, 0);
                    binding.consider(tier, decision);
                }
            }
        }
        if as_seen { Ok(looked) } else { binding.decision() }
    }

    fn give_back(&self, receipts: &[Option<Receipt>; MAX_TIERS], later: u64, cost: u64) {
        for ((_, of), receipt) in self.tiers().zip(receipts) {
            if let Some(receipt) = receipt {
                let timeline = of.limit.timeline();
                let elapsed = timeline.position(later).saturating_sub(timeline.position(self.now));
                of.table.give_back(receipt, cost * timeline.width(), elapsed);
            }
        }
    }
}

impl<S: Segments + ?Sized> Tier<'_, '_, S> {
    /// For a cost within the burst.
    fn charge(&self, now: u64, cost: u64) -> (Decision, Option<Receipt>) {
        match self.try_charge(now, cost) {
            Ok(Charged { before, receipt }) => {
                (decide_affordable(self.limit, before, now, cost).0, receipt)
            }
            Err(full) => (self.without_room(full, now), None),
        }
    }

    fn try_charge(&self, now: u64, cost: u64) -> Result<Charged, TableFull> {
        let position = self.limit.timeline().position(now);
        self.table.charge(self.fingerprint, position, |cell| {
            let (_, next) = decide_affordable(self.limit, cell, now, cost);
            (next != cell).then_some(next)
        })
    }

    pub(super) fn without_room(&self, full: TableFull, now: u64) -> Decision {
        without_room(self.limit, full, now)
    }
}

/// The refusal of a new key that has no slot.
#[inline(always)]
fn without_room(limit: &Limit, full: TableFull, now: u64) -> Decision {
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

/// The tier's decision that stands for all of them.
#[derive(Default)]
pub(super) struct Binding(Option<Decision>);

impl Binding {
    pub(super) fn consider(&mut self, tier: u8, decision: Decision) {
        if self.0.is_none_or(|so_far| binds_over(&decision, &so_far)) {
            self.0 = Some(Decision { tier, ..decision });
        }
    }

    pub(super) fn decision(self) -> Result<Decision, Error> {
        self.0.ok_or(Error::TierCount { count: 0 })
    }
}
