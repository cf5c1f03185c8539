//! Commands and replies in the form of the `redis` crate.

use core::time::Duration;
use std::borrow::Cow;

use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tidegate_protocol::{Cause, Reply, ReplyPart, StoreFailure};

use crate::Error;

/// The command of these words.
pub(super) fn command(words: &mut dyn Iterator<Item = Cow<'_, [u8]>>) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(&*word);
    }
    command
}

/// The reply to a command.
pub(super) fn read(reply: RedisResult<Value>) -> Reply {
    match reply {
        Ok(Value::Array(parts)) => Reply::Parts(parts.into_iter().map(part).collect()),
        Ok(_) => Reply::Failure(Error::Store("the script's answer has another form".into())),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            Reply::Refusal("NOSCRIPT".into())
        }
        Err(error) if error.code() == Some("CORRUPT") => {
            Reply::Refusal(format!("CORRUPT {}", error.detail().unwrap_or_default()).into())
        }
        Err(error) if error.is_connection_dropped() => Reply::Broken(store_error(error)),
        Err(error) => Reply::Failure(store_error(error)),
    }
}

/// The store's error. A timeout has no duration yet: the caller's own is filled in.
pub(super) fn store_error(error: RedisError) -> Error {
    if error.is_timeout() {
        return Error::StoreTimeout { after: Duration::ZERO, cause: Cause::new(error) };
    }
    Error::Store(StoreFailure::new(error.to_string(), error))
}

fn part(value: Value) -> ReplyPart {
    match value {
        Value::BulkString(bytes) => ReplyPart::Bytes(bytes),
        Value::SimpleString(text) => ReplyPart::Bytes(text.into_bytes()),
        Value::Int(number) => ReplyPart::Integer(number),
        _ => ReplyPart::Nil,
    }
}
