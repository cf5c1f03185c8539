//! One trip to the server: the calls of some requests, sent together.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::borrow::Cow;

use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::link::Link;
use super::{Call, Part, SCRIPTS, ScriptCall as _, Seen, store_error};
use crate::Error;

/// How often a call is sent at most: by its hash, once more where the connection broke, and
/// by its text where the server does not know it (any more).
const MOST_SENDS: u32 = 3;

/// The scripts that the server has run and so knows, unless it has forgotten them since.
#[derive(Default)]
pub(super) struct Known(AtomicUsize);

impl Known {
    fn has(&self, call: &Call) -> bool {
        self.0.load(Ordering::Relaxed) & bit(call) != 0
    }

    fn learn(&self, call: &Call) {
        self.0.fetch_or(bit(call), Ordering::Relaxed);
    }

    fn unlearn(&self, call: &Call) {
        self.0.fetch_and(!bit(call), Ordering::Relaxed);
    }
}

fn bit(call: &Call) -> usize {
    let number = SCRIPTS.iter().position(|script| core::ptr::eq(*script, call.script));
    number.map_or(0, |number| 1 << number)
}

/// Runs calls one after the other, and says what each script saw. Only where the server has
/// forgotten a script, those of it run after the others.
///
/// A call that can be repeated is, once, when the connection is found broken. The first
/// try may have been carried out, so a breaking connection can cost a charge too many,
/// never one too few.
pub(super) async fn run(
    link: &Link,
    known: &Known,
    slot: u16,
    calls: &[Call],
) -> Vec<Result<Seen, Error>> {
    let mut seen: Vec<Option<Result<Seen, Error>>> = calls.iter().map(|_| None).collect();
    let mut tries: Vec<Try> = Vec::with_capacity(calls.len());
    for (place, call) in calls.iter().enumerate() {
        // The first of a trip teaches the server what the others need.
        let is_first = || !calls[..place].iter().any(|it| core::ptr::eq(it.script, call.script));
        tries.push(Try { by_text: !known.has(call) && is_first(), repeat: true });
    }
    for last in (0..MOST_SENDS).map(|send| send + 1 == MOST_SENDS) {
        let open: Vec<usize> = (0..calls.len()).filter(|&call| seen[call].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let commands = open.iter().map(|&call| command(calls[call].words(tries[call].by_text)));
        let replies = link.send(commands.collect(), slot).await;
        for (call, reply) in open.into_iter().zip(replies) {
            match &reply {
                Ok(_) => known.learn(&calls[call]),
                Err(error) if is_unknown(error) => known.unlearn(&calls[call]),
                Err(_) => {}
            }
            let again = tries[call].again(&calls[call], &reply);
            if last || !again {
                seen[call] = Some(read(&calls[call], reply));
            }
        }
    }
    let lost = || Err(Error::Store("the server's answer is missing".into()));
    seen.into_iter().map(|seen| seen.unwrap_or_else(lost)).collect()
}

#[derive(Clone, Copy)]
struct Try {
    by_text: bool,
    /// Whether a broken connection is still worth another try.
    repeat: bool,
}

impl Try {
    /// Whether the call is to be sent again after this answer.
    fn again(&mut self, call: &Call, reply: &RedisResult<Value>) -> bool {
        let Err(error) = reply else { return false };
        if is_unknown(error) {
            return !core::mem::replace(&mut self.by_text, true);
        }
        let broken = call.repeatable && error.is_connection_dropped();
        broken && core::mem::replace(&mut self.repeat, false)
    }
}

pub(super) fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

pub(super) fn command<'w>(words: impl IntoIterator<Item = Cow<'w, [u8]>>) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(&*word);
    }
    command
}

fn read(call: &Call, reply: RedisResult<Value>) -> Result<Seen, Error> {
    match reply {
        Ok(Value::Array(parts)) => Seen::read(parts.into_iter().map(part), call.keys.len()),
        Ok(_) => Err(Error::Store("the script's answer has another form".into())),
        Err(error) if error.code() == Some("CORRUPT") => {
            Err(call.corrupt(error.detail().unwrap_or_default()))
        }
        Err(error) => Err(store_error(error)),
    }
}

pub(super) fn part(value: Value) -> Part {
    match value {
        Value::BulkString(bytes) => Part::Bytes(bytes),
        Value::SimpleString(text) => Part::Bytes(text.into_bytes()),
        Value::Int(number) => Part::Integer(number),
        _ => Part::Nil,
    }
}
