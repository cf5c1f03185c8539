//! The settings of a program that takes batches of messages and makes a call for each.

use super::SECOND;
use super::inputs::{Call, Host, Mode, Vendor};

/// An event source polls with more receivers than it runs batches, so a message is received more often.
const MIN_RECEIVES: u64 = 5;
/// The documentation of the event source asks for six times the function's timeout.
const EVENT_SOURCE_FACTOR: u64 = 6;
/// The concurrency that an event source takes.
pub(super) const EVENT_SOURCE_CONCURRENCY: core::ops::RangeInclusive<u64> = 2..=1000;

/// The settings, and what they lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct HostPlan {
    /// How long a batch takes when no call waits for its slot, in seconds.
    pub batch_time: f64,
    /// How long the last call of a batch may wait for its slot, in seconds: as long as the batches that run at
    /// the same time need for all their calls.
    pub slot_wait: f64,
    /// The batches that run at a time: as given, or as many as the limit can use.
    pub concurrency: u64,
    /// Calls in a second that the host can make.
    pub throughput: f64,
    /// Calls that are under way at a time at the limit's rate.
    pub permits: u64,
    /// The longest time that a batch may take, in nanoseconds.
    pub timeout: u64,
    /// The time for which the queue hides a message that has been received, in nanoseconds.
    pub visibility: u64,
    /// How often the queue gives a message before it is put aside.
    pub max_receives: u64,
    /// What the same concurrency does without a limit.
    pub without_limit: StaticPlan,
}

/// A fixed concurrency in place of a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticPlan {
    /// Calls in a second, on average.
    pub throughput: f64,
    /// The most calls that start within one of the vendor's windows.
    pub worst_window: u64,
    /// The part of the vendor's limit that it uses with the shortest and with the longest calls.
    pub used: (f64, f64),
}

impl HostPlan {
    pub(super) fn of(host: &Host, call: &Call, vendor: &Vendor, rate: f64) -> Self {
        let longest = call.p999.max(call.p99).max(call.typical);
        let typical = batch_time(host, call.p99.max(call.typical));
        let needed = ((rate * seconds(typical) / host.batch as f64).ceil() as u64).max(1);
        let (least, most) = EVENT_SOURCE_CONCURRENCY.into_inner();
        let possible = if host.is_event_source { needed.clamp(least, most) } else { needed };
        let concurrency = host.concurrency.unwrap_or(possible);
        let in_batches = concurrency as f64 * host.batch as f64;
        // If all batches begin at once, the last call has the slot after those of all others.
        let slot_wait = (in_batches - vendor.burst as f64).max(0.0) / rate;
        let lasting = seconds(batch_time(host, longest)) + slot_wait;
        // A margin of a tenth for what is not the call's: the start of the program, the queue's own calls.
        let timeout = host.timeout.unwrap_or_else(|| whole_seconds(lasting * 1.1));
        let factor = if host.is_event_source { EVENT_SOURCE_FACTOR } else { 1 };
        let visibility = timeout.max(whole_seconds(lasting)).saturating_mul(factor);
        Self {
            batch_time: seconds(typical),
            slot_wait,
            concurrency,
            throughput: per_second(in_batches, typical),
            permits: (rate * seconds(call.p99.max(call.typical))).ceil().max(1.0) as u64,
            timeout,
            visibility: host.visibility.unwrap_or(visibility),
            max_receives: host.max_receives.unwrap_or(MIN_RECEIVES),
            without_limit: StaticPlan::of(host, call, vendor, concurrency),
        }
    }

    /// The longest that a batch may take, in nanoseconds.
    pub(super) fn lasting(&self, host: &Host, call: &Call) -> u64 {
        let longest = call.p999.max(call.p99).max(call.typical);
        whole_seconds(seconds(batch_time(host, longest)) + self.slot_wait)
    }
}

impl StaticPlan {
    fn of(host: &Host, call: &Call, vendor: &Vendor, concurrency: u64) -> Self {
        let at_a_time = concurrency.saturating_mul(host.batch);
        let longest = batch_time(host, call.p99.max(call.typical));
        let shortest_call = if call.min == 0 { call.typical } else { call.min };
        let shortest = batch_time(host, shortest_call);
        // What takes no time begins again at once; then only what is sent bounds the calls.
        let rounds_of = |time: u64| if time == 0 { u64::MAX } else { vendor.window.div_ceil(time) };
        let of_batches = at_a_time.saturating_mul(rounds_of(shortest));
        let worst_window = match host.mode {
            Some(Mode::Sequential) => {
                of_batches.min(concurrency.saturating_mul(rounds_of(shortest_call)))
            }
            Some(Mode::Parallel) | None => of_batches,
        };
        let used = |batch_time: u64| {
            per_second(at_a_time as f64, batch_time) * seconds(vendor.window) / vendor.calls as f64
        };
        Self {
            throughput: per_second(at_a_time as f64, longest),
            worst_window,
            used: (used(longest), used(shortest)),
        }
    }
}

fn batch_time(host: &Host, call: u64) -> u64 {
    match host.mode {
        Some(Mode::Sequential) => host.overhead.saturating_add(call.saturating_mul(host.batch)),
        Some(Mode::Parallel) | None => host.overhead.saturating_add(call),
    }
}

fn per_second(calls: f64, batch_time: u64) -> f64 {
    if batch_time == 0 { f64::INFINITY } else { calls / seconds(batch_time) }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

/// Whole seconds, rounded up, in nanoseconds.
fn whole_seconds(seconds: f64) -> u64 {
    // The conversion stops at the largest number.
    (seconds.ceil().max(1.0) as u64).saturating_mul(SECOND)
}
