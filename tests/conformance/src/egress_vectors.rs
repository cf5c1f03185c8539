//! `egress.json`: what happens to the messages of a queue, and what the egress machine does.

use serde::Deserialize;
use serde_json::Value;
use tidegate_core::{
    Admission, EgressAction, EgressMessage, EgressOrder, EgressResponse, EgressTerms,
};

use crate::vectors::nanos;

/// All traces.
#[derive(Deserialize)]
pub struct EgressVectors {
    /// The traces.
    pub traces: Vec<EgressTrace>,
}

/// What happens to one machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressTrace {
    /// What the trace shows.
    pub name: String,
    terms: WrittenTerms,
    /// The slots for messages.
    pub slots: usize,
    /// What happens, in order.
    pub steps: Vec<EgressStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTerms {
    concurrency: u32,
    batch: u32,
    ahead: u32,
    max_attempts: u32,
    visibility: String,
    max_visibility: String,
    keep: String,
    jitter: String,
    blind_hold: String,
    back_off: String,
    max_back_off: String,
    interval: String,
    order: String,
}

/// What happens at a time, and what the machine does then.
#[derive(Deserialize)]
pub struct EgressStep {
    /// The time, in nanoseconds.
    pub at: String,
    /// The actions, until there are no more.
    pub expect: Vec<Value>,
    /// When the machine is to be asked again, where the trace shows it.
    pub wake: Option<String>,
    /// How a message or a token was taken.
    pub admission: Option<Value>,
    /// What happens.
    #[serde(flatten)]
    pub event: EgressEvent,
}

/// What happens to a machine.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the README of the vectors says what they are")]
pub enum EgressEvent {
    Poll,
    Permits { count: u32 },
    Message(WrittenMessage),
    Received { count: u32 },
    Granted { id: u64 },
    Response { id: u64, response: String, hold: Option<String>, retry: Option<String> },
    DeadLettered { id: u64, is_there: bool },
    Held { until: String },
    Breaker { probes: Option<u32> },
    Store { is_up: bool },
    Assign { partition: u32, generation: u64, position: u64 },
    Revoke { partition: u32 },
    Stop,
}

/// A message as the vectors write it.
#[derive(Deserialize)]
pub struct WrittenMessage {
    id: u64,
    deadline: Option<String>,
    attempts: Option<u32>,
    #[serde(default)]
    key: u64,
    random: Option<String>,
    #[serde(default)]
    partition: u32,
    #[serde(default)]
    offset: u64,
    generation: Option<u64>,
}

impl EgressTrace {
    /// What the machine is set to.
    pub fn terms(&self) -> Option<EgressTerms> {
        let terms = &self.terms;
        Some(EgressTerms {
            concurrency: terms.concurrency,
            batch: terms.batch,
            ahead: terms.ahead,
            max_attempts: terms.max_attempts,
            visibility: nanos(&terms.visibility),
            max_visibility: nanos(&terms.max_visibility),
            keep: nanos(&terms.keep),
            jitter: nanos(&terms.jitter),
            blind_hold: nanos(&terms.blind_hold),
            back_off: nanos(&terms.back_off),
            max_back_off: nanos(&terms.max_back_off),
            interval: nanos(&terms.interval),
            order: EgressOrder::parse(&terms.order)?,
        })
    }
}

impl WrittenMessage {
    /// The message, received at `now`.
    pub fn received_at(&self, now: u64) -> EgressMessage {
        EgressMessage {
            id: self.id,
            received_at: now,
            sent_at: now,
            deadline: self.deadline.as_deref().map_or(u64::MAX, nanos),
            attempts: self.attempts.unwrap_or(1),
            key: self.key,
            random: self.random.as_deref().map_or(0, nanos),
            partition: self.partition,
            offset: self.offset,
            generation: self.generation.unwrap_or(1),
        }
    }
}

/// The response of the name that the vectors use.
pub fn response_of(name: &str, hold: Option<&str>, retry: Option<&str>) -> Option<EgressResponse> {
    Some(match name {
        "done" => EgressResponse::Done,
        "held" => EgressResponse::Held { hold: hold.map_or(0, nanos) },
        "busy" => EgressResponse::Busy,
        "failed" => EgressResponse::Failed { retry: retry.map(nanos) },
        "refused" => EgressResponse::Refused,
        _ => return None,
    })
}

/// The name of an admission in the vectors.
pub fn name_of(admission: Admission) -> &'static str {
    match admission {
        Admission::Held => "held",
        Admission::Duplicate => "duplicate",
        Admission::Fenced => "fenced",
        Admission::NotTaken => "not_taken",
    }
}

/// An action as the vectors write it: a name and its parameters, as text.
pub fn written(action: EgressAction) -> Value {
    let one = |name: &str, part: u64| serde_json::json!([name, part.to_string()]);
    let two = |name: &str, first: u64, second: u64| {
        serde_json::json!([name, first.to_string(), second.to_string()])
    };
    match action {
        EgressAction::AcquirePermits(count) => one("acquire_permits", count.into()),
        EgressAction::ReleasePermits(count) => one("release_permits", count.into()),
        EgressAction::Receive(count) => one("receive", count.into()),
        EgressAction::Acquire(id) => one("acquire", id),
        EgressAction::GiveBack(id) => one("give_back", id),
        EgressAction::Dispatch(id) => one("dispatch", id),
        EgressAction::Ack(id) => one("ack", id),
        EgressAction::Return { id, delay, counted } => {
            serde_json::json!(["return", id.to_string(), delay.to_string(), counted])
        }
        EgressAction::DeadLetter { id, reason } => {
            serde_json::json!(["dead_letter", id.to_string(), reason.as_str()])
        }
        EgressAction::Drop(id) => one("drop", id),
        EgressAction::Extend { id, by } => two("extend", id, by),
        EgressAction::Hold(wait) => one("hold", wait),
        EgressAction::Commit { partition, offset } => two("commit", partition.into(), offset),
        EgressAction::Seek { partition, offset } => two("seek", partition.into(), offset),
        EgressAction::Pause(partition) => one("pause", partition.into()),
        EgressAction::Resume(partition) => one("resume", partition.into()),
    }
}
