//! `redis.json` on the facade and the twin, in a real Redis.

use std::time::Duration;

use tidegate::{Limit, Limiter, Source};
use tidegate_conformance::case::call;
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::vectors::{RedisVectors, load};
use tidegate_core::Operation;

fn limiter(server: &RedisServer, limit: &str, prefix: &str) -> Limiter {
    Limiter::builder()
        .limit(limit)
        .store_url(&server.url())
        .store_timeout(Duration::from_secs(5))
        .prefix(prefix)
        .build()
        .expect("a limiter")
}

#[test]
fn buckets_have_the_keys_of_the_table() {
    let vectors: RedisVectors = load("redis.json");
    let server = RedisServer::start();
    let mut connection = server.connect();
    for case in &vectors.keys {
        let limiter = limiter(&server, "1/min burst 50", &case.prefix);
        let decision = limiter.check(&case.key, 1).expect("a decision");
        assert!(decision.allowed && decision.source == Source::Redis);
        let found: Vec<String> =
            redis::cmd("KEYS").arg("*").query(&mut connection).expect("the keys");
        let expected = [case.redis_key.as_str()];
        assert_eq!(found, expected, "prefix {:?} key {:?}", case.prefix, case.key);
        let ttl: i64 = redis::cmd("PTTL").arg(&case.redis_key).query(&mut connection).expect("TTL");
        assert!((1..=60_001).contains(&ttl), "one token is back in a minute, but TTL is {ttl} ms");
        redis::cmd("FLUSHALL").exec(&mut connection).expect("flushed");
    }
}

#[test]
fn foreign_values_are_corrupt_for_the_facade_and_the_script() {
    let vectors: RedisVectors = load("redis.json");
    let server = RedisServer::start();
    let mut connection = server.connect();
    let limiter = limiter(&server, "50/s burst 50", "tidegate");
    let limits = [Limit::parse("50/s burst 50").expect("a limit")];
    for value in &vectors.corrupt {
        redis::cmd("SET").arg("tidegate:{k}").arg(value).exec(&mut connection).expect("set");
        for cost in [0, 1] {
            let error = limiter.check("k", cost).expect_err("a foreign value");
            assert_eq!(error.code(), "corrupt_bucket", "{value:?}");
            assert!(error.to_string().contains("tidegate:{k}"), "{error}");
        }
        for operation in operations() {
            let what = format!("{operation:?}");
            let call = call(1, &limits, operation).expect("a call");
            let error = redis::cmd("EVAL")
                .arg(call.script.text())
                .arg(1)
                .arg("tidegate:{k}")
                .arg(call.arguments)
                .exec(&mut connection)
                .expect_err("a foreign value");
            assert_eq!(error.code(), Some("CORRUPT"), "{what} on {value:?}");
        }
        let kept: String =
            redis::cmd("GET").arg("tidegate:{k}").query(&mut connection).expect("the value");
        assert_eq!(&kept, value, "nothing of the user's is overwritten");
        assert!(limiter.check("other", 1).expect("another key goes on").allowed);
    }
    redis::cmd("DEL").arg("tidegate:{k}").exec(&mut connection).expect("deleted");
    redis::cmd("LPUSH").arg("tidegate:{k}").arg("x").exec(&mut connection).expect("a list");
    assert_eq!(limiter.check("k", 1).expect_err("a list").code(), "corrupt_bucket");
}

fn operations() -> [Operation; 4] {
    [
        Operation::Reserve { cost: 1.into(), max_wait: u64::MAX, min_wait: 0 },
        Operation::Settle { charged: 2.into(), actual: 1.into() },
        Operation::Hold { wait: 1 },
        Operation::Reset,
    ]
}
