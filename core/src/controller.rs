//! Finds the rate and the concurrency that a vendor bears, from what becomes of a fleet's calls.

use crate::bounds::MAX_SPAN;
use crate::error::Error;
use crate::limit::Limit;

/// The highest rate, in calls in 1000 seconds: a million in a second.
const MOST_RATE: u64 = 1_000_000_000;

/// The longest time that a controller counts with, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// The latest time that a controller knows, in microseconds since 1970. With [`LONGEST`] added a
/// double still counts it exactly.
const LATEST: u64 = 1 << 52;

/// The most calls that a count holds.
const MOST_CALLS: u64 = 1 << 30;

/// The highest concurrency.
const MOST_LIMIT: u64 = 1_000_000;

/// A rate counts calls in this many milliseconds, so that slow rates are whole numbers too.
const RATE_MILLIS: u64 = 1_000_000;

/// The growth of each epoch before the first refusal, in thousandths of the rate.
const FIRST_STEP: u64 = 500;

/// The growth of each epoch near the rate that was refused, in thousandths of the rate. Away from it
/// the growth doubles from epoch to epoch.
const STEP: u64 = 5;

/// The bound of the growth of each epoch after the first refusal, in thousandths of the rate.
const MOST_STEP: u64 = 250;

/// The largest decrease while nearly all calls are accepted, in parts of 64 of the rate.
const MOST_CUT: u64 = 8;

/// The calls that a period must be expected to have before its number says anything.
const TELLING_CALLS: u64 = 8;

/// The answered calls whose mean latency says anything, if so many may be under way.
const TELLING_SAMPLES: u64 = 16;

/// The epochs after which the lowest latency is found anew.
const BASELINE_EPOCHS: u64 = 16;

/// The periods of the least length for which a refusal, or a limit that the vendor named, counts.
const MEMORY_EPOCHS: u64 = 40;

/// The same after a refusal that says little about where the limit is.
const SHORT_MEMORY_EPOCHS: u64 = 15;

/// The bounds within which a [`Controller`] moves. Rates are in calls in 1000 seconds, times in
/// microseconds. Each field is brought within its bounds, so every policy can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ControlPolicy {
    /// The lowest rate, from 1.
    pub min_rate: u64,
    /// The highest rate, to 1,000,000,000 (a million calls in a second).
    pub max_rate: u64,
    /// The rate at the beginning.
    pub first_rate: u64,
    /// The lowest concurrency, from 1.
    pub min_limit: u64,
    /// The highest concurrency, to 1,000,000.
    pub max_limit: u64,
    /// The concurrency at the beginning.
    pub first_limit: u64,
    /// The least length of an epoch, from 1 millisecond to 1 minute. The rate and the concurrency
    /// are each lowered at most once in an epoch, so it should be no shorter than the time in which
    /// a refusal is answered and told.
    pub epoch: u64,
    /// The accepted calls that pay for one refusal: only when all are paid for does the rate rise
    /// again. So about one call of this number is refused where the vendor's limit stays the same.
    pub calls_per_refusal: u64,
}

impl ControlPolicy {
    /// From 10 calls in a second, with a concurrency of 10; within 1 in 100 seconds and 10,000 in a
    /// second, and a concurrency of 1 and 1000. Epochs of a second, and a refusal among 250 calls.
    pub const DEFAULT: Self = Self {
        min_rate: 10,
        max_rate: 10_000_000,
        first_rate: 10_000,
        min_limit: 1,
        max_limit: 1_000,
        first_limit: 10,
        epoch: 1_000_000,
        calls_per_refusal: 250,
    };

    /// The policy with each field within its bounds. Where a highest value is below the lowest, the
    /// lowest counts for both.
    #[must_use]
    pub fn bounded(self) -> Self {
        let min_rate = self.min_rate.clamp(1, MOST_RATE);
        let max_rate = self.max_rate.clamp(min_rate, MOST_RATE);
        let min_limit = self.min_limit.clamp(1, MOST_LIMIT);
        let max_limit = self.max_limit.clamp(min_limit, MOST_LIMIT);
        Self {
            min_rate,
            max_rate,
            first_rate: self.first_rate.clamp(min_rate, max_rate),
            min_limit,
            max_limit,
            first_limit: self.first_limit.clamp(min_limit, max_limit),
            epoch: self.epoch.clamp(1_000, 60_000_000),
            calls_per_refusal: self.calls_per_refusal.clamp(1, 1_000_000),
        }
    }
}

