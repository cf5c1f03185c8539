//! The Rust side of `make bench-redis`: reads lines that `benches/redis/compare.py` writes, makes
//! the calls that each line asks for, and answers with a line of JSON that says what they took.
//!
//! ```text
//! exhaust <contender> <keys>
//! run     <contender> <keys> <allow|deny|paced> <concurrency> <milliseconds>
//! ```
//!
//! Calls that are paced are allowed too; one thread makes them and rests for a millisecond before
//! each.
//!
//! `REDIS_URL` names the server, `REDIS_RATE_SCRIPT` the file with `redis_rate`'s script.

mod contenders;
mod load;

use core::error::Error;
use core::time::Duration;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use contenders::{Bare, Contender, Governor, RedisRate, Tidegate};
use load::{Load, Sample};
use redis::AsyncConnectionConfig;
use tokio::runtime::Runtime;

type Result<T> = core::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long any contender waits for the server. No measured call comes near it; it only has to be
/// longer than a busy machine may leave a process without the processor.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let url = std::env::var("REDIS_URL")?;
    let script = std::fs::read_to_string(std::env::var("REDIS_RATE_SCRIPT")?)?;
    // The tasks and the I/O of all contenders run on one thread.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = redis::Client::open(url.as_str())?;
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connection =
        runtime.block_on(client.get_multiplexed_async_connection_with_config(&patient))?;
    let tidegate = Arc::new(Tidegate::new(&url, runtime.handle())?);
    let asking = Arc::new(Tidegate::asking(&url, runtime.handle())?);
    let leased = Arc::new(Tidegate::leased(&url, runtime.handle())?);
    let governor = Arc::new(Governor::new()?);
    let redis_rate = Arc::new(RedisRate::new(connection.clone(), &script));
    let bare = Arc::new(Bare::new(connection));

    let mut stdout = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let contender = *words.get(1).ok_or("which contender?")?;
        let sample = match contender {
            "tidegate" => answer(&runtime, &tidegate, &words),
            "tidegate-asking" => answer(&runtime, &asking, &words),
            "tidegate-many" => match load_of(&words)? {
                Some(load) => load.run_many(&runtime, &asking),
                None => answer(&runtime, &asking, &words),
            },
            "tidegate-leased" => answer(&runtime, &leased, &words),
            "governor" => answer(&runtime, &governor, &words),
            "redis_rate" => answer(&runtime, &redis_rate, &words),
            "bare" => answer(&runtime, &bare, &words),
            other => Err(format!("no such contender: {other}").into()),
        }?;
        writeln!(stdout, "{}", sample.as_json())?;
        stdout.flush()?;
    }
    Ok(())
}

fn answer<C: Contender>(runtime: &Runtime, contender: &Arc<C>, words: &[&str]) -> Result<Sample> {
    match (load_of(words)?, words) {
        (Some(load), _) => load.run(runtime, contender),
        (None, ["exhaust", _, keys]) => {
            load::exhaust(runtime, contender, keys.parse()?)?;
            Ok(Sample::default())
        }
        _ => Err("neither exhaust nor run".into()),
    }
}

fn load_of(words: &[&str]) -> Result<Option<Load>> {
    let ["run", _, keys, outcome, concurrency, milliseconds] = *words else { return Ok(None) };
    let keys: u64 = keys.parse()?;
    let limit = match outcome {
        "deny" => contenders::EXHAUSTED,
        _ if keys <= 64 => contenders::HOT,
        _ => contenders::SPREAD,
    };
    let slice = Duration::from_millis(milliseconds.parse()?);
    let rest = Duration::from_millis(u64::from(outcome == "paced"));
    Ok(Some(Load { keys, limit, concurrency: concurrency.parse()?, slice, rest }))
}
