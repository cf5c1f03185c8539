//! The contenders: ours, `governor` in process, one script call per check as `redis_rate` makes
//! it, and a call of a script that does nothing.

use core::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};

use tokio::runtime::Handle;

use crate::{PATIENCE, Result};

/// A limit as each contender writes it: a number of tokens per a number of seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) tokens: u64,
    pub(crate) seconds: u64,
}

/// More tokens than calls can ask of one key.
pub(crate) const HOT: Rate = Rate { tokens: 10_000_000, seconds: 1 };
/// A limit whose bucket owes something for about a second after a check.
pub(crate) const SPREAD: Rate = Rate { tokens: 100_000, seconds: 86_400 };
/// A limit of one check a day.
pub(crate) const EXHAUSTED: Rate = Rate { tokens: 1, seconds: 86_400 };
const RATES: [Rate; 3] = [HOT, SPREAD, EXHAUSTED];

pub(crate) trait Contender: Send + Sync + 'static {
    /// Asks for one token and answers whether it was allowed.
    fn check(&self, rate: Rate, key: u64) -> impl Future<Output = Result<bool>> + Send + 'static;

    /// [`check`](Self::check) from a thread that waits for the answer.
    fn check_blocking(
        &self,
        runtime: &tokio::runtime::Runtime,
        rate: Rate,
        key: u64,
    ) -> Result<bool> {
        runtime.block_on(self.check(rate, key))
    }
}

pub(crate) struct Tidegate([tidegate::Limiter; 3]);

impl Tidegate {
    pub(crate) fn new(url: &str, runtime: &Handle) -> Result<Self> {
        Self::keeping_refusals(url, runtime, Duration::from_secs(1))
    }

    /// A contender that leases slices of the hot bucket. The other limits give too few tokens to
    /// be leased.
    pub(crate) fn leased(url: &str, runtime: &Handle) -> Result<Self> {
        let Self([_, spread, exhausted]) = Self::new(url, runtime)?;
        let hot = tidegate::Limiter::builder()
            .limit(&format!("{}/{}s", HOT.tokens, HOT.seconds))
            .store_url(url)
            .store_timeout(PATIENCE)
            .prefix("rust-leased")
            .lease(tidegate::LeaseOptions::new(Duration::from_secs(1)))
            .build()?;
        Ok(Self([hot, spread, exhausted]))
    }

    /// A contender that asks the server for every check.
    pub(crate) fn asking(url: &str, runtime: &Handle) -> Result<Self> {
        Self::keeping_refusals(url, runtime, Duration::ZERO)
    }

    fn keeping_refusals(url: &str, runtime: &Handle, keep: Duration) -> Result<Self> {
        // The peers' connection, too, is on the callers' runtime.
        let store = tidegate::Store::open_on(url, PATIENCE, runtime)?;
        let open = |Rate { tokens, seconds }| {
            tidegate::Limiter::builder()
                .limit(&format!("{tokens}/{seconds}s"))
                .store(store.clone())
                .prefix(&format!("rust-{tokens}"))
                .deny_cache(keep)
                .build()
        };
        let [hot, spread, exhausted] = RATES.map(open);
        Ok(Self([hot?, spread?, exhausted?]))
    }

    fn limiter(&self, rate: Rate) -> &tidegate::Limiter {
        let [hot, spread, exhausted] = &self.0;
        match rate {
            HOT => hot,
            SPREAD => spread,
            _ => exhausted,
        }
    }
}

impl Tidegate {
    /// Asks for one token of each key in one call, and answers how many were allowed.
    pub(crate) async fn check_many(&self, rate: Rate, keys: &[u64]) -> Result<u64> {
        let names: Vec<String> = keys.iter().map(|key| format!("user:{key}")).collect();
        let checks = names.iter().map(|name| (name, 1));
        let decisions = self.limiter(rate).check_many_async(checks).await?;
        Ok(decisions.iter().map(|decision| u64::from(decision.allowed)).sum())
    }
}

