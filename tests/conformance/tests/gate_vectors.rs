//! `gate.json` and `controller.json` on the engine.

use serde::Deserialize;
use tidegate_conformance::vectors::load;
use tidegate_core::{
    CallOutcome, ControlPolicy, ControlReport, Controller, Gate, GateAnswer, GatePolicy, GateReport,
};

#[derive(Deserialize)]
struct Vectors<P, S> {
    traces: Vec<Trace<P, S>>,
}

#[derive(Deserialize)]
struct Trace<P, S> {
    name: String,
    policy: P,
    steps: Vec<S>,
}

#[derive(Deserialize)]
struct WrittenGatePolicy {
    fault_percent: u64,
    least_calls: u64,
    window: u64,
    open_for: u64,
    longest_open: u64,
    probes: u64,
    probe_timeout: u64,
    resume_wait: u64,
    ramp: u64,
}

#[derive(Deserialize)]
struct GateStep {
    at: u64,
    report: Option<WrittenGateReport>,
    expect: GateExpect,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenGateReport {
    ok: u64,
    faults: u64,
    hold: u64,
    probe: Option<(u64, String)>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum GateExpect {
    Pass { pass: bool },
    Wait { wait: u64 },
    Ramp { ramp: u64 },
    Probe { probe: u64, until: u64 },
    Told { held_until: u64, open_until: Option<u64> },
}

fn outcome(name: &str) -> CallOutcome {
    use CallOutcome::{Fault, NotMade, Ok, Throttled};
    let outcomes = [Ok, Fault, Throttled, NotMade];
    outcomes.into_iter().find(|outcome| outcome.as_str() == name).unwrap_or(NotMade)
}

#[test]
fn the_gate_answers_as_the_oracle() {
    let vectors: Vectors<WrittenGatePolicy, GateStep> = load("gate.json");
    assert!(vectors.traces.len() > 50);
    for trace in vectors.traces {
        let written = &trace.policy;
        let policy = GatePolicy {
            fault_percent: written.fault_percent,
            least_calls: written.least_calls,
            window: written.window,
            open_for: written.open_for,
            longest_open: written.longest_open,
            probes: written.probes,
            probe_timeout: written.probe_timeout,
            resume_wait: written.resume_wait,
            ramp: written.ramp,
        };
        let mut gate = Gate::new();
        for (number, step) in trace.steps.into_iter().enumerate() {
            let said = match step.report {
                None => match gate.admit(&policy, step.at) {
                    GateAnswer::Pass => GateExpect::Pass { pass: true },
                    GateAnswer::Wait { until } => GateExpect::Wait { wait: until },
                    GateAnswer::Ramp { share } => GateExpect::Ramp { ramp: share },
                    GateAnswer::Probe { number, until } => {
                        GateExpect::Probe { probe: number, until }
                    }
                },
                Some(written) => {
                    let probe = written.probe.map(|(number, name)| (number, outcome(&name)));
                    let (ok, faults, hold) = (written.ok, written.faults, written.hold);
                    gate.report(&policy, step.at, &GateReport { ok, faults, hold, probe });
                    let (held_until, open_until) = (gate.held_until(), gate.open_until());
                    GateExpect::Told { held_until, open_until }
                }
            };
            assert_eq!(said, step.expect, "{}, step {number}", trace.name);
        }
    }
}

#[derive(Deserialize)]
struct WrittenControlPolicy {
    min_rate: u64,
    max_rate: u64,
    first_rate: u64,
    min_limit: u64,
    max_limit: u64,
    first_limit: u64,
    epoch: u64,
    calls_per_refusal: u64,
}

#[derive(Deserialize)]
struct ControlStep {
    at: u64,
    report: WrittenControlReport,
    expect: ControlExpect,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenControlReport {
    ok: u64,
    latency: u64,
    other: u64,
    throttled: u64,
    dropped: u64,
    hold: u64,
    seen_limit: u64,
    seen_window: u64,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct ControlExpect {
    rate: u64,
    limit: u64,
}

#[test]
fn the_controller_moves_as_the_oracle() {
    let vectors: Vectors<WrittenControlPolicy, ControlStep> = load("controller.json");
    assert!(vectors.traces.len() > 45);
    for trace in vectors.traces {
        let written = &trace.policy;
        let policy = ControlPolicy {
            min_rate: written.min_rate,
            max_rate: written.max_rate,
            first_rate: written.first_rate,
            min_limit: written.min_limit,
            max_limit: written.max_limit,
            first_limit: written.first_limit,
            epoch: written.epoch,
            calls_per_refusal: written.calls_per_refusal,
        };
        let mut controller = Controller::new();
        for (number, step) in trace.steps.into_iter().enumerate() {
            let told = step.report;
            let report = ControlReport {
                ok: told.ok,
                latency: told.latency,
                other: told.other,
                throttled: told.throttled,
                dropped: told.dropped,
                hold: told.hold,
                seen_limit: told.seen_limit,
                seen_window: told.seen_window,
            };
            controller.report(&policy, step.at, &report);
            let said =
                ControlExpect { rate: controller.rate(&policy), limit: controller.limit(&policy) };
            assert_eq!(said, step.expect, "{}, step {number}", trace.name);
        }
    }
}
