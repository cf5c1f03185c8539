//! Runs the scripts in a real Redis, by the clock of the test.

use redis::{Connection, RedisResult};
use tidegate::bindings::{Call, Snapshot};

use crate::SECOND;
use crate::lua_twin::{Change, Ran, with_nanoseconds};

/// A connection to a server that the test started.
pub struct RedisTwin(Connection);

impl RedisTwin {
    /// Runs scripts over this connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Runs a call on the keys as they are at `now`; the script reads the clock from two keys.
    ///
    /// # Panics
    /// When the server fails, or a script that failed has written.
    pub fn run(&mut self, seen: &Snapshot, call: &Call) -> Ran {
        let script = with_nanoseconds(call.script.text())
            .replace("redis.call('TIME')", "redis.call('MGET', 'seconds', 'nanoseconds')");
        let keys: Vec<String> = (0..seen.values.len()).map(|key| format!("bucket{key}")).collect();
        let mut writing = redis::pipe();
        writing.cmd("MSET").arg("seconds").arg(seen.now / SECOND);
        writing.arg("nanoseconds").arg(seen.now % SECOND);
        for (key, value) in keys.iter().zip(&seen.values) {
            match value {
                Some(value) => writing.cmd("SET").arg(key).arg(value),
                None => writing.cmd("DEL").arg(key),
            };
        }
        writing.exec(&mut self.0).expect("the keys are laid");

        // No time passes within a transaction, so nothing that was written expires before it is
        // read.
        let mut run = redis::cmd("EVAL");
        run.arg(script).arg(keys.len()).arg(&keys).arg(&call.arguments);
        redis::cmd("MULTI").exec(&mut self.0).expect("a transaction");
        run.exec(&mut self.0).expect("queued");
        redis::cmd("MGET").arg(&keys).exec(&mut self.0).expect("queued");
        for key in &keys {
            redis::cmd("PTTL").arg(key).exec(&mut self.0).expect("queued");
        }
        let answer: RedisResult<Vec<redis::Value>> = redis::cmd("EXEC").query(&mut self.0);
        match answer {
            Ok(mut parts) => {
                let mut rest = parts.split_off(1).into_iter();
                let told: Vec<Option<Vec<u8>>> =
                    redis::from_redis_value(parts.remove(0)).expect("what the script saw");
                assert_eq!(told[2..], seen.values, "the script answers with what it saw");
                let after: Vec<Option<Vec<u8>>> =
                    redis::from_redis_value(rest.next().expect("values")).expect("values");
                let ttls =
                    rest.map(|ttl| redis::from_redis_value::<i64>(ttl).expect("a time to live"));
                let changes = after.into_iter().zip(ttls).zip(&seen.values);
                Ran::Changed(
                    changes.map(|((after, ttl), before)| change(before, after, ttl)).collect(),
                )
            }
            Err(error) => {
                let after: Vec<Option<Vec<u8>>> =
                    redis::cmd("MGET").arg(&keys).query(&mut self.0).expect("the values");
                assert_eq!(after, seen.values, "wrote, then answered {error}");
                let (code, detail) = (error.code(), error.detail());
                Ran::Failed(format!("{} {}", code.unwrap_or_default(), detail.unwrap_or_default()))
            }
        }
    }
}

/// The values that the test writes never expire, so a time to live shows what the script wrote.
fn change(before: &Option<Vec<u8>>, after: Option<Vec<u8>>, ttl: i64) -> Option<Change> {
    match (u64::try_from(ttl), after) {
        (Ok(ttl), Some(value)) => Some(Change { value, ttl }),
        (_, after) => {
            assert_eq!(&after, before, "a bucket is written without an expiry");
            None
        }
    }
}
