//! Mistakes that are often made, and what is true instead.

use super::host::EVENT_SOURCE_CONCURRENCY;
use super::inputs::{Host, Inputs};
use super::safe_limit::duration;
use super::{Plan, SECOND};

/// What to beware of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The stable name of the warning.
    pub id: WarningId,
    /// What is the matter with these inputs, in one sentence or two.
    pub text: String,
}

/// The warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningId {
    /// A concurrency stands in for a rate, though calls do not all take equally long.
    ConcurrencyIsNotRate,
    /// What begins at once is more than a window allows.
    BatchInOneSecond,
    /// It is not said whether the calls of a batch run one after the other.
    SequentialOrParallel,
    /// A burst lowers the rate that is safe.
    BurstBreaksWindow,
    /// No jitter is allowed for.
    MatchingTheLimitExactly,
    /// The jitter exceeds the window.
    JitterAboveWindow,
    /// Messages come back while they are still being handled.
    VisibilityTooShort,
    /// Messages are put aside because they were received, not because they failed.
    ReceiveCountBurns,
    /// An event source takes no concurrency below 2 or above 1000.
    Lambda1NotAllowed,
    /// Provisioned pollers and a maximum of concurrency exclude one another.
    ProvisionedAndMaximum,
    /// Calls are cut off that would have succeeded.
    AverageTimeout,
    /// Calls that fail use up the limit too.
    RetriesCostTokens,
    /// More arrives than the limit allows.
    NeverDrains,
    /// A part of the backlog is too old when its turn comes.
    StaleBacklog,
}

impl WarningId {
    /// The name that every language uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrencyIsNotRate => "concurrency-is-not-rate",
            Self::BatchInOneSecond => "batch-in-one-second",
            Self::SequentialOrParallel => "sequential-or-parallel",
            Self::BurstBreaksWindow => "burst-breaks-window",
            Self::MatchingTheLimitExactly => "matching-the-limit-exactly",
            Self::JitterAboveWindow => "jitter-above-window",
            Self::VisibilityTooShort => "visibility-too-short",
            Self::ReceiveCountBurns => "receive-count-burns",
            Self::Lambda1NotAllowed => "lambda-1-not-allowed",
            Self::ProvisionedAndMaximum => "provisioned-and-maximum",
            Self::AverageTimeout => "average-timeout",
            Self::RetriesCostTokens => "retries-cost-tokens",
            Self::NeverDrains => "never-drains",
            Self::StaleBacklog => "stale-backlog",
        }
    }
}

pub(super) fn of(inputs: &Inputs, plan: &Plan, possible: f64) -> Vec<Warning> {
    let mut found = Found(Vec::new());
    if let (Some(host), Some(settings)) = (&inputs.host, &plan.host) {
        of_concurrency(&mut found, inputs, host, plan);
        of_queue(&mut found, inputs, host, settings);
    }
    of_limit(&mut found, inputs, plan);
    of_load(&mut found, inputs, plan, possible);
    found.0
}

struct Found(Vec<Warning>);

impl Found {
    fn add(&mut self, id: WarningId, text: String) {
        self.0.push(Warning { id, text });
    }
}

fn of_concurrency(found: &mut Found, inputs: &Inputs, host: &Host, plan: &Plan) {
    let Some(settings) = &plan.host else { return };
    let (call, vendor) = (&inputs.call, &inputs.vendor);
    if call.min > 0 && call.p99.max(call.typical) * 5 > call.min * 6 {
        let (low, high) = settings.without_limit.used;
        let text = format!(
            "without a limit, {} batches at a time use {:.0} % to {:.0} % of the vendor's limit, by how long calls take",
            settings.concurrency,
            low * 100.0,
            high * 100.0,
        );
        found.add(WarningId::ConcurrencyIsNotRate, text);
    }
    let worst = settings.without_limit.worst_window;
    if worst > vendor.calls {
        let text = format!(
            "without a limit, {} batches of {} may make {worst} calls within {}, where the vendor allows {}; a mean hides that",
            settings.concurrency,
            host.batch,
            duration(vendor.window),
            vendor.calls,
        );
        found.add(WarningId::BatchInOneSecond, text);
    }
    if host.mode.is_none() && host.batch > 1 {
        let text = "say whether the calls of a batch are made in parallel or one after the other: the plan takes them as parallel; \
                    one after the other, a batch takes as long as all its calls"
            .to_owned();
        found.add(WarningId::SequentialOrParallel, text);
    }
}

