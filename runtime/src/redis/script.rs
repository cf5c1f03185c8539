//! The scripts, what is sent to them, and what they answer.

use std::sync::OnceLock;

use ::redis::{Cmd, ErrorKind, FromRedisValue as _, RedisError, RedisResult, ServerErrorKind};
use tidegate_core::{Limit, MAX_SPAN, Operation};

use super::link::Link;
use super::{corrupt_bucket, link_gone, store_error, value};
use crate::error::Error;

const READ: &str = include_str!("lua/read.lua");
const TIME: &str = include_str!("lua/time.lua");
const WRITE: &str = include_str!("lua/write.lua");

/// The twin of [`decide_tiers`](tidegate_core::decide_tiers).
pub static CHECK: Script = Script::new("check", &[READ, include_str!("lua/check.lua"), WRITE]);
/// The twin of [`reserve`](tidegate_core::reserve).
pub static RESERVE: Script =
    Script::new("reserve", &[READ, TIME, include_str!("lua/reserve.lua"), WRITE]);
/// The twin of [`cancel`](tidegate_core::cancel).
pub static CANCEL: Script = Script::new("cancel", &[READ, include_str!("lua/cancel.lua"), WRITE]);
/// The twin of [`settle`](tidegate_core::settle) and [`credit`](tidegate_core::credit).
pub static SETTLE: Script = Script::new("settle", &[READ, include_str!("lua/settle.lua"), WRITE]);
/// The twin of [`hold`](tidegate_core::hold).
pub static HOLD: Script = Script::new("hold", &[READ, TIME, include_str!("lua/hold.lua"), WRITE]);
/// The twin of [`reset`](tidegate_core::reset).
pub static RESET: Script = Script::new("reset", &[READ, include_str!("lua/reset.lua"), WRITE]);

/// All of them.
pub static SCRIPTS: [&Script; 6] = [&CHECK, &RESERVE, &CANCEL, &SETTLE, &HOLD, &RESET];

/// The part of an operation that runs in Redis.
pub struct Script {
    /// The operation's name.
    pub name: &'static str,
    /// The text: what all operations begin with, the operation, what all end with.
    pub parts: &'static [&'static str],
    loaded: OnceLock<Loaded>,
}

struct Loaded {
    text: String,
    hash: String,
}

impl Script {
    const fn new(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self { name, parts, loaded: OnceLock::new() }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.loaded().text
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| {
            let text = self.parts.concat();
            let hash = ::redis::Script::new(&text).get_hash().to_owned();
            Loaded { text, hash }
        })
    }
}

/// A script and its `ARGV`: an operation, ready to be sent.
pub struct Call {
    /// What runs.
    pub script: &'static Script,
    /// `ARGV`.
    pub arguments: Vec<String>,
    /// Whether the call can be sent again when nobody knows if it was carried out: what
    /// then happens twice must not give tokens twice.
    repeatable: bool,
}

impl Call {
    /// The call that takes `operation`'s step.
    ///
    /// # Errors
    /// [`Error::CostTooLarge`]: no script is asked for what can never be.
    pub fn new(limits: &[Limit], operation: &Operation) -> Result<Self, Error> {
        if let Operation::Check { cost } | Operation::Reserve { cost, .. } = *operation {
            let burst = limits.iter().map(Limit::burst).min().unwrap_or(0);
            if cost > burst {
                return Err(Error::CostTooLarge { cost, burst });
            }
        }
        let (script, own, repeatable) = match operation {
            Operation::Check { cost } => (&CHECK, cost.to_string(), true),
            Operation::Reserve { cost, max_wait } => {
                (&RESERVE, format!("{cost} {}", duration(*max_wait)), true)
            }
            Operation::Cancel(reservation) => {
                let after = value::write_anytime(&reservation.after, limits);
                let before = value::write_anytime(&reservation.before, limits);
                (&CANCEL, format!("{after} {before}"), true)
            }
            Operation::Settle { charged, actual } if actual > charged => {
                (&SETTLE, tokens(actual - charged).to_string(), true)
            }
            Operation::Settle { charged, actual } => {
                (&SETTLE, format!("-{}", tokens(charged - actual)), false)
            }
            Operation::Credit { tokens: back } => (&SETTLE, format!("-{}", tokens(*back)), false),
            Operation::Hold { wait } => (&HOLD, duration(*wait), true),
            Operation::Reset => (&RESET, String::new(), true),
            _ => return Err(Error::Store("not an operation of shared buckets".into())),
        };
        let mut arguments = Vec::with_capacity(1 + 2 * limits.len());
        arguments.push(own);
        for limit in limits {
            arguments.push(value::timeline_text(limit));
            arguments.push(limit.burst().to_string());
        }
        Ok(Self { script, arguments, repeatable })
    }

