use crate::decision::{Decision, Source};
use crate::error::Error;
use crate::limit::{Limit, MAX_SPAN};
use crate::tiers::{Cells, check_cost};

/// The answer to [`reserve`]: a slot, or that none is near enough.
#[must_use = "a slot that is not waited for should be cancelled"]
#[derive(Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The tokens are charged; spend them after [`Reservation::delay`].
    Slot(Reservation),
    /// The slot is further away than the caller would wait; nothing was charged.
    ///
    /// `retry_after` is the least wait after which this call, with this `max_wait`,
    /// would get a slot if nobody else came; [`u64::MAX`] past the end of the
    /// timeline. The other fields are those of a refused check.
    TooFar(Decision),
}

/// Tokens charged ahead of time, to be spent once `delay` has passed.
///
/// It can be given back once, by [`cancel`], and so it cannot be copied. A host
/// that must carry it further (a binding, another process) keeps its parts.
#[must_use = "a slot that is not waited for should be cancelled"]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// How long to wait before spending, in nanoseconds, from the `now` of the
    /// call; the longest of the tiers'. 0 is an allowed check.
    pub delay: u64,
    /// The buckets after the charge, as an allowed check would tell them. The tier
    /// is the one with the longest delay, then the least `remaining`, then the first.
    pub decision: Decision,
    /// The tokens that were charged.
    pub cost: u64,
    /// The cells before the charge, to which [`cancel`] goes back.
    pub before: Cells,
    /// The cells as the charge left them, by which [`cancel`] sees that it was the last.
    pub after: Cells,
}

/// Takes the next slot for `cost` tokens if it is at most `max_wait` nanoseconds
/// away: the bucket is charged now and the tokens are spent later, so that a
/// caller waits once, for its own slot, instead of asking again and again.
///
/// Slots are handed out first come, first served: a charge moves the bucket's one
/// integer forward, and whoever asks next stands behind it, whatever its cost. In
/// any stretch of time `X` the tokens whose slots lie in it are at most
/// `burst + floor(X / width)`, the bound of a check. On a stepped limit a delay ends
/// on a step. With several limits all slots are within `max_wait` or none is
/// charged; the delay is the longest. A bucket owes at most [`MAX_SPAN`]: a slot
/// that would owe more is too far, whatever the `max_wait`. A cost of 0 looks,
/// and is never too far.
///
/// # Errors
/// [`Error::TierCount`], and [`Error::CostTooLarge`] when `cost` is above a burst:
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
    cost: u64,
    max_wait: u64,
) -> Result<Reserved, Error> {
    check_cost(limits, cost)?;
    let before = *cells;
    let mut after = before;
    let mut granted: Option<(u64, Decision)> = None;
    let mut refused: Option<Decision> = None;
    for (tier, (limit, cell)) in (0u8..).zip(limits.iter().zip(&mut after)) {
        match slot(limit, *cell, now, cost, max_wait) {
            Slot::At { delay, next } => {
                *cell = next;
                let decision = describe(limit, next, now, tier, None);
                let binds = granted.is_none_or(|(longest, so_far)| {
                    delay > longest || (delay == longest && decision.remaining < so_far.remaining)
                });
                if binds {
                    granted = Some((delay, decision));
                }
            }
            Slot::TooFar { retry_after } => {
                if refused.is_none_or(|so_far| retry_after > so_far.retry_after) {
                    refused = Some(describe(limit, *cell, now, tier, Some(retry_after)));
                }
            }
        }
    }
    match (refused, granted) {
        (Some(decision), _) => Ok(Reserved::TooFar(decision)),
        (None, Some((delay, decision))) => {
            *cells = after;
            Ok(Reserved::Slot(Reservation { delay, decision, cost, before, after }))
        }
        (None, None) => Err(Error::TierCount { count: 0 }),
    }
}

/// Gives an unused reservation back, and says whether all of it came back.
///
/// A bucket that the reservation was the last to change becomes exactly what it
/// was before, at any time later. Once others have charged it since, their slots are fixed
/// and the cancelled one passes unused: nothing comes back. Handing it out again
/// could put more than the burst into one moment, and one integer per bucket
/// cannot tell when it would not: two histories with the same integer and the
/// same reservations differ in what may safely come back. So a cancelled
/// reservation counts as never made, and the bound of [`reserve`] holds for the rest.
/// Where tokens should return at any price, [`credit`](crate::credit) them instead.
///
/// With several limits each bucket is judged by itself. A [`hold`](crate::hold) that the
/// cancelled charge had covered goes with it; hold again after the cancel.
///
/// ```
/// use tidegate_core::{Cells, Limit, Reserved, cancel, reserve};
/// let limits = [Limit::parse("2/s burst 1")?];
/// let mut cells = Cells::default();
/// let Reserved::Slot(first) = reserve(&limits, &mut cells, 7, 1, 0)? else { panic!() };
/// let before = cells;
/// let Reserved::Slot(second) = reserve(&limits, &mut cells, 7, 1, u64::MAX)? else { panic!() };
/// assert!(cancel(second, &mut cells));
/// assert_eq!(cells, before);
/// assert!(cancel(first, &mut cells));
/// assert_eq!(cells, Cells::default());
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn cancel(reservation: Reservation, cells: &mut Cells) -> bool {
    let mut all = true;
    for ((cell, before), after) in cells.iter_mut().zip(reservation.before).zip(reservation.after) {
        if before == after {
            continue;
        }
        if *cell == after {
            *cell = before;
        } else {
            all = false;
        }
    }
    all
}

enum Slot {
    At { delay: u64, next: u64 },
    TooFar { retry_after: u64 },
}

/// One bucket's next slot for a cost within its burst.
fn slot(limit: &Limit, cell: u64, now: u64, cost: u64, max_wait: u64) -> Slot {
    if cost == 0 {
        return Slot::At { delay: 0, next: cell };
    }
    let timeline = limit.timeline();
    let owed = timeline.debt(cell, now).saturating_add(cost * timeline.width());
    let delay = timeline.until(now, owed.saturating_sub(limit.span()));
    let next = timeline.position(now).checked_add(owed);
    let (Some(next), Some(_)) = (next, now.checked_add(delay)) else {
        return Slot::TooFar { retry_after: u64::MAX };
    };
    if delay <= max_wait && owed <= MAX_SPAN {
        return Slot::At { delay, next };
    }
    // The slot stands still while the caller waits, so its delay shrinks with the clock.
    let near = delay.saturating_sub(max_wait);
    let owing_less = timeline.until(now, owed.saturating_sub(MAX_SPAN));
    Slot::TooFar { retry_after: near.max(owing_less) }
}

/// A bucket's decision; refused when there is a time to retry after.
fn describe(limit: &Limit, cell: u64, now: u64, tier: u8, retry_after: Option<u64>) -> Decision {
    let timeline = limit.timeline();
    let debt = timeline.debt(cell, now);
    Decision {
        allowed: retry_after.is_none(),
        limit: limit.burst(),
        remaining: limit.span().saturating_sub(debt) / timeline.width(),
        retry_after: retry_after.unwrap_or(0),
        reset_after: timeline.until(now, debt),
        tier,
        source: Source::Memory,
    }
}
