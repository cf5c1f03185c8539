//! `retries.json` on the engine.

use std::collections::HashMap;

use serde::Deserialize;
use tidegate_conformance::vectors::{load, nanos};
use tidegate_core::{
    CallEvent, CallStep, CallTerms, OutboundCall, Profile, RetryBudget, RetryPolicy, Signal,
    TransportFailure,
};

#[derive(Deserialize)]
struct Vectors {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    name: String,
    percent: u32,
    reserve: u32,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    call: String,
    at: String,
    #[serde(flatten)]
    event: Event,
    step: ExpectedStep,
    saved: u64,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Start { terms: Terms },
    Granted,
    Denied,
    Done,
    Cancelled,
    Response { status: u16, hold: String, random: String },
    Failed { kind: String, random: String },
}

#[derive(Deserialize)]
struct Terms {
    attempts: u32,
    base: String,
    longest: String,
    deadline: String,
    attempt_timeout: String,
    permit: bool,
    repeatable: bool,
    idempotent: bool,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "do", rename_all = "snake_case")]
enum ExpectedStep {
    Permit { max_wait: String },
    Acquire { max_wait: String },
    Send { timeout: String },
    Hold { scope: String, duration: String },
    Release,
    Sleep { duration: String },
    Return,
    GiveUp { reason: String },
}

#[test]
fn the_engine_makes_and_repeats_calls_as_the_oracle() {
    let vectors: Vectors = load("retries.json");
    assert!(vectors.traces.len() >= 50);
    for trace in &vectors.traces {
        let budget = RetryBudget::new(trace.percent, trace.reserve);
        let mut calls = HashMap::new();
        for (number, step) in trace.steps.iter().enumerate() {
            if let Event::Start { terms } = &step.event {
                calls.insert(&step.call, OutboundCall::new(terms_of(terms)));
            }
            let call = calls.get_mut(&step.call).expect("a call");
            let taken = advance(call, step, &budget);
            assert_eq!(taken, step.step, "step {number} of {}", trace.name);
            assert_eq!(budget.retries(), step.saved, "step {number} of {}", trace.name);
        }
    }
}

fn terms_of(terms: &Terms) -> CallTerms {
    CallTerms {
        policy: RetryPolicy {
            attempts: terms.attempts,
            base: nanos(&terms.base),
            longest: nanos(&terms.longest),
        },
        deadline: nanos(&terms.deadline),
        attempt_timeout: nanos(&terms.attempt_timeout),
        needs_permit: terms.permit,
        is_repeatable: terms.repeatable,
        is_idempotent: terms.idempotent,
    }
}

fn advance(call: &mut OutboundCall, step: &Step, budget: &RetryBudget) -> ExpectedStep {
    let at = nanos(&step.at);
    let mut plain = |event| call.next(event, at, 0, budget);
    let taken = match &step.event {
        Event::Start { .. } => call.start(at),
        Event::Granted => plain(CallEvent::Granted),
        Event::Denied => plain(CallEvent::Denied),
        Event::Done => plain(CallEvent::Done),
        Event::Cancelled => plain(CallEvent::Cancelled),
        Event::Response { status, hold, random } => {
            let hold = nanos(hold);
            let text = format!("{}.{:06}", hold / 1_000_000, hold % 1_000_000);
            let headers = [("retry-after-ms", &*text)];
            let signal = Signal::parse(*status, headers, &Profile::GENERIC, 0);
            assert_eq!(signal.hold, hold);
            call.next(CallEvent::Response(&signal), at, nanos(random), budget)
        }
        Event::Failed { kind, random } => {
            let failure = TransportFailure::parse(kind).expect("a kind of failure");
            call.next(CallEvent::Failed(failure), at, nanos(random), budget)
        }
    };
    match taken {
        CallStep::Permit { max_wait } => ExpectedStep::Permit { max_wait: max_wait.to_string() },
        CallStep::Acquire { max_wait } => ExpectedStep::Acquire { max_wait: max_wait.to_string() },
        CallStep::Send { timeout } => ExpectedStep::Send { timeout: timeout.to_string() },
        CallStep::Hold { scope, duration } => {
            ExpectedStep::Hold { scope: scope.as_str().to_owned(), duration: duration.to_string() }
        }
        CallStep::Release => ExpectedStep::Release,
        CallStep::Sleep(wait) => ExpectedStep::Sleep { duration: wait.to_string() },
        CallStep::Return => ExpectedStep::Return,
        CallStep::GiveUp(reason) => ExpectedStep::GiveUp { reason: reason.as_str().to_owned() },
    }
}