    /// Runs the script once: by its hash, or by its text where the server does not
    /// know it (any more).
    ///
    /// A call that can be repeated is, once, when the connection is found broken. The first
    /// try may have been carried out, so a breaking connection can cost a charge too many,
    /// never one too few.
    pub(super) async fn run(
        &self,
        link: &Link,
        slot: u16,
        keys: &[Vec<u8>],
    ) -> Result<Seen, Error> {
        let mut answer = self.send(link, slot, keys).await;
        if self.repeatable && answer.as_ref().is_err_and(RedisError::is_connection_dropped) {
            answer = self.send(link, slot, keys).await;
        }
        match answer {
            Ok(reply) => Seen::read(reply),
            Err(error) if error.code() == Some("CORRUPT") => {
                Err(corrupt_bucket(named_key(&error, keys)))
            }
            Err(error) => Err(store_error(error)),
        }
    }

    async fn send(&self, link: &Link, slot: u16, keys: &[Vec<u8>]) -> RedisResult<Reply> {
        let by_hash = self.command("EVALSHA", &self.script.loaded().hash, keys);
        let mut answer = link.send(vec![by_hash], slot).await.pop();
        if let Some(Err(error)) = &answer
            && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        {
            let by_text = self.command("EVAL", self.script.text(), keys);
            answer = link.send(vec![by_text], slot).await.pop();
        }
        Ok(Reply::from_redis_value(answer.unwrap_or_else(|| Err(link_gone()))?)?)
    }

    fn command(&self, name: &str, script: &str, keys: &[Vec<u8>]) -> Cmd {
        let mut command = ::redis::cmd(name);
        command.arg(script).arg(keys.len()).arg(keys).arg(&self.arguments);
        command
    }
}

type Reply = Vec<Option<Vec<u8>>>;

/// What a script saw: the server's clock and the buckets before the step.
#[derive(Debug)]
pub struct Seen {
    /// The server's clock, in nanoseconds since the Unix epoch.
    pub now: u64,
    /// The stored value of each key; none for a bucket never used.
    pub values: Vec<Option<Vec<u8>>>,
}

impl Seen {
    fn read(mut reply: Reply) -> Result<Self, Error> {
        let number = |part: Option<&Option<Vec<u8>>>| {
            core::str::from_utf8(part?.as_deref()?).ok()?.parse::<u64>().ok()
        };
        let (Some(seconds), Some(micros)) = (number(reply.first()), number(reply.get(1))) else {
            return Err(Error::Store("the script's answer has another form".into()));
        };
        let now = seconds.saturating_mul(1_000_000).saturating_add(micros).saturating_mul(1000);
        Ok(Self { now, values: reply.split_off(2) })
    }
}

/// A debt ends at [`MAX_SPAN`] and a token is at least 1 wide, so more tokens are as many.
fn tokens(count: u64) -> u64 {
    count.min(MAX_SPAN)
}

/// Durations can pass 2^53 ns.
fn duration(nanos: u64) -> String {
    format!("{} {}", nanos / value::MILLI, nanos % value::MILLI)
}

/// The key that a script's error is about: `CORRUPT key 2 ...`.
fn named_key<'k>(error: &RedisError, keys: &'k [Vec<u8>]) -> &'k [u8] {
    let number = error.detail().and_then(|detail| detail.split(' ').nth(1)?.parse::<usize>().ok());
    let named = number.and_then(|number| keys.get(number.checked_sub(1)?));
    named.or(keys.first()).map_or(&[], Vec::as_slice)
}
