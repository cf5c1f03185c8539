//! How leases reach their buckets: beside the operations, which are not kept waiting.

use ::redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use tidegate_core::Grant;

use super::link::Link;
use super::{Connected, LeaseCall, RedisStore, store_error, within};
use crate::Error;
use crate::answer::lost;

impl RedisStore {
    /// Whether leases can be renewed: by the I/O thread, over a connection of its own.
    pub(crate) fn is_leasable(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// Calls of one lane travel together: in a cluster those of one hash slot.
    pub(crate) fn lane_of(&self, call: &LeaseCall) -> u16 {
        match self {
            Self::Connected(connected) => connected.lane_of(call),
            Self::Carried(_) => 0,
        }
    }

    /// Sends calls, all of one lane, in one message, and gives an answer for each.
    pub(crate) async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        match self {
            Self::Connected(connected) => connected.lease(calls).await,
            Self::Carried(_) => calls.iter().map(|_| Err(lost())).collect(),
        }
    }
}

impl Connected {
    fn lane_of(&self, call: &LeaseCall) -> u16 {
        let [bucket, _] = &call.keys;
        self.0.address.slot(bucket)
    }

    /// None is repeated when the connection breaks: what they give back must not come back
    /// twice.
    async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let Some(lane) = calls.first().map(|call| self.lane_of(call)) else { return Vec::new() };
        let sent = match self.live() {
            Ok(live) => within(self.0.timeout, send(&live.link, lane, &calls)).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(replies) => replies.into_iter().map(read).collect(),
            Err(error) => calls.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

async fn send(
    link: &Link,
    lane: u16,
    calls: &[LeaseCall],
) -> Result<Vec<RedisResult<Value>>, Error> {
    // What an old master grants is lost, and spent for a whole ttl; no request waits for this.
    link.look_first().await;
    let by_hash = calls.iter().map(|call| command(call, false)).collect();
    let mut replies = link.send(by_hash, lane).await;
    let unknown: Vec<usize> =
        (0..replies.len()).filter(|&call| is_unknown(&replies[call])).collect();
    if !unknown.is_empty() {
        let by_text = unknown.iter().map(|&call| command(&calls[call], true)).collect();
        for (&call, reply) in unknown.iter().zip(link.send(by_text, lane).await) {
            replies[call] = reply;
        }
    }
    Ok(replies)
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