impl Default for ControlPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What became of calls, as counts, so that a process may report many at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ControlReport {
    /// The calls that succeeded (2xx).
    pub ok: u64,
    /// The sum of the times that those took, in microseconds. Other calls have no part in it,
    /// because a refusal comes fast.
    pub latency: u64,
    /// The calls that the vendor answered in another way, without a refusal for a limit.
    pub other: u64,
    /// The calls that the vendor refused for the rate.
    pub throttled: u64,
    /// The calls that say that too many were under way: without an answer in time, refused for
    /// their concurrency, or by an overloaded vendor.
    pub dropped: u64,
    /// For how long the vendor asked to make no call from now, in microseconds; 0 if it did not.
    pub hold: u64,
    /// The limit that the vendor named, in calls for each [`seen_window`](Self::seen_window); 0 if
    /// it named none.
    pub seen_limit: u64,
    /// The window of that limit, in microseconds; 0 if it named none.
    pub seen_window: u64,
}

/// Finds the rate and the concurrency that a vendor bears, if nobody knows them.
///
/// *The rate* rises by a hundredth in each epoch in which it was made use of, and faster once it has
/// passed the rate at which the vendor last refused, but never beyond twice the rate that was
/// measured. At a refusal it falls to just below the rate of accepted calls, at most by half, and
/// once in an epoch for the whole fleet, however many calls are refused. It then stays there until
/// [`ControlPolicy::calls_per_refusal`] accepted calls have paid for each refusal. If the vendor
/// names its limit, the rate is that one. If it asks for a hold, the epoch lasts until the hold ends.
///
/// *The concurrency* follows the latency of the calls that succeed. While it is made use of and
/// their mean is close to the lowest one of late, the concurrency rises by an eighth; when calls
/// begin to queue at the vendor, it falls as the mean rises. Every 16 epochs of high latency it is
/// lowered by a quarter for one epoch, in which the lowest latency is measured anew, so that a
/// vendor that has become slower for good is not taken for an overloaded one. Refusals for the rate
/// have no part in it.
///
/// The state is [`WORDS`](Self::WORDS) integers below 2^53 that can be kept in a store, of which all
/// zeros are a controller at its beginning. Times are in microseconds, rates in calls in 1000
/// seconds.
///
/// ```
/// use tidegate_core::{ControlPolicy, ControlReport, Controller};
/// let (policy, second) = (ControlPolicy::DEFAULT, 1_000_000);
/// let mut controller = Controller::new();
/// assert_eq!(controller.rate(&policy), 10_000); // 10 calls in a second
/// let epoch = |ok, throttled| ControlReport { ok, throttled, latency: ok * 50_000, ..Default::default() };
/// controller.report(&policy, 100 * second, &epoch(0, 0));
/// controller.report(&policy, 101 * second, &epoch(10, 0)); // the rate was made use of
/// assert_eq!(controller.rate(&policy), 15_000);
/// controller.report(&policy, 102 * second, &epoch(12, 3)); // the vendor bears about 12
/// let lowered = controller.rate(&policy);
/// assert!((11_000..12_000).contains(&lowered));
/// controller.report(&policy, 102 * second, &epoch(0, 20)); // the same epoch: it stays
/// assert_eq!(controller.rate(&policy), lowered);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Controller {
    /// The rate; 0 at the beginning.
    rate: u64,
    /// The growth of the next epoch, in thousandths.
    step: u64,
    /// The next decrease, in parts of 64 of the rate.
    cut: u64,
    /// The rate near the vendor's limit at which it last refused; 0 before.
    ceiling: u64,
    /// The accepted calls that still pay for refusals.
    owed: u64,
    /// Before this time the rate is not lowered again.
    rate_quiet_until: u64,
    /// The beginning of the present epoch of the rate; 0 before the first report.
    epoch_from: u64,
    /// The calls of the epoch that the vendor accepted.
    accepted: u64,
    /// The rate at which calls were accepted in the epoch before.
    rate_before: u64,
    /// The rate that the vendor named, and until when it counts.
    seen: u64,
    seen_until: u64,
    /// The concurrency; 0 at the beginning.
    limit: u64,
    /// Before this time the concurrency is not lowered again for dropped calls.
    limit_quiet_until: u64,
    /// The beginning of the present epoch of the concurrency.
    latency_from: u64,
    samples: u64,
    latency: u64,
    /// The lowest mean latency of late; 0 before the first.
    baseline: u64,
    /// The epochs since the lowest latency was found.
    baseline_age: u64,
    /// The concurrency from before it was lowered to measure the latency; 0 while it is not.
    measuring: u64,
}

