//! Slots ahead of time: `reserve` takes one, `cancel` gives it back.

use core::ops::RangeInclusive;

use crate::bounds::{MAX_SPAN, MAX_TIERS};
use crate::cost::Cost;
use crate::decision::{Decision, Source, TierDecision, TieredDecision};
use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_cost};

/// The answer to [`reserve`]: a slot, or that none is near enough.
#[must_use = "a slot that is not waited for should be cancelled"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The tokens are charged; spend them after [`Reservation::delay`].
    Slot(Reservation),
    /// The slot is further away than the caller would wait; nothing was charged.
    ///
    /// `retry_after` is the shortest wait after which this call, with this `max_wait`, would get a
    /// slot if no other call came; [`u64::MAX`] past the end of the timeline. The other fields are
    /// those of a refused check.
    TooFar(TieredDecision),
}

/// A charge ahead of time, to be spent once `delay` has passed.
#[must_use = "a slot that is not waited for should be cancelled"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// How long to wait before spending, in nanoseconds from the `now` of the call: the longest
    /// delay of all tiers. 0 is an allowed check.
    pub delay: u64,
    /// The buckets after the charge, as in the answer to an allowed check. The binding tier is the
    /// one with the longest delay, then with the least `remaining`, then the first.
    pub decision: TieredDecision,
    /// What was charged, which is all that a later [`cancel`] or [`settle`](crate::settle) needs.
    pub charge: Charge,
}

/// A charge that can be given back. It is plain data, so that a host can keep it or send it to
/// another process.
///
/// It must be cancelled or settled at most once. The engine cannot see that; a host's handle for
/// a reservation ensures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The tokens that were charged; 0 where the answer charged nothing, as a policy for a
    /// failing store may.
    pub cost: Cost,
    /// The cells before the charge, to which [`cancel`] goes back.
    pub before: Cells,
    /// The cells as the charge left them, by which [`cancel`] sees that it was the last.
    pub after: Cells,
    /// Where the charged bucket lives.
    pub source: Source,
}

/// Takes the next slot for `cost` tokens if it is at most `max_wait` nanoseconds away. The bucket
/// is charged now and the tokens are spent later, so that a caller waits once, for its own slot,
/// instead of asking again and again.
///
/// Slots are handed out first come, first served: a charge moves the bucket's one integer forward,
/// and the next caller's slot comes after it, whatever its cost. In any stretch of time `X` the
/// tokens whose slots lie in it are at most `burst + floor(X / width)`, the bound of a check. On a
/// stepped limit a delay ends on a step.
///
/// With several limits all slots are within `max_wait` or none is charged. The delay is the
/// longest, and all limits are charged for that time. A bucket owes at most [`MAX_SPAN`]: a slot
/// that would owe more is too far, whatever the `max_wait`. A cost of 0 takes no slot and is never
/// too far.
///
/// # Errors
/// [`Error::TierCount`], [`Error::CostCount`], and [`Error::CostTooLarge`] when a cost is above a burst:
/// no wait would be long enough.
///
/// ```
/// use tidegate_core::{Cells, Limit, Reserved, reserve};
/// let limits = [Limit::parse("2/s burst 1")?];
/// let mut cells = Cells::default();
/// let (now, half) = (7_000_000_000, 500_000_000);
/// for delay in [0, half, 2 * half] {
///     let Reserved::Slot(slot) = reserve(&limits, &mut cells, now, 1, 2 * half)? else { panic!() };
///     assert_eq!(slot.delay, delay);
/// }
/// let Reserved::TooFar(refused) = reserve(&limits, &mut cells, now, 1, 2 * half)? else { panic!() };
/// assert_eq!(refused.retry_after, half);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn reserve(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    cost: impl Into<Cost>,
    max_wait: u64,
) -> Result<Reserved, Error> {
    reserve_within(limits, cells, now, &cost.into(), 0..=max_wait)
}

