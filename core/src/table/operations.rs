//! Every operation on tables, one table for each limit.

use core::ops::RangeInclusive;

use super::tiers::without_room;
use super::{Segments, Table, TableFull, check_each_table};
use crate::bounds::MAX_TIERS;
use crate::clock::Clock;
use crate::cost::Cost;
use crate::decision::{Decision, TierDecision, TieredDecision};
use crate::error::Error;
use crate::gcra::decide_affordable;
use crate::limit::Limit;
use crate::operation::{Correction, Operation, OperationKind, Outcome};
use crate::reservation::{Charge, Reservation, Reserved, is_paid, reserve_within};
use crate::sync::spin_loop;
use crate::tiers::{Cells, binds_over, check_cost, check_count, decide_each_tier, describe_tiers};

/// [`apply`](crate::apply) on tables, one for each limit in the same order, as
/// [`check_tables`](crate::check_tables) does it for checks.
///
/// A reservation of several limits starts over when one of their buckets changes meanwhile. Its
/// charges come back exactly, unless another call has charged the bucket since: then the slot
/// passes unused, as after any [`cancel`](crate::cancel). The other operations change each limit's
/// bucket by itself.
///
/// If a new key finds no slot in its table, a reservation is too far, and a hold or a settled debt
/// is lost: the decision then says that it was not allowed.
///
/// # Errors
/// The errors of the operation, and [`Error::TierCount`] when there are not as many tables and
/// fingerprints as limits.
pub fn apply_tables<S: Segments + ?Sized>(
    tables: &[Table<'_, S>],
    limits: &[Limit],
    fingerprints: &[u64],
    clock: &(impl Clock + ?Sized),
    operation: Operation,
) -> Result<Outcome, Error> {
    let now = clock.now();
    let call = Call::new(tables, limits, fingerprints, now)?;
    let decision = match operation.kind() {
        OperationKind::Check(cost) => check_each_table(tables, limits, fingerprints, clock, cost),
        OperationKind::Peek(cost) => call.peek(&cost),
        OperationKind::Reserve { cost, max_wait, min_wait } => {
            return call.reserve(&cost, min_wait..=max_wait).map(Outcome::Reserved);
        }
        OperationKind::Cancel(charge) => {
            return Ok(Outcome::Cancelled(call.put_back(&charge)));
        }
        OperationKind::Correction(correction) => {
            operation.check_costs(limits.len())?;
            call.change_each(&correction)
        }
    };
    decision.map(Outcome::Decision)
}

/// One call on all of a key's buckets.
struct Call<'a, 's, S: Segments + ?Sized> {
    tables: &'a [Table<'s, S>],
    limits: &'a [Limit],
    fingerprints: &'a [u64],
    now: u64,
}

/// One limit of a call, with its table and the fingerprint of its key.
struct Tier<'a, 's, S: Segments + ?Sized> {
    table: &'a Table<'s, S>,
    limit: &'a Limit,
    fingerprint: u64,
}

impl<'a, 's, S: Segments + ?Sized> Call<'a, 's, S> {
    fn new(
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

    fn tiers(&self) -> impl Iterator<Item = (u8, Tier<'a, 's, S>)> {
        let tiers = self.tables.iter().zip(self.limits).zip(self.fingerprints);
        (0u8..).zip(tiers.map(|((table, limit), fingerprint)| Tier {
            table,
            limit,
            fingerprint: *fingerprint,
        }))
    }
}

impl<S: Segments + ?Sized> Call<'_, '_, S> {
    /// Replaces each bucket's cell, and answers what the buckets hold afterwards.
    fn change_each(&self, correction: &Correction) -> Result<TieredDecision, Error> {
        let mut binding: Option<Decision> = None;
        let mut each = [TierDecision::default(); MAX_TIERS];
        for (index, tier) in self.tiers() {
            let position = tier.limit.timeline().position(self.now);
            let changed = tier.table.update(tier.fingerprint, position, |cell| {
                let next = correction.cell(usize::from(index), tier.limit, cell, self.now);
                (next != cell).then_some(next)
            });
            let decision = match changed {
                Ok(cell) => {
                    let cell = correction.cell(usize::from(index), tier.limit, cell, self.now);
                    decide_affordable(tier.limit, cell, self.now, 0).0
                }
                Err(full) => without_room(tier.limit, full, self.now),
            };
            let decision = Decision { tier: index, ..decision };
            each[usize::from(index)] = TierDecision::from(&decision);
            if binding.is_none_or(|so_far| binds_over(&decision, &so_far)) {
                binding = Some(decision);
            }
        }
        let decision = binding.ok_or(Error::TierCount { count: 0 })?;
        Ok(TieredDecision::new(decision, each.into_iter().take(self.limits.len())))
    }

