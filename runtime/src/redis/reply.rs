//! Commands and replies in the form of the `redis` crate.

use std::borrow::Cow;

use ::redis::{Cmd, ErrorKind, ServerErrorKind, Value};
use tidegate_protocol::{Reply, ReplyPart};

use super::link::Answer;
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
pub(super) fn read(reply: Answer) -> Reply {
    match reply {
        Ok(Value::Array(parts)) => Reply::Parts(parts.into_iter().map(part).collect()),
        Ok(_) => Reply::Failure(Error::Store("the script's answer has another form".into())),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            Reply::Refusal("NOSCRIPT".into())
        }
        Err(error) if error.code() == Some("CORRUPT") => {
            Reply::Refusal(format!("CORRUPT {}", error.detail().unwrap_or_default()).into())
        }
        Err(failure) if failure.code() == Some("CROSSSLOT") => {
            Reply::Refusal(failure.into_store_failure())
        }
        Err(failure) if failure.is_connection_dropped() => match failure.is_unsent() {
            true => Reply::Unsent(failure.into_store_error()),
            false => Reply::Broken(failure.into_store_error()),
        },
        Err(failure) => Reply::Failure(failure.into_store_error()),
    }
}

fn part(value: Value) -> ReplyPart {
    match value {
        Value::BulkString(bytes) => ReplyPart::Bytes(bytes),
        Value::SimpleString(text) => ReplyPart::Bytes(text.into_bytes()),
        Value::Int(number) => ReplyPart::Integer(number),
        _ => ReplyPart::Nil,
    }
}