/// [`reserve`] of a slot that is not nearer than the shortest of the `waits`, and not further away
/// than the longest.
pub(crate) fn reserve_within(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    cost: &Cost,
    waits: RangeInclusive<u64>,
) -> Result<Reserved, Error> {
    let (min_wait, max_wait) = waits.into_inner();
    check_cost(limits, cost)?;
    // A cost of 0 takes no slot.
    let min_wait = if cost.is_zero() { 0 } else { min_wait };
    let before = *cells;
    let cost_of = |tier: u8| cost.of_tier(usize::from(tier));
    let tiers = || (0u8..).zip(limits.iter().zip(before));
    // The time at which the last of the buckets would allow the cost; `None` past the clock's end.
    let slot = now.checked_add(min_wait).and_then(|earliest| {
        tiers().try_fold(earliest, |slot: u64, (tier, (limit, cell))| {
            let missing = missing_in(limit, cell, now, cost_of(tier));
            limit.timeline().time_after(now, missing).map(|own| slot.max(own))
        })
    });

    let mut after = before;
    let mut refused: Option<Decision> = None;
    let mut tiers_of_refusal = [TierDecision::default(); MAX_TIERS];
    for ((tier, (limit, cell)), next) in tiers().zip(&mut after) {
        let cost = cost_of(tier);
        let charged = slot.and_then(|slot| charged_at_slot(limit, cell, now, slot, cost));
        let retry_after = match charged {
            None => u64::MAX,
            Some((charged, owed)) => {
                *next = charged;
                // The time of the slot is fixed, so the slot comes nearer while the caller waits.
                let near = delay_of(limit, cell, now, cost).max(min_wait).saturating_sub(max_wait);
                let most = owed.saturating_sub(MAX_SPAN);
                near.max(limit.timeline().until(now, most))
            }
        };
        let decision = describe(limit, cell, now, tier, retry_after);
        tiers_of_refusal[usize::from(tier)] = TierDecision::from(&decision);
        if retry_after > refused.map_or(0, |so_far| so_far.retry_after) {
            refused = Some(decision);
        }
    }
    if let Some(decision) = refused {
        let each = tiers_of_refusal.into_iter().take(limits.len());
        return Ok(Reserved::TooFar(TieredDecision::new(decision, each)));
    }
    let delay = slot.unwrap_or(now) - now;

    let mut binding: Option<(u64, Decision)> = None;
    for ((tier, (limit, cell)), next) in tiers().zip(after) {
        let own_delay = delay_of(limit, cell, now, cost_of(tier));
        let decision = describe(limit, next, now, tier, 0);
        let binds = binding.is_none_or(|(longest, so_far)| {
            own_delay > longest || (own_delay == longest && decision.remaining < so_far.remaining)
        });
        if binds {
            binding = Some((own_delay, decision));
        }
    }
    let Some((_, decision)) = binding else {
        return Err(Error::TierCount { count: 0 });
    };
    *cells = after;
    let each = tiers().zip(after);
    let decision = TieredDecision::new(
        decision,
        each.map(|((tier, (limit, _)), next)| {
            TierDecision::from(&describe(limit, next, now, tier, 0))
        }),
    );
    let charge = Charge { cost: *cost, before, after, source: Source::Memory };
    Ok(Reserved::Slot(Reservation { delay, decision, charge }))
}

