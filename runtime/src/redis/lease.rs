//! How leases reach their buckets: beside the operations, which are not kept waiting.

use core::time::Duration;
use std::collections::BTreeMap;

use ::redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use tidegate_core::Grant;
use tokio::task::JoinSet;

use super::link::Link;
use super::{Connected, LeaseCall, Reach, RedisStore, store_error, within};
use crate::answer::lost;
use crate::error::Error;

impl RedisStore {
    /// Whether leases can be renewed: by the I/O thread, over a connection of its own.
    pub(crate) fn is_leasable(&self) -> bool {
        matches!(self.reach, Reach::Connected(_))
    }

    /// Sends calls and gives an answer for each.
    pub(crate) async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        match &self.reach {
            Reach::Connected(connected) => connected.lease(calls).await,
            Reach::Carried { .. } => calls.iter().map(|_| Err(lost())).collect(),
        }
    }
}

impl Connected {
    /// Sends calls in as few messages as can be, one for all that go to one server, and gives
    /// an answer for each. None is repeated when the connection breaks: what they give back
    /// must not come back twice.
    async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let mut answers: Vec<_> = calls.iter().map(|_| Err(lost())).collect();
        let live = match self.live() {
            Ok(live) => live,
            Err(error) => return answers.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut by_slot: BTreeMap<u16, Vec<(usize, LeaseCall)>> = BTreeMap::new();
        for (place, call) in calls.into_iter().enumerate() {
            let [bucket, _] = &call.keys;
            by_slot.entry(self.0.address.slot(bucket)).or_default().push((place, call));
        }
        let mut sending = JoinSet::new();
        for (slot, calls) in by_slot {
            sending.spawn(send(live.link.clone(), slot, calls, self.0.timeout));
        }
        while let Some(sent) = sending.join_next().await {
            for (place, answer) in sent.unwrap_or_default() {
                answers[place] = answer;
            }
        }
        answers
    }
}

async fn send(
    link: Link,
    slot: u16,
    calls: Vec<(usize, LeaseCall)>,
    timeout: Duration,
) -> Vec<(usize, Result<Grant, Error>)> {
    let sending = async {
        let by_hash = calls.iter().map(|(_, call)| command(call, false)).collect();
        let mut replies = link.send(by_hash, slot).await;
        let unknown: Vec<usize> =
            (0..replies.len()).filter(|&call| is_unknown(&replies[call])).collect();
        if !unknown.is_empty() {
            let by_text = unknown.iter().map(|&call| command(&calls[call].1, true)).collect();
            for (&call, reply) in unknown.iter().zip(link.send(by_text, slot).await) {
                replies[call] = reply;
            }
        }
        Ok(replies)
    };
    match within(timeout, sending).await {
        Ok(replies) => {
            calls.iter().zip(replies).map(|((at, _), reply)| (*at, read(reply))).collect()
        }
        Err(error) => calls.iter().map(|(at, _)| (*at, Err(error.clone()))).collect(),
    }
}

fn is_unknown(reply: &RedisResult<Value>) -> bool {
    let no_script = ErrorKind::Server(ServerErrorKind::NoScript);
    reply.as_ref().is_err_and(|error| error.kind() == no_script)
}

fn command(call: &LeaseCall, by_text: bool) -> Cmd {
    let script = LeaseCall::script();
    let mut command = Cmd::new();
    match by_text {
        true => command.arg("EVAL").arg(script.text()),
        false => command.arg("EVALSHA").arg(script.hash()),
    };
    command.arg(call.keys.len()).arg(&call.keys).arg(&call.arguments);
    command
}

fn read(reply: RedisResult<Value>) -> Result<Grant, Error> {
    match reply.map_err(store_error)? {
        Value::Array(mut parts) => match parts.pop() {
            Some(Value::BulkString(grant)) => LeaseCall::grant(&grant),
            _ => LeaseCall::grant(b""),
        },
        _ => LeaseCall::grant(b""),
    }
}