impl Contender for Tidegate {
    fn check(&self, rate: Rate, key: u64) -> impl Future<Output = Result<bool>> + Send + 'static {
        let (limiter, key) = (self.limiter(rate).clone(), format!("user:{key}"));
        async move { Ok(limiter.check_async(&*key, 1).await?.allowed) }
    }

    fn check_blocking(&self, _: &tokio::runtime::Runtime, rate: Rate, key: u64) -> Result<bool> {
        Ok(self.limiter(rate).check(&*format!("user:{key}"), 1)?.allowed)
    }
}

/// Buckets of this process alone, all with the hot limit.
pub(crate) struct Governor(governor::DefaultKeyedRateLimiter<String>);

impl Governor {
    pub(crate) fn new() -> Result<Self> {
        let tokens = u32::try_from(HOT.tokens / HOT.seconds)?.try_into()?;
        Ok(Self(governor::RateLimiter::keyed(governor::Quota::per_second(tokens))))
    }
}

impl Contender for Governor {
    fn check(&self, _: Rate, key: u64) -> impl Future<Output = Result<bool>> + Send + 'static {
        core::future::ready(Ok(self.0.check_key(&format!("user:{key}")).is_ok()))
    }

    fn check_blocking(&self, _: &tokio::runtime::Runtime, _: Rate, key: u64) -> Result<bool> {
        Ok(self.0.check_key(&format!("user:{key}")).is_ok())
    }
}

/// One EVALSHA of `redis_rate`'s script for each check, all over one connection.
pub(crate) struct RedisRate {
    connection: MultiplexedConnection,
    script: Script,
}

impl RedisRate {
    pub(crate) fn new(connection: MultiplexedConnection, script: &str) -> Self {
        Self { connection, script: Script::new(script) }
    }
}

impl Contender for RedisRate {
    fn check(&self, rate: Rate, key: u64) -> impl Future<Output = Result<bool>> + Send + 'static {
        let mut connection = self.connection.clone();
        let Rate { tokens, seconds } = rate;
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.script.get_hash()).arg(1).arg(format!("rate:{tokens}:{key}"));
        command.arg(tokens).arg(tokens).arg(seconds).arg(1);
        let load = self.script.clone();
        async move {
            let reply = command.query_async(&mut connection).await;
            let reply = or_load(reply, &load, &command, connection).await?;
            let (allowed, _, _, _): (u64, f64, String, String) = redis::from_redis_value(reply)?;
            Ok(allowed > 0)
        }
    }
}

/// An empty script, to measure the client and the server without any limiter.
pub(crate) struct Bare {
    connection: MultiplexedConnection,
    script: Script,
}

impl Bare {
    pub(crate) fn new(connection: MultiplexedConnection) -> Self {
        Self { connection, script: Script::new("return 1") }
    }
}

impl Contender for Bare {
    fn check(&self, _: Rate, key: u64) -> impl Future<Output = Result<bool>> + Send + 'static {
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.script.get_hash()).arg(1).arg(format!("bare:{key}"));
        let load = self.script.clone();
        async move {
            let reply = command.query_async(&mut connection).await;
            let reply = or_load(reply, &load, &command, connection).await?;
            Ok(redis::from_redis_value::<u64>(reply)? == 1)
        }
    }
}

/// The reply, or the reply to a second attempt where the server had to be given the script first.
async fn or_load(
    reply: core::result::Result<redis::Value, RedisError>,
    script: &Script,
    command: &redis::Cmd,
    mut connection: MultiplexedConnection,
) -> core::result::Result<redis::Value, RedisError> {
    let unknown = redis::ErrorKind::Server(redis::ServerErrorKind::NoScript);
    match reply {
        Err(error) if error.kind() == unknown => {
            script.prepare_invoke().load_async(&mut connection).await?;
            command.query_async(&mut connection).await
        }
        reply => reply,
    }
}
