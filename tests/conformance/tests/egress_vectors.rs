//! `egress.json` on the machine.

use serde_json::Value;
use tidegate_conformance::egress_vectors::{
    EgressEvent, EgressTrace, EgressVectors, name_of, response_of, written,
};
use tidegate_conformance::vectors::{load, nanos};
use tidegate_core::{Egress, EgressPartition, HeldMessage};

#[test]
fn the_machine_does_what_every_trace_says() {
    let vectors: EgressVectors = load("egress.json");
    assert!(vectors.traces.len() > 20);
    let wrong: Vec<_> = vectors.traces.iter().flat_map(differences).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn differences(trace: &EgressTrace) -> Vec<String> {
    let Some(terms) = trace.terms() else { return vec![format!("{}: its order", trace.name)] };
    let slots = vec![HeldMessage::FREE; trace.slots];
    let mut machine = Egress::new(terms, slots, [EgressPartition::FREE; 2]);
    let mut wrong = Vec::new();
    for (number, step) in trace.steps.iter().enumerate() {
        let now = nanos(&step.at);
        let mut admission = None;
        match &step.event {
            EgressEvent::Poll => {}
            EgressEvent::Permits { count } => machine.permits_granted(now, *count),
            EgressEvent::Message(message) => {
                let taken = machine.message(now, message.received_at(now));
                admission = Some(Value::from(name_of(taken)));
            }
            EgressEvent::Received { count } => machine.received(now, *count),
            EgressEvent::Granted { id } => {
                admission = Some(Value::from(machine.granted(now, *id)));
            }
            EgressEvent::Response { id, response, hold, retry } => {
                let Some(response) = response_of(response, hold.as_deref(), retry.as_deref())
                else {
                    wrong.push(format!("{}: there is no response {response}", trace.name));
                    continue;
                };
                machine.response(now, *id, response);
            }
            EgressEvent::DeadLettered { id, is_there } => {
                machine.dead_lettered(now, *id, *is_there);
            }
            EgressEvent::Held { until } => machine.held(now, nanos(until)),
            EgressEvent::Breaker { probes } => machine.breaker(now, *probes),
            EgressEvent::Store { is_up } => machine.store(now, *is_up),
            EgressEvent::Assign { partition, generation, position } => {
                machine.assign(now, *partition, *generation, *position);
            }
            EgressEvent::Revoke { partition } => machine.revoke(now, *partition),
            EgressEvent::Stop => machine.stop(now),
        }
        let actions: Vec<Value> = core::iter::from_fn(|| machine.poll(now)).map(written).collect();
        let wake = machine.wake_at().map(|at| at.to_string());
        let is_right = actions == step.expect
            && admission == step.admission
            && (step.wake.is_none() || wake == step.wake);
        if !is_right {
            wrong.push(format!(
                "{}, step {number}: {admission:?}, wake at {wake:?}, and does\n    {}\n  not {}",
                trace.name,
                Value::from(actions),
                Value::from(step.expect.clone()),
            ));
        }
    }
    wrong
}
