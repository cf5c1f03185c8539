//! Pauses buckets for a time.

use crate::bounds::MAX_SPAN;
use crate::decision::Decision;
use crate::error::Error;
use crate::limit::Limit;
use crate::tiers::{Cells, check_count, look};
use crate::timeline::Timeline;

/// Pauses every bucket for `wait` nanoseconds, because the service that the calls go to asked for
/// it (`Retry-After`). Answers what the buckets then hold, as a check of cost 0 would.
///
/// On a smooth limit exactly one token exists at `now + wait` and none before; the rest arrive at
/// the normal pace. So one integer pauses a whole fleet and lets it resume without a thundering
/// herd. On a stepped limit no token exists before the first step at or after `now + wait`, and
/// that step brings its usual tokens: a single token for a whole window would be a second pause,
/// longer than the one that was asked for.
///
/// A hold never gives tokens: of two holds, or of a hold and a debt, the later end stays. A bucket
/// owes at most [`MAX_SPAN`], so a hold lasts at most 104 days less the time that a smooth limit
/// takes to refill. Slots that were already reserved keep their time.
///
/// # Errors
/// [`Error::TierCount`].
///
/// ```
/// use tidegate_core::{Cells, Limit, decide_tiers, hold};
/// let limits = [Limit::parse("10/s")?];
/// let mut cells = Cells::default();
/// let (now, second) = (7_000_000_000, 1_000_000_000);
/// hold(&limits, &mut cells, now, 30 * second)?;
/// assert!(!decide_tiers(&limits, &mut cells, now + 30 * second - 1, 1)?.allowed);
/// assert!(decide_tiers(&limits, &mut cells, now + 30 * second, 1)?.allowed);
/// let next = decide_tiers(&limits, &mut cells, now + 30 * second, 1)?;
/// assert_eq!((next.allowed, next.retry_after), (false, second / 10));
/// # Ok::<(), tidegate_core::Error>(())
/// ```
pub fn hold(limits: &[Limit], cells: &mut Cells, now: u64, wait: u64) -> Result<Decision, Error> {
    check_count(limits)?;
    for (limit, cell) in limits.iter().zip(cells.iter_mut()) {
        *cell = hold_bucket(limit, *cell, now, wait);
    }
    look(limits, cells, now)
}

pub(crate) fn hold_bucket(limit: &Limit, cell: u64, now: u64, wait: u64) -> u64 {
    let timeline = limit.timeline();
    let owed = match timeline {
        // After `wait` has been paid, the bucket owes all but one token.
        Timeline::Smooth { width } => wait.saturating_add(limit.span() - width),
        // The bucket is empty until the step, which itself pays `tokens`.
        Timeline::Stepped { tokens, period } => {
            let steps = now.saturating_add(wait).div_ceil(period) - now / period;
            steps.saturating_mul(tokens).saturating_add(limit.span()).saturating_sub(tokens)
        }
    };
    let owed = owed.min(MAX_SPAN);
    if owed > timeline.debt(cell, now) { timeline.cell_owing(owed, now) } else { cell }
}
