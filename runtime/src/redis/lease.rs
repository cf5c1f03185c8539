//! How leases reach their buckets: beside the operations, which are not kept waiting.

use ::redis::{Cmd, RedisResult, Value};
use tidegate_core::Grant;

use super::link::Link;
use super::trip::{command, is_unknown, part};
use super::{Connected, Exchange, LeaseCall, RedisStore, Reply, store_error, within};
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
        let count = calls.len();
        let sent = match self.live() {
            Ok(live) => within(self.0.timeout, send(&live.link, lane, calls)).await,
            Err(error) => Err(error),
        };
        sent.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
    }
}

async fn send(
    link: &Link,
    lane: u16,
    calls: Vec<LeaseCall>,
) -> Result<Vec<Result<Grant, Error>>, Error> {
    // What an old master grants is lost, and spent for a whole ttl; no request waits for this.
    link.look_first().await;
    let mut answers: Vec<_> = calls.iter().map(|_| Err(lost())).collect();
    let mut exchange = Exchange::new(calls);
    // By the script's hash, and once more by its text.
    for _ in 0..2 {
        let commands: Vec<Cmd> = exchange.commands().into_iter().map(command).collect();
        if commands.is_empty() {
            break;
        }
        for (place, reply) in link.send(commands, lane).await.into_iter().enumerate() {
            if let Some((call, _, reply)) = exchange.take(place, read(reply)) {
                answers[call] = reply.grant();
            }
        }
    }
    Ok(answers)
}

fn read(reply: RedisResult<Value>) -> Reply {
    match reply {
        Ok(Value::Array(parts)) => Reply::Parts(parts.into_iter().map(part).collect()),
        Ok(_) => Reply::Parts(Vec::new()),
        Err(error) if is_unknown(&error) => Reply::Refusal("NOSCRIPT".into()),
        Err(error) => Reply::Failure(store_error(error)),
    }
}