fn of_queue(found: &mut Found, inputs: &Inputs, host: &Host, settings: &super::HostPlan) {
    let needed = settings.timeout.saturating_mul(if host.is_event_source { 6 } else { 1 });
    if settings.visibility < needed {
        let text = format!(
            "messages are hidden for {} and may take {}: those that come back meanwhile are handled twice, or put aside \
             unhandled",
            duration(settings.visibility),
            duration(needed),
        );
        found.add(WarningId::VisibilityTooShort, text);
    }
    if settings.max_receives < 5 && host.is_event_source {
        let text = format!(
            "the pollers of an event source receive more than runs at a time, and what they put back counts as received: \
             {} receives are used up by waiting; allow 5 or more",
            settings.max_receives
        );
        found.add(WarningId::ReceiveCountBurns, text);
    }
    let is_possible = |given| EVENT_SOURCE_CONCURRENCY.contains(&given);
    if host.is_event_source && host.concurrency.is_some_and(|given| !is_possible(given)) {
        let text = "the maximum concurrency of an event source is 2 to 1000".to_owned();
        found.add(WarningId::Lambda1NotAllowed, text);
    }
    if host.is_provisioned && host.concurrency.is_some() {
        let text =
            "an event source has either provisioned pollers or a maximum concurrency".to_owned();
        found.add(WarningId::ProvisionedAndMaximum, text);
    }
    let lasting = settings.lasting(host, &inputs.call);
    if host.timeout.is_some_and(|timeout| timeout < lasting) {
        let text = format!(
            "the timeout is shorter than batches that succeed: the longest takes {}, of which its last call waits up to {:.1} s \
             for its slot; plan with the tail, not with the mean",
            duration(lasting),
            settings.slot_wait,
        );
        found.add(WarningId::AverageTimeout, text);
    }
}

fn of_limit(found: &mut Found, inputs: &Inputs, plan: &Plan) {
    let vendor = &inputs.vendor;
    if vendor.burst > 1 {
        let text = format!(
            "a burst of {} leaves {:.1} % of the vendor's limit, because a window may begin with the burst; a burst of 1 leaves more",
            vendor.burst,
            plan.limit.usable * 100.0,
        );
        found.add(WarningId::BurstBreaksWindow, text);
    }
    if vendor.jitter == 0 {
        let text =
            "calls that are sent evenly do not arrive evenly: across a network, allow for a jitter"
                .to_owned();
        found.add(WarningId::MatchingTheLimitExactly, text);
    }
    if vendor.jitter > vendor.window {
        let text = format!(
            "a jitter of {} exceeds the window of {}: say whether the unit is right",
            duration(vendor.jitter),
            duration(vendor.window),
        );
        found.add(WarningId::JitterAboveWindow, text);
    }
}

fn of_load(found: &mut Found, inputs: &Inputs, plan: &Plan, possible: f64) {
    let failures = inputs.call.failures;
    if failures > 0.0 {
        let text = format!(
            "{:.1} % of the calls fail, and each costs a token: of {:.4} calls in a second, {:.4} succeed",
            failures * 100.0,
            plan.limit.rate,
            plan.limit.rate * (1.0 - failures),
        );
        found.add(WarningId::RetriesCostTokens, text);
    }
    if let Some(sent) = inputs.sent_per_second().filter(|sent| *sent >= possible) {
        let bound =
            if possible < plan.limit.rate { "the host can make" } else { "the limit allows" };
        let text = format!(
            "{sent:.4} calls in a second are to be sent, retries included, and {bound} {possible:.4}: what waits grows without end",
        );
        found.add(WarningId::NeverDrains, text);
    }
    if let Some(drain) = plan.drain.filter(|drain| drain.stale > 0) {
        let text = format!(
            "{} of {:.0} waiting calls are older than {} before their slot comes, at most {:.1} s after the start",
            drain.stale,
            drain.backlog,
            duration(inputs.deadline.unwrap_or(SECOND)),
            drain.last_start,
        );
        found.add(WarningId::StaleBacklog, text);
    }
}
