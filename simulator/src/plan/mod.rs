//! What to set, what that leads to, and what to beware of.

mod backlog;
mod host;
mod inputs;
mod safe_limit;
mod simulation;
mod waits;
mod warnings;

pub use backlog::Drain;
pub use host::{HostPlan, StaticPlan};
pub use inputs::{Call, Error, Host, Inputs, Mode, Spike, Vendor};
pub use safe_limit::SafeLimit;
pub use simulation::scenario_text;
pub use waits::Waits;
pub use warnings::{Warning, WarningId};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// A plan. Times are in seconds unless the name says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The limit that keeps the vendor's.
    pub limit: SafeLimit,
    /// How many calls a second are made: the least of what arrives (retries included), what the limit
    /// allows and what the host can make.
    pub throughput: f64,
    /// How long a call waits for its slot, when calls arrive at random; `None` without arrivals, and when
    /// more arrives than the limit allows or the host can make.
    pub waits: Option<Waits>,
    /// How long the backlog takes; `None` without one.
    pub drain: Option<Drain>,
    /// The settings of the host that makes the calls; `None` without one.
    pub host: Option<HostPlan>,
    /// What to beware of, in the order of the list of [`WarningId`].
    pub warnings: Vec<Warning>,
}

/// Makes the plan.
///
/// # Errors
/// An input out of its bounds, by name; and a vendor's limit that no limit of Tidegate can keep.
pub fn plan(inputs: &Inputs) -> Result<Plan, Error> {
    inputs.check()?;
    let limit = SafeLimit::of(&inputs.vendor)?;
    let host = inputs
        .host
        .as_ref()
        .map(|host| HostPlan::of(host, &inputs.call, &inputs.vendor, limit.rate));
    let sent = inputs.sent_per_second();
    let possible = host.as_ref().map_or(limit.rate, |host| host.throughput.min(limit.rate));
    let throughput = sent.map_or(possible, |sent| sent.min(possible));
    // Where the host is slower than the limit, calls wait for the host, and these waits are not known.
    let waits = sent.filter(|sent| *sent < possible).and_then(|sent| Waits::of(sent, &limit));
    let drain = Drain::of(inputs, &limit, possible);
    let mut plan = Plan { limit, throughput, waits, drain, host, warnings: Vec::new() };
    plan.warnings = warnings::of(inputs, &plan, possible);
    Ok(plan)
}
