//! Script calls that are sent in one pipeline, and sent again where that is safe.

use std::borrow::Cow;

use tidegate_core::Grant;

use crate::call::Call;
use crate::error::{Error, StoreFailure};
use crate::lease::LeaseCall;
use crate::permits::{PermitCall, PermitReply};
use crate::script::{KnownScripts, ScriptCall};
use crate::snapshot::{ReplyPart, Snapshot};

/// The calls of one batch, over whatever connection.
///
/// Send [`commands`](Self::commands) and hand each one's reply to [`take`](Self::take), until
/// there are none. A call is sent by the hash of its script; by its text where the server is not
/// known to have the script, or says that it does not; and once more where the connection broke
/// before it was sent, or broke later and repeating it cannot give tokens twice.
#[derive(Debug)]
pub(crate) struct Pipeline<C> {
    calls: Vec<InFlightCall<C>>,
    /// The places of the calls whose commands were written last.
    sent: Vec<usize>,
}

/// A call until it is answered.
#[derive(Debug)]
struct InFlightCall<C> {
    /// `None` once it is answered.
    call: Option<C>,
    by_text: bool,
    /// Whether a broken connection is still worth another try.
    may_repeat: bool,
    /// Whether there is another try if there is no connection over which it could be sent.
    may_send: bool,
}

/// The reply to one command.
#[derive(Debug)]
pub enum Reply {
    /// The script's answer.
    Parts(Vec<ReplyPart>),
    /// The server's error: its message begins with its code.
    Refusal(StoreFailure),
    /// There was no connection, and the command was surely not sent.
    Unsent(Error),
    /// The connection broke. The command may have been carried out.
    Broken(Error),
    /// Any other failure, or no reply at all.
    Failure(Error),
}

impl<C: ScriptCall> Pipeline<C> {
    /// Calls to be sent together. Of several calls of a script that the server does not know, the
    /// first carries the text and so teaches it to the server.
    pub(crate) fn new(calls: impl IntoIterator<Item = C>, known: &KnownScripts) -> Self {
        let mut taught = known.snapshot();
        let calls = calls.into_iter().map(|call| InFlightCall {
            by_text: !taught.insert(call.script()),
            may_repeat: call.is_repeatable(),
            may_send: true,
            call: Some(call),
        });
        Self { calls: calls.collect(), sent: Vec::new() }
    }

    /// Writes each command that is to be sent now: `write` gets its words.
    pub(crate) fn commands<T>(
        &mut self,
        mut write: impl FnMut(&mut dyn Iterator<Item = Cow<'_, [u8]>>) -> T,
    ) -> Vec<T> {
        self.sent.clear();
        let mut commands = Vec::with_capacity(self.calls.len());
        for (place, InFlightCall { call, by_text, .. }) in self.calls.iter().enumerate() {
            if let Some(call) = call {
                self.sent.push(place);
                commands.push(write(&mut call.words(*by_text)));
            }
        }
        commands
    }

    /// Adds calls that are sent when commands are written next.
    pub(crate) fn add(&mut self, calls: impl IntoIterator<Item = C>) {
        self.calls.extend(calls.into_iter().map(|call| InFlightCall {
            by_text: false,
            may_repeat: call.is_repeatable(),
            may_send: true,
            call: Some(call),
        }));
    }

    /// Whether all calls are answered.
    pub(crate) fn is_over(&self) -> bool {
        self.calls.iter().all(|in_flight| in_flight.call.is_none())
    }

    /// Takes the reply to the command of that place among those that were written last. Answers
    /// the call and its reply; `None` while the call is to be sent again.
    pub(crate) fn take(
        &mut self,
        command: usize,
        reply: Reply,
        known: &KnownScripts,
    ) -> Option<(C, Reply)> {
        let place = *self.sent.get(command)?;
        let in_flight = self.calls.get_mut(place)?;
        let script = in_flight.call.as_ref()?.script();
        let again = match &reply {
            Reply::Parts(_) => {
                known.learn(script);
                false
            }
            Reply::Refusal(failure) if failure.message.starts_with("NOSCRIPT") => {
                known.unlearn(script);
                !core::mem::replace(&mut in_flight.by_text, true)
            }
            Reply::Broken(_) => core::mem::replace(&mut in_flight.may_repeat, false),
            Reply::Unsent(_) => core::mem::replace(&mut in_flight.may_send, false),
            Reply::Refusal(_) | Reply::Failure(_) => false,
        };
        if again {
            return None;
        }
        in_flight.call.take().map(|call| (call, reply))
    }

    /// Gives up all calls that have not been answered.
    pub(crate) fn give_up(&mut self) {
        self.calls.clear();
        self.sent.clear();
    }
}

impl Reply {
    /// Whether the server did nothing because the keys are in several hash slots.
    pub(crate) fn is_of_several_slots(&self) -> bool {
        match self {
            // Clients leave the code out, or write it in their own way.
            Self::Refusal(failure) => {
                failure.message.contains("CROSSSLOT")
                    || failure.message.contains("hash to the same slot")
            }
            Self::Parts(_) | Self::Unsent(_) | Self::Broken(_) | Self::Failure(_) => false,
        }
    }