    fn cells(&self) -> Cells {
        let mut cells = Cells::default();
        for ((_, tier), cell) in self.tiers().zip(&mut cells) {
            *cell = tier.table.cell(tier.fingerprint);
        }
        cells
    }

    /// The answer to a check of this cost. Neither charges a bucket nor takes a slot.
    fn peek(&self, cost: &Cost) -> Result<TieredDecision, Error> {
        let decision = decide_each_tier(self.limits, &mut self.cells(), self.now, *cost)?;
        if cost.is_zero() || !decision.allowed {
            return Ok(decision);
        }
        for (index, tier) in self.tiers() {
            if cost.of_tier(usize::from(index)) == 0 {
                continue;
            }
            let position = tier.limit.timeline().position(self.now);
            if let Err(full) = tier.table.find_room(tier.fingerprint, position) {
                return Ok(self.without_room(index, full));
            }
        }
        Ok(decision)
    }

    /// The refusal of a new key that found no slot for this limit, with what the others hold.
    fn without_room(&self, index: u8, full: TableFull) -> TieredDecision {
        let limit = &self.limits[usize::from(index)];
        let refused = Decision { tier: index, ..without_room(limit, full, self.now) };
        describe_tiers(refused, self.limits, &self.cells(), self.now, &Cost::same(0))
    }

    fn reserve(&self, cost: &Cost, waits: RangeInclusive<u64>) -> Result<Reserved, Error> {
        check_cost(self.limits, cost)?;
        loop {
            let mut cells = self.cells();
            match reserve_within(self.limits, &mut cells, self.now, cost, waits.clone())? {
                Reserved::Slot(slot) if !cost.is_zero() => match self.take(&slot.charge) {
                    Ok(charge) => return Ok(Reserved::Slot(Reservation { charge, ..slot })),
                    Err(Some((index, full))) => {
                        return Ok(Reserved::TooFar(self.without_room(index, full)));
                    }
                    Err(None) => spin_loop(),
                },
                answer => return Ok(answer),
            }
        }
    }

    /// Charges every bucket as planned. Charges none when one has changed since (`Err(None)`), or
    /// has no room (`Err` with its place).
    fn take(&self, planned: &Charge) -> Result<Charge, Option<(u8, TableFull)>> {
        let mut taken = Charge { before: Cells::default(), after: Cells::default(), ..*planned };
        let cells = planned.before.into_iter().zip(planned.after);
        let places = taken.before.iter_mut().zip(&mut taken.after);
        let mut refused = None;
        for (((index, tier), (expected, after)), (kept_before, kept_after)) in
            self.tiers().zip(cells).zip(places)
        {
            // Nothing is taken from a tier whose cost is 0.
            if expected == after {
                (*kept_before, *kept_after) = (expected, after);
                continue;
            }
            let position = tier.limit.timeline().position(self.now);
            // All cells up to the position are the same full bucket.
            let same = |cell: u64| cell.max(position) == expected.max(position);
            let update =
                tier.table.update(tier.fingerprint, position, |cell| same(cell).then_some(after));
            match update {
                Ok(before) if same(before) => (*kept_before, *kept_after) = (before, after),
                Ok(_) => refused = Some(None),
                Err(full) => refused = Some(Some((index, full))),
            }
            if refused.is_some() {
                break;
            }
        }
        match refused {
            None => Ok(taken),
            Some(refused) => {
                self.put_back(&taken);
                Err(refused)
            }
        }
    }

    /// [`cancel`](crate::cancel), for each bucket by itself.
    fn put_back(&self, charge: &Charge) -> bool {
        let mut all = true;
        let cells = charge.before.iter().zip(&charge.after);
        for ((_, tier), (before, after)) in self.tiers().zip(cells) {
            if before == after {
                continue;
            }
            let position = tier.limit.timeline().position(self.now);
            // A key without a bucket takes no slot by this.
            let update = tier
                .table
                .update(tier.fingerprint, position, |cell| (cell == *after).then_some(*before));
            all &= update
                .is_ok_and(|cell| cell == *after || is_paid(tier.limit, self.now, cell, *after));
        }
        all
    }
}
