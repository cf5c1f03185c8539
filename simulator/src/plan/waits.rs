//! How long a call waits for its slot, when calls arrive at random (a Poisson process): the M/D/1 queue.

use super::SECOND;
use super::safe_limit::SafeLimit;

/// Below this load the tail formula is off by more than a hundredth, and the exact law is summed up.
const LOW_LOAD: f64 = 0.3;

/// The waits for a slot, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waits {
    /// The part of the limit's rate that arrives.
    pub load: f64,
    /// The mean; for a burst of 1, and an upper bound for larger ones.
    pub mean: f64,
    /// The wait that half of the calls exceed.
    pub p50: f64,
    /// The wait that 1 in 100 exceeds.
    pub p99: f64,
    /// The wait that 1 in 1000 exceeds.
    pub p999: f64,
}

impl Waits {
    /// The waits at a rate of calls; `None` if as many or more arrive than the limit allows.
    pub(super) fn of(sent: f64, limit: &SafeLimit) -> Option<Self> {
        let load = sent / limit.rate;
        if load >= 1.0 {
            return None;
        }
        let slot = limit.width as f64 / SECOND as f64;
        // A bucket with a burst b begins to make a call wait where one with a burst of 1 would have made
        // it wait for b - 1 slots.
        let spared = (limit.burst - 1) as f64;
        let quantile = |above: f64| (slots_exceeded_by(above, load) - spared).max(0.0) * slot;
        Some(Self {
            load,
            mean: load / (2.0 * (1.0 - load)) * slot,
            p50: quantile(0.5),
            p99: quantile(0.01),
            p999: quantile(0.001),
        })
    }
}

/// The wait in slots that a share of calls exceeds.
fn slots_exceeded_by(share: f64, load: f64) -> f64 {
    if share >= load || load == 0.0 {
        return 0.0;
    }
    if load < LOW_LOAD {
        return bisect(0.0, 64.0, |slots| exceeding(slots, load) - share);
    }
    // Cramér's asymptotic: P(wait > x) = (1 - u) / (u e^t - 1) e^(-t x), where t solves u (e^t - 1) = t.
    // Below one slot the law has a closed form: P(wait <= x) = (1 - u) e^(u x).
    let below_one = ((1.0 - share) / (1.0 - load)).ln() / load;
    if below_one <= 1.0 {
        return below_one;
    }
    let decay = bisect(1e-9, 64.0, |t| t - load * t.exp_m1());
    ((1.0 - load) / (load * decay.exp() - 1.0) / share).ln() / decay
}

/// The exact share of calls that wait longer: Erlang's sum for M/D/1. The terms alternate, so it is used
/// only for low loads, where few are needed.
fn exceeding(slots: f64, load: f64) -> f64 {
    let mut sum = 0.0;
    let mut factorial = 1.0;
    for k in 0..=slots.floor() as i32 {
        if k > 0 {
            factorial *= f64::from(k);
        }
        let lag = load * (f64::from(k) - slots);
        sum += lag.powi(k) / factorial * (-lag).exp();
    }
    1.0 - (1.0 - load) * sum
}

/// The place between `low` and `high` where a function that is positive at first turns negative.
fn bisect(mut low: f64, mut high: f64, function: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if function(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