impl Controller {
    /// The number of integers of a controller's state.
    pub const WORDS: usize = 19;

    /// A controller at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state as integers, each below 2^53.
    pub const fn words(&self) -> [u64; Self::WORDS] {
        [
            self.rate,
            self.step,
            self.cut,
            self.ceiling,
            self.owed,
            self.rate_quiet_until,
            self.epoch_from,
            self.accepted,
            self.rate_before,
            self.seen,
            self.seen_until,
            self.limit,
            self.limit_quiet_until,
            self.latency_from,
            self.samples,
            self.latency,
            self.baseline,
            self.baseline_age,
            self.measuring,
        ]
    }

    /// The controller with this state; `None` for one that no controller can have.
    pub fn from_words(words: [u64; Self::WORDS]) -> Option<Self> {
        let [
            rate,
            step,
            cut,
            ceiling,
            owed,
            rate_quiet_until,
            epoch_from,
            accepted,
            rate_before,
            seen,
            seen_until,
            limit,
            limit_quiet_until,
            latency_from,
            samples,
            latency,
            baseline,
            baseline_age,
            measuring,
        ] = words;
        let in_bounds = words.iter().all(|word| *word < MAX_SPAN)
            && [rate, ceiling, rate_before, seen].iter().all(|rate| *rate <= MOST_RATE)
            && [limit, measuring].iter().all(|limit| *limit <= MOST_LIMIT)
            && [accepted, samples, baseline_age].iter().all(|count| *count <= MOST_CALLS)
            && step <= FIRST_STEP
            && cut <= MOST_CUT
            && baseline <= LONGEST;
        in_bounds.then_some(Self {
            rate,
            step,
            cut,
            ceiling,
            owed,
            rate_quiet_until,
            epoch_from,
            accepted,
            rate_before,
            seen,
            seen_until,
            limit,
            limit_quiet_until,
            latency_from,
            samples,
            latency,
            baseline,
            baseline_age,
            measuring,
        })
    }

    /// The rate, in calls in 1000 seconds.
    pub fn rate(&self, policy: &ControlPolicy) -> u64 {
        let policy = policy.bounded();
        let rate = if self.rate == 0 { policy.first_rate } else { self.rate };
        rate.clamp(policy.min_rate, policy.max_rate)
    }

    /// The calls that may be under way at a time, at least 1.
    pub fn limit(&self, policy: &ControlPolicy) -> u64 {
        let policy = policy.bounded();
        let limit = if self.limit == 0 { policy.first_limit } else { self.limit };
        limit.clamp(policy.min_limit, policy.max_limit)
    }

    /// The limit of a bucket that keeps the rate, call by call.
    ///
    /// # Errors
    /// None of the rates within a policy's bounds has one.
    pub fn pace(&self, policy: &ControlPolicy) -> Result<Limit, Error> {
        Limit::smooth(self.rate(policy), RATE_MILLIS * 1_000_000, 1)
    }

    /// Records at `now` what became of calls, and moves the rate and the concurrency.
    pub fn report(&mut self, policy: &ControlPolicy, now: u64, report: &ControlReport) {
        let policy = policy.bounded();
        let now = now.min(LATEST);
        let mut report = *report;
        if self.epoch_from == 0 {
            self.rate = policy.first_rate;
            self.step = FIRST_STEP;
            self.limit = policy.first_limit;
            self.cut = 1;
            self.epoch_from = now;
            self.latency_from = now;
            // These calls were made in no epoch.
            report.ok = 0;
            report.other = 0;
            report.latency = 0;
        }
        self.control_rate(&policy, now, &report);
        self.control_limit(&policy, now, &report);
    }