/// Gives an unused reservation back, and answers whether all of it came back.
///
/// A bucket that the reservation was the last to change becomes exactly what it was before, at any
/// later time. If others have charged it since, nothing comes back: their slots are fixed, and the
/// cancelled slot passes unused. Handing it out again could put more than the burst into one
/// moment, and the bucket's one integer cannot tell when it would not: two histories with the same
/// integer and the same reservations differ in how much may safely come back. So a cancelled
/// reservation counts as never made, and the bound of [`reserve`] holds for the rest. To return
/// tokens in any case, [`credit`](crate::credit) them instead.
///
/// Where the time is known ([`apply`](crate::apply), and every store), all came back from a full
/// bucket too, if it would be full without the charges since: it owes nothing, and may have been
/// forgotten.
///
/// With several limits each bucket is judged by itself. A [`hold`](crate::hold) that the cancelled
/// charge had covered goes with it; hold again after the cancel.
///
/// ```
/// use tidegate_core::{Cells, Limit, Reserved, cancel, reserve};
/// let limits = [Limit::parse("2/s burst 1")?];
/// let mut cells = Cells::default();
/// let Reserved::Slot(first) = reserve(&limits, &mut cells, 7, 1, 0)? else { panic!() };
/// let before = cells;
/// let Reserved::Slot(second) = reserve(&limits, &mut cells, 7, 1, u64::MAX)? else { panic!() };
/// assert!(cancel(&second.charge, &mut cells));
/// assert_eq!(cells, before);
/// assert!(cancel(&first.charge, &mut cells));
/// assert_eq!(cells, Cells::default());
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn cancel(charge: &Charge, cells: &mut Cells) -> bool {
    let mut all = true;
    for ((cell, before), after) in cells.iter_mut().zip(charge.before).zip(charge.after) {
        if *cell == after {
            *cell = before;
        } else if before != after {
            all = false;
        }
    }
    all
}

/// [`cancel`] at a known time. A bucket that is full now, and would be without the later charges,
/// may have been forgotten by its store; its charge counts as given back.
pub(crate) fn cancel_at(limits: &[Limit], charge: &Charge, cells: &mut Cells, now: u64) -> bool {
    let Charge { mut before, mut after, .. } = *charge;
    for (tier, limit) in limits.iter().enumerate() {
        if is_paid(limit, now, cells[tier], after[tier]) && cells[tier] != after[tier] {
            (before[tier], after[tier]) = (cells[tier], cells[tier]);
        }
    }
    cancel(&Charge { before, after, ..*charge }, cells)
}

/// Whether time has paid for a reservation and for all charges after it.
pub(crate) fn is_paid(limit: &Limit, now: u64, cell: u64, after: u64) -> bool {
    cell.max(after) <= limit.timeline().position(now)
}

/// How far the timeline must move before one bucket alone would allow a cost within its burst.
fn missing_in(limit: &Limit, cell: u64, now: u64, cost: u64) -> u64 {
    if cost == 0 {
        return 0;
    }
    let timeline = limit.timeline();
    let owed = timeline.debt(cell, now).saturating_add(cost * timeline.width());
    owed.saturating_sub(limit.span())
}

/// How long it takes until one bucket alone would allow the cost.
fn delay_of(limit: &Limit, cell: u64, now: u64, cost: u64) -> u64 {
    limit.timeline().until(now, missing_in(limit, cell, now, cost))
}

/// The cell after a check that is allowed at the time `slot`, and its debt now; `None` past the end
/// of the timeline.
///
/// The tokens are taken at the time of the slot, not now. A step, or another tier's longer delay,
/// can put the slot later than this bucket needs; a charge dated earlier would let the next caller
/// have the same slot.
fn charged_at_slot(limit: &Limit, cell: u64, now: u64, slot: u64, cost: u64) -> Option<(u64, u64)> {
    if cost == 0 {
        return Some((cell, 0));
    }
    let timeline = limit.timeline();
    let base = cell.max(timeline.position(slot));
    let next = base.checked_add(cost * timeline.width())?;
    Some((next, timeline.debt(next, now)))
}

/// The decision of one bucket, which is refused unless `retry_after` is 0.
fn describe(limit: &Limit, cell: u64, now: u64, tier: u8, retry_after: u64) -> Decision {
    let timeline = limit.timeline();
    let debt = timeline.debt(cell, now);
    Decision {
        allowed: retry_after == 0,
        limit: limit.burst(),
        remaining: timeline.tokens_in(limit.span().saturating_sub(debt)),
        retry_after,
        reset_after: timeline.until(now, debt),
        tier,
        source: Source::Memory,
    }
}
