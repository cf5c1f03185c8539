//! How leases reach their buckets: beside the operations, which are not kept waiting.

use ::redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use tidegate_core::Grant;

use super::{LeaseCall, RedisStore, store_error, within};
use crate::error::Error;

impl RedisStore {
    /// Sends calls in one go, and gives an answer for each. None is repeated when the
    /// connection breaks: what they give back must not come back twice.
    pub(crate) async fn lease(&self, calls: &[LeaseCall]) -> Vec<Result<Grant, Error>> {
        let live = match self.live() {
            Ok(live) => live,
            Err(error) => return calls.iter().map(|_| Err(error.clone())).collect(),
        };
        let sending = async {
            let by_hash = calls.iter().map(|call| command(call, false)).collect();
            let mut replies = live.link.send(by_hash).await;
            let unknown: Vec<usize> =
                (0..replies.len()).filter(|&call| is_unknown(&replies[call])).collect();
            if !unknown.is_empty() {
                let by_text = unknown.iter().map(|&call| command(&calls[call], true)).collect();
                for (&call, reply) in unknown.iter().zip(live.link.send(by_text).await) {
                    replies[call] = reply;
                }
            }
            Ok(replies)
        };
        match within(self.inner.timeout, sending).await {
            Ok(replies) => replies.into_iter().map(read).collect(),
            Err(error) => calls.iter().map(|_| Err(error.clone())).collect(),
        }
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
