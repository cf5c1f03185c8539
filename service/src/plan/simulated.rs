//! A plan beside what the simulator makes of it.

use core::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_sim::figures::Unit;
use tidegate_sim::plan::{Inputs, Plan, scenario_text};
use tidegate_sim::report::Report;
use tidegate_sim::scenario::Scenario;

use crate::failure::Failure;
use crate::simulate::simulate;

/// Runs the settings of a plan.
pub(super) fn report(inputs: &Inputs, plan: &Plan) -> Result<Report, Failure> {
    let text = scenario_text(inputs, plan);
    let scenarios = Scenario::parse(&text)
        .map_err(|error| Failure::Configuration(format!("the plan as a scenario: {error}")))?;
    simulate(&scenarios, false)
        .pop()
        .ok_or_else(|| Failure::Configuration("the plan makes no scenario".to_owned()))
}

/// The figures of both, side by side.
pub(super) fn text(inputs: &Inputs, plan: &Plan, report: &Report) -> String {
    let mut out = format!("\nSimulated\n  {:<20} {:>14} {:>14}\n", "", "planned", "simulated");
    let mut line = |name: &str, figure: &str, planned: Option<String>| {
        let Some(found) = report.figure(figure) else { return };
        let planned = planned.unwrap_or_default();
        let found = found.unit.show(found.value);
        let _ = writeln!(out, "  {name:<20} {planned:>14} {found:>14}");
    };
    let rate = |rate: f64| {
        Some(Unit::ThousandthsPerSecond.show((rate * 1000.0).round() as u64).to_string())
    };
    let time =
        |seconds: f64| Some(Unit::Nanoseconds.show((seconds * 1e9).round() as u64).to_string());
    let count = |count: u64| Some(count.to_string());
    line("worst window", "most_in_any_window", count(plan.limit.worst_window));
    line("refused", "refused", count(0));
    // A spike's or a backlog's calls are made as fast as the limit and the host allow.
    let is_draining = inputs.spike.is_some() || inputs.backlog > 0 || inputs.arrivals.is_none();
    let possible =
        plan.host.as_ref().map_or(plan.limit.rate, |host| host.throughput.min(plan.limit.rate));
    let throughput = if is_draining { possible } else { plan.throughput };
    line("throughput", "steady_rate", rate(throughput * (1.0 - inputs.call.failures)));
    if let Some(waits) = plan.waits.filter(|_| !is_draining) {
        line("mean wait", "wait_mean", time(waits.mean));
        line("wait of 1 in 2", "wait_p50", time(waits.p50));
        line("wait of 1 in 100", "wait_p99", time(waits.p99));
    }
    if let Some(drain) = plan.drain {
        let length = inputs.spike.map_or(0.0, |spike| spike.length as f64 / 1e9);
        line("backlog done", "time", time(drain.done + length));
        line("too old", "lost_stale", count(drain.stale));
    }
    line("lost", "lost", count(0));
    line("duplicates", "duplicates", count(0));
    if plan.host.is_some() {
        line(
            "most at a time",
            "max_concurrency",
            plan.host.as_ref().map(|host| host.concurrency.to_string()),
        );
    }
    out
}

/// The simulated figures as JSON, in the units of `tidegate simulate --json`.
pub(super) fn json(report: &Report) -> Value {
    let figures = report.mean.iter().map(|figure| {
        (figure.name.to_owned(), json!({ "value": figure.value, "unit": figure.unit.as_str() }))
    });
    Value::Object(figures.collect())
}