    fn control_rate(&mut self, policy: &ControlPolicy, now: u64, report: &ControlReport) {
        self.rate = self.rate.clamp(policy.min_rate, policy.max_rate);
        let accepted = MOST_CALLS.min(report.ok.min(MOST_CALLS) + report.other.min(MOST_CALLS));
        self.accepted = MOST_CALLS.min(self.accepted + accepted);
        self.owed = self.owed.saturating_sub(accepted);
        self.see_limit(policy, now, report);
        if report.throttled > 0 {
            self.refused(policy, now, report);
            return;
        }
        let elapsed = millis(now.saturating_sub(self.epoch_from));
        if elapsed < self.epoch_millis(policy) {
            return;
        }
        let measured = rate_of(self.accepted, elapsed);
        // A call may fall into the epoch beside the one in which it belongs.
        let made_use_of =
            self.accepted > 0 && rate_of(self.accepted + 1, elapsed) * 8 >= self.rate * 7;
        if made_use_of && self.owed == 0 && now >= self.rate_quiet_until {
            self.grow(policy, now, measured);
        }
        self.begin_epoch(now, measured);
        self.cut = 1;
    }

    /// Takes the limit that the vendor named for the rate, a little below, because its windows and
    /// ours do not begin together.
    fn see_limit(&mut self, policy: &ControlPolicy, now: u64, report: &ControlReport) {
        let window = millis(report.seen_window.min(LONGEST * 24));
        if report.seen_limit == 0 || window == 0 {
            return;
        }
        let rate = rate_of(report.seen_limit.min(MOST_CALLS), window);
        let seen = (rate - rate / 64).clamp(policy.min_rate, policy.max_rate);
        // Each response names the limit again, so only one that is news moves the rate.
        if seen != self.seen || now >= self.seen_until {
            self.rate = seen;
            self.step = STEP;
        }
        self.seen = seen;
        self.seen_until = now + policy.epoch * MEMORY_EPOCHS;
    }

    fn refused(&mut self, policy: &ControlPolicy, now: u64, report: &ControlReport) {
        let price = report.throttled.min(MOST_CALLS) * policy.calls_per_refusal;
        let hold_end = now + report.hold.min(LONGEST);
        if now < self.rate_quiet_until {
            self.owe(policy, price, MEMORY_EPOCHS);
            self.rate_quiet_until = self.rate_quiet_until.max(hold_end);
            return;
        }
        let measured = self.measured(policy, now);
        self.rate_quiet_until = hold_end + policy.epoch;
        if measured * 8 >= self.rate * 7 {
            // Nearly all calls were accepted, so the limit is just below.
            self.ceiling = self.rate;
            self.rate -= self.rate * self.cut / 64;
            self.cut = MOST_CUT.min(self.cut * 2);
            self.owe(policy, price, MEMORY_EPOCHS);
        } else {
            // The limit is about what was accepted. How near is soon found out, but not before the
            // vendor's window has forgotten the calls that were made at the old rate.
            self.rate_quiet_until += policy.epoch / 2;
            self.ceiling = measured;
            self.rate = (measured - measured / 64).max(self.rate / 2);
            self.owe(policy, price, SHORT_MEMORY_EPOCHS);
        }
        self.rate = self.rate.max(policy.min_rate);
        self.step = STEP;
        self.begin_epoch(now, measured);
    }

    /// Adds to the calls that pay for refusals, up to those of some epochs, or a short outage would
    /// be paid for all day.
    fn owe(&mut self, policy: &ControlPolicy, price: u64, epochs: u64) {
        let calls = self.rate * millis(policy.epoch) / RATE_MILLIS;
        let most = policy.calls_per_refusal.max(calls * epochs);
        self.owed = most.min(self.owed + price);
    }

