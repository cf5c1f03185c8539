//! How long calls that wait at the beginning take, and how many of them are too late.

use super::SECOND;
use super::inputs::Inputs;
use super::safe_limit::SafeLimit;

/// What becomes of a backlog.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    /// The calls that wait: the backlog, and what a spike leaves.
    pub backlog: f64,
    /// When the last of them starts while nothing new arrives, in seconds.
    pub last_start: f64,
    /// When the last of them is done while nothing new arrives, in seconds.
    pub done: f64,
    /// When nothing waits any more while calls go on arriving, in seconds; `None` if that never happens.
    pub drained: Option<f64>,
    /// The calls that are older than the deadline before their slot comes, while nothing new arrives.
    pub stale: u64,
}

impl Drain {
    /// `possible` is how many calls a second the limit and the host allow.
    pub(super) fn of(inputs: &Inputs, limit: &SafeLimit, possible: f64) -> Option<Self> {
        let arrivals = inputs.arrivals.unwrap_or(0.0);
        let succeeding = 1.0 - inputs.call.failures;
        let done_per_second = possible * succeeding;
        let from_spike = inputs.spike.map_or(0.0, |spike| {
            (spike.rate - done_per_second).max(0.0) * spike.length as f64 / SECOND as f64
        });
        let backlog = inputs.backlog as f64 + from_spike;
        if backlog == 0.0 {
            return None;
        }
        let at_once = (limit.burst as f64).min(backlog);
        let last_start = (backlog - at_once) / done_per_second;
        let call = inputs.call.typical as f64 / SECOND as f64;
        let left_over = done_per_second - arrivals;
        // Whole slots, because a call has a slot or none.
        let fresh = |deadline: u64| {
            let slots = limit.burst as f64 + (deadline as f64 / SECOND as f64 * possible).floor();
            // The product of whole slots and a share may fall just short of a whole number.
            (slots * succeeding + 1e-6).floor() as u64
        };
        Some(Self {
            backlog,
            last_start,
            done: last_start + call,
            drained: (left_over > 0.0).then(|| backlog / left_over),
            stale: inputs
                .deadline
                .map_or(0, |deadline| (backlog as u64).saturating_sub(fresh(deadline))),
        })
    }
}
