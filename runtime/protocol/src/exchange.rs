use std::borrow::Cow;

use tidegate_core::Outcome;

use super::{Call, Part, Refusal, Seen};
use crate::error::Error;

/// The calls of one trip over whatever client: what is to be sent, and what has come back.
///
/// Send [`commands`](Self::commands) and hand each one's reply to [`take`](Self::take), until
/// there are none: a call whose script the server does not know (any more) is sent again with
/// its text.
#[derive(Debug)]
pub struct Exchange {
    legs: Vec<Leg>,
    /// The legs of the commands that were asked for last.
    sent: Vec<usize>,
}

/// A call until it is answered.
#[derive(Debug)]
struct Leg {
    call: Option<Call>,
    by_text: bool,
}

/// What a client gives for one command.
#[derive(Debug)]
pub enum Reply {
    /// The script's answer.
    Parts(Vec<Part>),
    /// The server's error, its code first.
    Refusal(String),
    /// Something else, or nothing: what went wrong.
    Failure(Error),
}

impl Exchange {
    /// Calls to be sent together.
    pub fn new(calls: Vec<Call>) -> Self {
        let legs = calls.into_iter().map(|call| Leg { call: Some(call), by_text: false });
        Self { legs: legs.collect(), sent: Vec::new() }
    }

    /// What is to be sent now, in one pipeline: the words of each command.
    pub fn commands(&mut self) -> Vec<Vec<Cow<'_, [u8]>>> {
        let open = |&leg: &usize| self.legs[leg].call.is_some();
        self.sent = (0..self.legs.len()).filter(open).collect();
        self.legs.iter().filter_map(Leg::command).collect()
    }

    /// Takes the reply to the command of that place among those that were asked for last.
    /// `give` gets the answers that follow from it, each with the place of its request, and
    /// `refused` what was refused, as [`Call::answer`] does.
    pub fn take(
        &mut self,
        command: usize,
        reply: Reply,
        give: impl FnMut(usize, Result<Outcome, Error>),
        refused: impl FnMut(Refusal),
    ) {
        let leg = self.sent.get(command).and_then(|&leg| self.legs.get_mut(leg));
        if let Some(leg) = leg {
            leg.take(reply, give, refused);
        }
    }

    /// Gives the error to all that have not been answered.
    pub fn fail(&mut self, error: &Error, mut give: impl FnMut(usize, Result<Outcome, Error>)) {
        for call in self.legs.iter_mut().filter_map(|leg| leg.call.take()) {
            call.answer(Err(error.clone()), &mut give, |_| {});
        }
    }
}

impl Leg {
    fn command(&self) -> Option<Vec<Cow<'_, [u8]>>> {
        let call = self.call.as_ref()?;
        let (name, script) = match self.by_text {
            true => ("EVAL", call.script.text()),
            false => ("EVALSHA", call.script.hash()),
        };
        let number = call.keys.len().to_string();
        let head = [Cow::Borrowed(name.as_bytes()), Cow::Borrowed(script.as_bytes())];
        let keys = call.keys.iter().map(|key| Cow::Borrowed(key.as_slice()));
        let arguments = call.arguments.iter().map(|text| Cow::Borrowed(text.as_bytes()));
        let number = core::iter::once(Cow::Owned(number.into_bytes()));
        Some(head.into_iter().chain(number).chain(keys).chain(arguments).collect())
    }

    fn take(
        &mut self,
        reply: Reply,
        give: impl FnMut(usize, Result<Outcome, Error>),
        refused: impl FnMut(Refusal),
    ) {
        let Some(call) = self.call.take() else { return };
        let seen = match reply {
            Reply::Parts(parts) => Seen::read(parts, call.keys.len()),
            Reply::Refusal(text) if text.starts_with("NOSCRIPT") && !self.by_text => {
                *self = Self { call: Some(call), by_text: true };
                return;
            }
            Reply::Refusal(text) => Err(match text.strip_prefix("CORRUPT ") {
                Some(detail) => call.corrupt(detail),
                None => Error::Store(text),
            }),
            Reply::Failure(error) => Err(error),
        };
        call.answer(seen, give, refused);
    }
}