    /// The buckets that the script of `call` found.
    ///
    /// # Errors
    /// The failure that came instead.
    pub(crate) fn snapshot(self, call: &Call) -> Result<Snapshot, Error> {
        match self {
            Self::Parts(parts) => Snapshot::read(parts, call.keys.len()),
            Self::Refusal(failure) => Err(match failure.message.strip_prefix("CORRUPT ") {
                Some(detail) => call.corrupt(detail),
                None => refused(failure),
            }),
            Self::Unsent(error) | Self::Broken(error) | Self::Failure(error) => Err(error),
        }
    }

    /// The grant that answers a lease call.
    ///
    /// # Errors
    /// The failure that came instead.
    pub(crate) fn grant(self) -> Result<Grant, Error> {
        match self {
            Self::Parts(mut parts) => match parts.pop() {
                Some(ReplyPart::Bytes(grant)) => LeaseCall::grant(&grant),
                _ => LeaseCall::grant(b""),
            },
            Self::Refusal(failure) => Err(refused(failure)),
            Self::Unsent(error) | Self::Broken(error) | Self::Failure(error) => Err(error),
        }
    }

    /// The answer to a call about permits.
    ///
    /// # Errors
    /// The failure that came instead.
    pub(crate) fn permits(self, call: &PermitCall) -> Result<PermitReply, Error> {
        match self {
            Self::Parts(parts) => call.reply(&parts),
            Self::Refusal(failure) => Err(match failure.message.strip_prefix("CORRUPT ") {
                Some(detail) => call.corrupt(detail),
                None => refused(failure),
            }),
            Self::Unsent(error) | Self::Broken(error) | Self::Failure(error) => Err(error),
        }
    }
}

/// The error of a script or server that refused a call. The words of a script after its code
/// `CLOCK` are a sentence by themselves.
fn refused(failure: StoreFailure) -> Error {
    match failure.message.strip_prefix("CLOCK ") {
        Some(sentence) => Error::Store(sentence.into()),
        None => Error::Store(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{LEASE, Script};

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

        /// Only the call of key `a` may be repeated.
        fn is_repeatable(&self) -> bool {
            self.0[0] == b"a"
        }
    }

    /// A pipeline to a server that knows the script.
    fn pipeline(keys: &[&str], known: &KnownScripts) -> Pipeline<Asked> {
        known.learn(&LEASE);
        pipeline_to(keys, known)
    }

    fn pipeline_to(keys: &[&str], known: &KnownScripts) -> Pipeline<Asked> {
        Pipeline::new(keys.iter().map(|&key| Asked([key.into()], ["7".into()])), known)
    }

    /// The name and the key of each command.
    fn names(pipeline: &mut Pipeline<Asked>) -> Vec<String> {
        let text = |word: Option<Cow<'_, [u8]>>| {
            String::from_utf8_lossy(&word.unwrap_or_default()).into_owned()
        };
        pipeline.commands(|words| format!("{} {}", text(words.next()), text(words.nth(2))))
    }

    fn unknown() -> Reply {
        Reply::Refusal("NOSCRIPT No matching script.".into())
    }

    fn broken() -> Reply {
        Reply::Broken(Error::Store("reset by peer".into()))
    }

    fn key_of(answer: Option<(Asked, Reply)>) -> Option<String> {
        answer.map(|(call, _)| String::from_utf8_lossy(&call.0[0]).into_owned())
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
    fn the_first_call_of_an_unknown_script_carries_its_text() {
        let known = KnownScripts::default();
        let mut first = pipeline_to(&["a", "b"], &known);
        assert_eq!(names(&mut first), ["EVAL a", "EVALSHA b"]);
        assert_eq!(key_of(first.take(0, Reply::Parts(Vec::new()), &known)), Some("a".into()));
        assert_eq!(names(&mut pipeline_to(&["a"], &known)), ["EVALSHA a"]);
    }

    #[test]
    fn a_script_that_the_server_has_forgotten_is_sent_again_by_its_text_and_once() {
        let known = KnownScripts::default();
        let mut pipeline = pipeline(&["a", "b", "c"], &known);
        assert_eq!(names(&mut pipeline), ["EVALSHA a", "EVALSHA b", "EVALSHA c"]);
        assert!(pipeline.take(1, unknown(), &known).is_none());
        assert_eq!(key_of(pipeline.take(0, Reply::Parts(Vec::new()), &known)), Some("a".into()));
        let other = Reply::Refusal("READONLY".into());
        assert_eq!(key_of(pipeline.take(2, other, &known)), Some("c".into()));

        assert_eq!(names(&mut pipeline), ["EVAL b"]);
        let answered = pipeline.take(0, unknown(), &known);
        assert!(matches!(answered, Some((_, Reply::Refusal(_)))));
        assert!(names(&mut pipeline).is_empty() && pipeline.is_over());
    }

    #[test]
    fn a_broken_connection_repeats_only_what_may_be_repeated_and_once() {
        let known = KnownScripts::default();
        let mut pipeline = pipeline(&["a", "b"], &known);
        assert_eq!(names(&mut pipeline).len(), 2);
        assert!(pipeline.take(0, broken(), &known).is_none());
        assert_eq!(key_of(pipeline.take(1, broken(), &known)), Some("b".into()));
        // The script may have been forgotten meanwhile, and the connection may break again.
        assert_eq!(names(&mut pipeline), ["EVALSHA a"]);
        assert!(pipeline.take(0, unknown(), &known).is_none());
        assert_eq!(names(&mut pipeline), ["EVAL a"]);
        assert_eq!(key_of(pipeline.take(0, broken(), &known)), Some("a".into()));
    }

    #[test]
    fn what_was_surely_not_sent_is_sent_once_more_whatever_it_does() {
        let known = KnownScripts::default();
        let mut pipeline = pipeline(&["b"], &known);
        let unsent = || Reply::Unsent(Error::Store("refused".into()));
        assert_eq!(names(&mut pipeline), ["EVALSHA b"]);
        assert!(pipeline.take(0, unsent(), &known).is_none());
        assert_eq!(names(&mut pipeline), ["EVALSHA b"]);
        assert_eq!(key_of(pipeline.take(0, unsent(), &known)), Some("b".into()));
    }

    #[test]
    fn a_command_is_answered_once() {
        let known = KnownScripts::default();
        let mut pipeline = pipeline(&["a", "b"], &known);
        assert_eq!(names(&mut pipeline).len(), 2);
        assert!(pipeline.take(1, Reply::Parts(Vec::new()), &known).is_some());
        assert!(pipeline.take(1, Reply::Parts(Vec::new()), &known).is_none());
        assert!(pipeline.take(9, Reply::Parts(Vec::new()), &known).is_none());
        assert!(!pipeline.is_over());
        pipeline.give_up();
        assert!(pipeline.is_over());
        assert!(pipeline.take(0, Reply::Parts(Vec::new()), &known).is_none());
    }
}
