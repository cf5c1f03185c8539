use std::borrow::Cow;

use tidegate_core::Grant;

use crate::call::Call;
use crate::error::Error;
use crate::lease::LeaseCall;
use crate::script::Script;
use crate::seen::{Part, Seen};

/// A script with its keys and arguments, ready to be sent.
pub trait ScriptCall {
    /// What runs.
    fn script(&self) -> &'static Script;

    /// `KEYS`.
    fn keys(&self) -> &[Vec<u8>];

    /// `ARGV`.
    fn arguments(&self) -> &[String];

    /// The words of the command: by the script's hash, or by its text, which a server needs
    /// that does not know it.
    fn words(&self, by_text: bool) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let head = match by_text {
            true => ["EVAL", self.script().text()],
            false => ["EVALSHA", self.script().hash()],
        };
        let head = head.into_iter().map(|word| Cow::Borrowed(word.as_bytes()));
        let number = core::iter::once(Cow::Owned(self.keys().len().to_string().into_bytes()));
        let keys = self.keys().iter().map(|key| Cow::Borrowed(key.as_slice()));
        let arguments = self.arguments().iter().map(|text| Cow::Borrowed(text.as_bytes()));
        head.chain(number).chain(keys).chain(arguments)
    }
}

/// The calls of one trip over whatever client: what is to be sent, and what has come back.
///
/// Send [`commands`](Self::commands) and hand each one's reply to [`take`](Self::take), until
/// there are none: a call whose script the server does not know (any more) is sent again with
/// its text.
#[derive(Debug)]
pub struct Exchange<C> {
    legs: Vec<Leg<C>>,
    /// The legs of the commands that were asked for last.
    sent: Vec<usize>,
}

/// A call until it is answered.
#[derive(Debug)]
struct Leg<C> {
    call: Option<C>,
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

impl<C: ScriptCall> Exchange<C> {
    /// Calls to be sent together.
    pub fn new(calls: Vec<C>) -> Self {
        let legs = calls.into_iter().map(|call| Leg { call: Some(call), by_text: false });
        Self { legs: legs.collect(), sent: Vec::new() }
    }

    /// What is to be sent now, in one pipeline: the words of each command.
    pub fn commands(&mut self) -> Vec<Vec<Cow<'_, [u8]>>> {
        self.sent.clear();
        let mut commands = Vec::new();
        for (place, leg) in self.legs.iter().enumerate() {
            if let Some(call) = &leg.call {
                self.sent.push(place);
                commands.push(call.words(leg.by_text).collect());
            }
        }
        commands
    }

    /// Whether all calls are answered.
    pub fn is_over(&self) -> bool {
        self.legs.iter().all(|leg| leg.call.is_none())
    }

    /// Takes the reply to the command of that place among those that were asked for last. Gives
    /// the call back with it, and the call's place; nothing while it is to be sent again.
    pub fn take(&mut self, command: usize, reply: Reply) -> Option<(usize, C, Reply)> {
        let place = *self.sent.get(command)?;
        let leg = self.legs.get_mut(place)?;
        match &reply {
            Reply::Refusal(text) if text.starts_with("NOSCRIPT") && !leg.by_text => {
                leg.by_text = true;
                None
            }
            _ => leg.call.take().map(|call| (place, call, reply)),
        }
    }

    /// Gives all calls back that have not been answered, with their places.
    pub fn give_up(&mut self) -> impl Iterator<Item = (usize, C)> {
        let legs = self.legs.iter_mut().enumerate();
        legs.filter_map(|(place, leg)| leg.call.take().map(|call| (place, call)))
    }
}

impl Reply {
    /// What the script of `call` saw.
    ///
    /// # Errors
    /// What came instead.
    pub fn seen(self, call: &Call) -> Result<Seen, Error> {
        match self {
            Self::Parts(parts) => Seen::read(parts, call.keys.len()),
            Self::Refusal(text) => Err(match text.strip_prefix("CORRUPT ") {
                Some(detail) => call.corrupt(detail),
                None => Error::Store(text),
            }),
            Self::Failure(error) => Err(error),
        }
    }

    /// What a slice was granted.
    ///
    /// # Errors
    /// What came instead.
    pub fn grant(self) -> Result<Grant, Error> {
        match self {
            Self::Parts(mut parts) => match parts.pop() {
                Some(Part::Bytes(grant)) => LeaseCall::grant(&grant),
                _ => LeaseCall::grant(b""),
            },
            Self::Refusal(text) => Err(Error::Store(text)),
            Self::Failure(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::LEASE;

    struct Asked([Vec<u8>; 1], [String; 1]);

    impl ScriptCall for Asked {
        fn script(&self) -> &'static Script {
            &LEASE
        }

        fn keys(&self) -> &[Vec<u8>] {
            &self.0
        }

        fn arguments(&self) -> &[String] {
            &self.1
        }
    }

    fn exchange(keys: &[&str]) -> Exchange<Asked> {
        Exchange::new(keys.iter().map(|&key| Asked([key.into()], ["7".into()])).collect())
    }

    fn names(exchange: &mut Exchange<Asked>) -> Vec<(String, String)> {
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        exchange.commands().iter().map(|words| (text(&words[0]), text(&words[3]))).collect()
    }

    fn unknown() -> Reply {
        Reply::Refusal("NOSCRIPT No matching script.".into())
    }

    #[test]
    fn a_command_names_the_script_then_counts_the_keys() {
        let call = Asked(["k".into()], ["7".into()]);
        let words: Vec<_> = call.words(false).collect();
        let hash = LEASE.hash().as_bytes();
        assert_eq!(words, [b"EVALSHA".as_slice(), hash, b"1", b"k", b"7"]);
        let words: Vec<_> = call.words(true).collect();
        assert_eq!(words[..2], [b"EVAL".as_slice(), LEASE.text().as_bytes()]);
    }

    #[test]
    fn only_what_the_server_does_not_know_is_sent_again_by_its_text_and_once() {
        let mut exchange = exchange(&["a", "b", "c"]);
        assert_eq!(names(&mut exchange).len(), 3);
        assert!(exchange.take(1, unknown()).is_none());
        let (place, _, _) = exchange.take(0, Reply::Parts(Vec::new())).unwrap_or_else(never);
        assert_eq!(place, 0);
        let other = Reply::Refusal("READONLY".into());
        let (place, _, _) = exchange.take(2, other).unwrap_or_else(never);
        assert_eq!(place, 2);

        assert_eq!(names(&mut exchange), [("EVAL".into(), "b".into())]);
        let (place, _, reply) = exchange.take(0, unknown()).unwrap_or_else(never);
        assert_eq!(place, 1);
        assert!(matches!(reply, Reply::Refusal(_)));
        assert!(exchange.commands().is_empty());
    }

    #[test]
    fn who_has_no_answer_is_given_up_once() {
        let mut exchange = exchange(&["a", "b"]);
        assert_eq!(names(&mut exchange).len(), 2);
        assert!(exchange.take(1, Reply::Parts(Vec::new())).is_some());
        assert!(exchange.take(1, Reply::Parts(Vec::new())).is_none());
        assert!(exchange.take(9, Reply::Parts(Vec::new())).is_none());
        let open: Vec<usize> = exchange.give_up().map(|(place, _)| place).collect();
        assert_eq!(open, [0]);
        assert_eq!(exchange.give_up().count(), 0);
    }

    #[allow(clippy::panic, reason = "a test may stop")]
    fn never<T>() -> T {
        panic!("the call is done")
    }
}
