//! A plan as a scenario, so that the simulator can say whether it holds.

use core::fmt::Write as _;

use super::Plan;
use super::SECOND;
use super::inputs::{Inputs, Mode};
use super::safe_limit::duration;

/// The calls of a plan that says neither how many wait nor how many arrive.
const ENOUGH: u64 = 2000;
/// The calls that arrive at random: enough for the wait of 1 in 100 to be known to 3 %.
const ARRIVING: u64 = 200_000;
/// The most messages of a scenario.
const MOST: u64 = 1_000_000;

/// The scenario of a plan, as the text of its file: its limit and settings, the vendor as it was described, and a
/// network whose delay varies by the jitter. A backlog or a spike is simulated with nothing that arrives beside it.
pub fn scenario_text(inputs: &Inputs, plan: &Plan) -> String {
    let mut out = String::from(
        "name = \"plan\"\nabout = \"The settings of the plan\"\nlasts = \"365d\"\n\n[source]\n",
    );
    source(&mut out, inputs);
    if let Some(deadline) = inputs.deadline {
        line(&mut out, "deadline", &duration(deadline));
    }
    let (vendor, call) = (&inputs.vendor, &inputs.call);
    let longest = call.p999.max(call.p99).max(call.typical);
    match (&plan.host, &inputs.host) {
        (Some(settings), Some(host)) => {
            out += "\n[queue]\n";
            line(&mut out, "visibility", &duration(settings.visibility));
            let _ = writeln!(out, "max_receives = {}", settings.max_receives);
            out += "\n[pollers]\nreceive = \"0s\"\n";
            let _ =
                writeln!(out, "start = {}\nmost = {}", settings.concurrency, settings.concurrency);
            out += "\n[function]\n";
            let _ = writeln!(out, "concurrency = {}\nbatch = {}", settings.concurrency, host.batch);
            let mode = if host.mode == Some(Mode::Sequential) { "sequential" } else { "parallel" };
            line(&mut out, "mode", mode);
            line(&mut out, "overhead", &duration(host.overhead));
            line(&mut out, "timeout", &duration(settings.timeout));
            out += "\n[limiter]\nwhere = \"in-function\"\n";
        }
        _ => {
            out += "\n[queue]\n";
            line(&mut out, "visibility", &duration(2 * longest + SECOND));
            out += "\n[function]\n";
            let permits =
                (plan.limit.rate * longest as f64 / SECOND as f64) as u64 + plan.limit.burst + 1;
            let _ = writeln!(out, "concurrency = {permits}\n\n[limiter]");
        }
    }
    line(&mut out, "limit", &plan.limit.text);
    out += "\n[vendor]\nrefusal = \"status\"\n";
    line(&mut out, "limit", &format!("{}/{}", vendor.calls, duration(vendor.window)));
    line(&mut out, "network", &format!("0s..{}", duration(vendor.jitter)));
    let points = [("min", call.min), ("p50", call.typical), ("p99", call.p99), ("p999", call.p999)];
    let mut latency = String::new();
    let mut before = 0;
    for (name, time) in points.into_iter().filter(|(_, time)| *time > 0) {
        before = time.max(before);
        let _ = write!(latency, "{name} {} ", duration(before));
    }
    if !latency.is_empty() {
        line(&mut out, "latency", latency.trim());
    }
    line(&mut out, "failures", &format!("{:.6}", call.failures));
    out
}

fn source(out: &mut String, inputs: &Inputs) {
    let messages = match (inputs.spike, inputs.backlog, inputs.arrivals) {
        (Some(spike), ..) => {
            out.push_str("pattern = \"spike\"\n");
            line(out, "rate", &format!("{:.6}/s", spike.rate));
            line(out, "spike", &duration(spike.length));
            (spike.rate * spike.length as f64 / SECOND as f64) as u64
        }
        (None, 0, Some(arrivals)) => {
            out.push_str("pattern = \"rate\"\narrivals = \"random\"\n");
            line(out, "rate", &format!("{arrivals:.6}/s"));
            ARRIVING
        }
        (None, 0, None) => ENOUGH,
        (None, backlog, _) => backlog,
    };
    let _ = writeln!(out, "messages = {}", messages.clamp(1, MOST));
}

fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name} = \"{text}\"");
}