    fn grow(&mut self, policy: &ControlPolicy, now: u64, measured: u64) {
        if self.rate.abs_diff(self.ceiling) <= self.ceiling / 32 {
            self.step = STEP;
        } else if self.step < FIRST_STEP {
            self.step = MOST_STEP.min(self.step * 2);
        }
        let grown = self.rate + (self.rate * self.step / 1_000).max(1);
        let named = if now < self.seen_until { self.seen } else { policy.max_rate };
        let most = policy.max_rate.min(named).min(measured * 2);
        self.rate = self.rate.max(grown.min(most));
    }

    fn begin_epoch(&mut self, now: u64, measured: u64) {
        self.epoch_from = now;
        self.accepted = 0;
        self.rate_before = measured;
    }

    /// The rate of accepted calls of late: of the last epoch's length, to which the one before
    /// contributes the part that the present one has not reached.
    fn measured(&self, policy: &ControlPolicy, now: u64) -> u64 {
        let length = self.epoch_millis(policy);
        let elapsed = millis(now.saturating_sub(self.epoch_from));
        if elapsed >= length {
            return rate_of(self.accepted, elapsed);
        }
        let present = rate_of(self.accepted, length);
        MOST_RATE.min(present + self.rate_before * (length - elapsed) / length)
    }

    /// The length of an epoch: longer for slow rates, so that its number of calls says something.
    fn epoch_millis(&self, policy: &ControlPolicy) -> u64 {
        millis(policy.epoch).max(TELLING_CALLS * RATE_MILLIS / self.rate).min(millis(LONGEST))
    }

    fn control_limit(&mut self, policy: &ControlPolicy, now: u64, report: &ControlReport) {
        self.limit = self.limit.clamp(policy.min_limit, policy.max_limit);
        let samples = report.ok.min(MOST_CALLS);
        self.samples = MOST_CALLS.min(self.samples + samples);
        self.latency = (MAX_SPAN - 1).min(self.latency + report.latency.min(MAX_SPAN - 1));
        if report.dropped > 0 && now >= self.limit_quiet_until {
            self.limit =
                (self.limit - self.limit / 8 - u64::from(self.limit < 8)).max(policy.min_limit);
            self.limit_quiet_until = now + policy.epoch;
            self.measuring = 0;
            self.begin_latency(now);
            return;
        }
        let elapsed = now.saturating_sub(self.latency_from).min(LONGEST);
        if elapsed < policy.epoch || self.samples < TELLING_SAMPLES.min(self.limit) {
            return;
        }
        let mean = (self.latency / self.samples).clamp(1, LONGEST);
        // By Little's law the calls under way are the sum of their latencies over the time.
        let made_use_of = self.latency / 7 >= elapsed / 8 * self.limit;
        self.find_baseline(mean);
        if self.measuring != 0 {
            self.limit = self.measuring;
            self.measuring = 0;
        } else if self.baseline_age >= BASELINE_EPOCHS {
            self.measuring = self.limit;
            self.limit -= self.limit / 4;
        } else {
            let kept = (self.limit * self.baseline.max(mean / 2)).div_ceil(mean);
            let grown = kept + (self.limit / 8).max(1);
            if grown < self.limit || made_use_of {
                self.limit = grown;
            }
        }
        self.limit = self.limit.clamp(policy.min_limit, policy.max_limit);
        self.begin_latency(now);
    }

    fn find_baseline(&mut self, mean: u64) {
        if self.baseline == 0 || mean <= self.baseline || self.measuring != 0 {
            self.baseline = mean;
            self.baseline_age = 0;
        } else if mean - self.baseline > self.baseline / 16 {
            self.baseline_age = MOST_CALLS.min(self.baseline_age + 1);
        }
    }

    fn begin_latency(&mut self, now: u64) {
        self.latency_from = now;
        self.samples = 0;
        self.latency = 0;
    }
}

/// Whole milliseconds, in which rates are measured so that products stay below 2^53.
fn millis(micros: u64) -> u64 {
    micros / 1_000
}

/// The rate of `calls` in `millis`, in calls in 1000 seconds.
fn rate_of(calls: u64, millis: u64) -> u64 {
    (calls * RATE_MILLIS).checked_div(millis).map_or(0, |rate| rate.min(MOST_RATE))
}
