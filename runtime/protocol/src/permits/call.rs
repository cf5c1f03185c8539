//! The script call about the permits of one key in Redis.

use tidegate_core::{PermitAnswer, PermitAsk};

use super::{PermitReply, PermitStep, PermitTerms};
use crate::error::Error;
use crate::keys::Keys;
use crate::script::{PERMITS, Script, ScriptCall};
use crate::snapshot::ReplyPart;

const MICRO: u64 = 1000;

/// What the script answers to a step that is not a place in the line.
const ENTERED: i64 = -1;
const FULL: i64 = -2;
const LOST: i64 = -3;
const LEFT: i64 = -4;
const WAS_NOT_HERE: i64 = -5;

/// [`PERMITS`] with its keys and arguments, ready to be sent.
#[derive(Debug)]
pub struct PermitCall {
    /// `KEYS`: those who hold permits, the line, and those who wait.
    pub keys: [Vec<u8>; 3],
    /// `ARGV`.
    pub arguments: Vec<String>,
}

impl PermitCall {
    /// The call that takes these steps on the permits of `key`. The server's clock has microseconds, so
    /// that durations are rounded up to them.
    pub fn new(prefix: &str, key: &[u8], terms: &PermitTerms, steps: &[PermitStep]) -> Self {
        let bucket = Keys::One(key).in_redis(prefix).into_first();
        let beside = |end: &[u8]| [bucket.as_slice(), end].concat();
        let PermitTerms { limit, ttl, wait, max_line } = *terms;
        let micros = |nanos: u64| nanos.div_ceil(MICRO);
        let own = format!("{limit} {} {} {max_line}", micros(ttl), micros(wait));
        let step = |PermitStep { ask, id }: &PermitStep| format!("{}{id}", letter(*ask));
        Self {
            keys: [beside(b":permits"), beside(b":line"), beside(b":waits")],
            arguments: core::iter::once(own).chain(steps.iter().map(step)).collect(),
        }
    }

    /// Reads the script's answer.
    ///
    /// # Errors
    /// [`Error::Store`] for what no script of ours answers.
    pub fn reply(&self, parts: &[ReplyPart]) -> Result<PermitReply, Error> {
        read(parts)
            .filter(|reply| reply.answers.len() + 1 == self.arguments.len())
            .ok_or_else(|| Error::Store("the script's answer has another form".into()))
    }

    /// The error of a script that found what is no permits' under a key, from the words after its code
    /// `CORRUPT`: `key 2 ...`.
    pub fn corrupt(&self, detail: &str) -> Error {
        let number = detail.split(' ').nth(1).and_then(|number| number.parse::<usize>().ok());
        let named = number.and_then(|number| self.keys.get(number.checked_sub(1)?));
        let key = named.unwrap_or(&self.keys[0]);
        Error::CorruptBucket { key: String::from_utf8_lossy(key).into_owned() }
    }
}

impl ScriptCall for PermitCall {
    fn script(&self) -> &'static Script {
        &PERMITS
    }

    fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Every step is idempotent, because it names its caller.
    fn is_repeatable(&self) -> bool {
        true
    }
}

const fn letter(ask: PermitAsk) -> char {
    match ask {
        PermitAsk::Enter => 'E',
        PermitAsk::TryEnter => 'T',
        PermitAsk::Renew => 'R',
        PermitAsk::Leave => 'L',
    }
}

fn read(parts: &[ReplyPart]) -> Option<PermitReply> {
    let number = |part: &ReplyPart| match part {
        ReplyPart::Integer(number) => Some(*number),
        ReplyPart::Bytes(digits) => core::str::from_utf8(digits).ok()?.parse().ok(),
        ReplyPart::Nil => None,
    };
    let numbers: Vec<i64> = parts.iter().map(number).collect::<Option<_>>()?;
    let [live, line, next, answers @ ..] = numbers.as_slice() else { return None };
    let answer = |code: &i64| {
        Some(match *code {
            ENTERED => PermitAnswer::Entered,
            FULL => PermitAnswer::Full,
            LOST => PermitAnswer::Lost,
            LEFT => PermitAnswer::Left { was_here: true },
            WAS_NOT_HERE => PermitAnswer::Left { was_here: false },
            ahead => PermitAnswer::Waiting { ahead: u64::try_from(ahead).ok()? },
        })
    };
    Some(PermitReply {
        live: u64::try_from(*live).ok()?,
        line: u64::try_from(*line).ok()?,
        next: u64::try_from(*next).ok().map(|micros| micros.saturating_mul(MICRO)),
        answers: answers.iter().map(answer).collect::<Option<_>>()?,
    })
}
