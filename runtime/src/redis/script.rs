use std::sync::LazyLock;

use ::redis::aio::ConnectionManager;
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind};
use tidegate_core::Limit;

use super::{corrupt_bucket, store_error, value};
use crate::error::Error;

/// The twin of `decide_tiers` that runs in Redis.
pub const CHECK: &str = include_str!("lua/check.lua");

static CHECK_HASH: LazyLock<String> = LazyLock::new(|| Script::new(CHECK).get_hash().to_owned());

/// What the script saw: the server's clock and the bucket before the step.
pub struct Seen {
    /// The server's clock, in nanoseconds since the Unix epoch.
    pub now: u64,
    /// The stored value; none for a bucket never used.
    pub value: Option<Vec<u8>>,
}

/// `ARGV` of [`CHECK`].
pub fn check_arguments(limits: &[Limit], cost: u64) -> Vec<String> {
    let mut arguments = vec![cost.to_string()];
    for limit in limits {
        arguments.push(value::timeline_text(limit));
        arguments.push(limit.burst().to_string());
    }
    arguments
}

/// Runs the script once: by its hash, or by its text where the server does not
/// know it (any more).
///
/// A connection found broken is retried once. The first try may have been
/// carried out, so a breaking connection can cost a charge too many, never one
/// too few.
pub(super) async fn check(
    mut connection: ConnectionManager,
    key: &[u8],
    limits: &[Limit],
    cost: u64,
) -> Result<Seen, Error> {
    let arguments = check_arguments(limits, cost);
    let mut answer = run(&mut connection, key, &arguments).await;
    if answer.as_ref().is_err_and(RedisError::is_connection_dropped) {
        answer = run(&mut connection, key, &arguments).await;
    }
    match answer {
        Ok((seconds, micros, value)) => {
            let now = seconds.saturating_mul(1_000_000).saturating_add(micros).saturating_mul(1000);
            Ok(Seen { now, value })
        }
        Err(error) if matches!(error.code(), Some("CORRUPT" | "WRONGTYPE")) => {
            Err(corrupt_bucket(key))
        }
        Err(error) => Err(store_error(error)),
    }
}

type Reply = (u64, u64, Option<Vec<u8>>);

async fn run(
    connection: &mut ConnectionManager,
    key: &[u8],
    arguments: &[String],
) -> RedisResult<Reply> {
    let by_hash = command("EVALSHA", &CHECK_HASH, key, arguments);
    match by_hash.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            command("EVAL", CHECK, key, arguments).query_async(connection).await
        }
        answer => answer,
    }
}

fn command(name: &str, script: &str, key: &[u8], arguments: &[String]) -> Cmd {
    let mut command = ::redis::cmd(name);
    command.arg(script).arg(1).arg(key).arg(arguments);
    command
}
