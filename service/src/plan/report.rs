//! A plan in words and as JSON.

use core::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_sim::plan::{Drain, HostPlan, Inputs, Plan, Waits};

/// The version of the JSON form: it changes when a field changes its meaning or goes.
const VERSION: u64 = 1;
const SECOND: f64 = 1e9;

/// The plan as text: what to set, what that leads to, and what to beware of.
pub(super) fn text(inputs: &Inputs, plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<20} {text}");
    };
    let limit = &plan.limit;
    line("limit", format!("\"{}\"", limit.text));
    if let Some(host) = &plan.host {
        settings(&mut line, host, inputs);
    }
    let settings = core::mem::take(&mut out);

    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<20} {text}");
    };
    line(
        "rate",
        format!("{:.4} a second, {:.2} % of the vendor's limit", limit.rate, limit.usable * 100.0),
    );
    let beside = plan.host.as_ref().map_or_else(String::new, |host| {
        format!("; {} without a limit", host.without_limit.worst_window)
    });
    line(
        "worst window",
        format!("{} of {} calls{beside}", limit.worst_window, inputs.vendor.calls),
    );
    line("throughput", format!("{:.4} calls a second", plan.throughput));
    if let Some(waits) = &plan.waits {
        line("wait for a slot", waits_text(waits));
    }
    if let Some(drain) = &plan.drain {
        drain_text(&mut line, drain);
    }
    let consequences = core::mem::take(&mut out);

    let mut text = format!("Settings\n{settings}\nWhat they lead to\n{consequences}");
    if !plan.warnings.is_empty() {
        text += "\nBeware\n";
        for warning in &plan.warnings {
            let _ = writeln!(text, "  {}: {}", warning.id.as_str(), warning.text);
        }
    }
    text
}

fn settings(line: &mut impl FnMut(&str, String), host: &HostPlan, inputs: &Inputs) {
    let batch = inputs.host.as_ref().map_or(1, |host| host.batch);
    let batch_time = format!(
        "{:.3} s each, and up to {:.3} s of waits for slots",
        host.batch_time, host.slot_wait
    );
    line("concurrency", format!("{} batches of {batch}, {batch_time}", host.concurrency));
    line("permits", format!("{} calls at a time", host.permits));
    line("timeout", format!("{} for a batch", seconds(host.timeout)));
    line("visibility timeout", seconds(host.visibility));
    line("receives", format!("{} before a message is put aside", host.max_receives));
}

fn waits_text(waits: &Waits) -> String {
    let Waits { load, mean, p50, p99, p999 } = waits;
    format!(
        "mean {mean:.3} s, p50 {p50:.3} s, p99 {p99:.3} s, p99.9 {p999:.3} s, at {:.1} % load",
        load * 100.0
    )
}

fn drain_text(line: &mut impl FnMut(&str, String), drain: &Drain) {
    let Drain { backlog, last_start, done, drained, stale } = drain;
    line(
        "backlog",
        format!(
            "{backlog:.0} calls: the last starts after {last_start:.1} s, and ends after {done:.1} s"
        ),
    );
    let drained = drained.map_or_else(|| "never".to_owned(), |after| format!("{after:.1} s"));
    line("drained", format!("{drained}, while calls go on arriving"));
    line("too old", format!("{stale} calls"));
}

fn seconds(nanos: u64) -> String {
    format!("{} s", nanos as f64 / SECOND)
}

/// The plan as JSON. Times are in seconds, but for `width_ns`.
pub(super) fn json(plan: &Plan) -> Value {
    let limit = &plan.limit;
    json!({
        "version": VERSION,
        "limit": {
            "text": limit.text, "width_ns": limit.width, "rate": limit.rate, "burst": limit.burst,
            "worst_window": limit.worst_window, "usable": limit.usable,
        },
        "throughput": plan.throughput,
        "waits": plan.waits.map(|waits| json!({
            "load": waits.load, "mean": waits.mean, "p50": waits.p50, "p99": waits.p99, "p999": waits.p999,
        })),
        "drain": plan.drain.map(|drain| json!({
            "backlog": drain.backlog, "last_start": drain.last_start, "done": drain.done,
            "drained": drain.drained, "stale": drain.stale,
        })),
        "host": plan.host.as_ref().map(host_json),
        "warnings": plan.warnings.iter().map(|warning| json!({
            "id": warning.id.as_str(), "text": warning.text,
        })).collect::<Vec<_>>(),
    })
}

fn host_json(host: &HostPlan) -> Value {
    json!({
        "batch_time": host.batch_time, "slot_wait": host.slot_wait, "concurrency": host.concurrency, "throughput": host.throughput,
        "permits": host.permits, "timeout": host.timeout as f64 / SECOND,
        "visibility_timeout": host.visibility as f64 / SECOND, "max_receives": host.max_receives,
        "without_limit": {
            "throughput": host.without_limit.throughput, "worst_window": host.without_limit.worst_window,
            "used": [host.without_limit.used.0, host.without_limit.used.1],
        },
    })
}
