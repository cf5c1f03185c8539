//! `keys.json` on the engine, and on limiters in memory, in shared memory and on a real Redis.

use std::time::Duration;

use tidegate::Limiter;
use tidegate_conformance::redis_server::RedisServer;
use tidegate_conformance::vectors::{KeyVectors, load};
use tidegate_core::StoredKey;

fn vectors() -> KeyVectors {
    load("keys.json")
}

fn limiter(url: &str) -> Limiter {
    let builder = Limiter::builder().limit("1/h burst 50").store_url(url);
    let builder = match url.starts_with("redis") {
        true => builder.store_timeout(Duration::from_secs(5)),
        false => builder,
    };
    builder.build().expect("a limiter")
}

#[test]
fn the_engine_keeps_what_the_table_says() {
    for case in vectors().keys {
        let (key, name) = (case.key(), &case.name);
        assert_eq!(StoredKey::new(&key).as_bytes(), case.stored(), "{name}");
        assert_eq!(StoredKey::text(&key).as_bytes(), case.text(), "{name}");
    }
}

#[test]
fn a_key_and_its_stored_form_are_one_bucket_on_every_store() {
    let server = RedisServer::start();
    let name = format!("shm://tidegate-keys-{}", std::process::id());
    for url in ["memory://", &name, &server.url()] {
        let limiter = limiter(url);
        for case in vectors().keys {
            let (key, stored) = (case.key(), case.stored());
            let before = limiter.check(&key, 0).expect("a decision").remaining;
            let after = limiter.check(&key, 1).expect("a decision").remaining;
            assert_eq!(after, before - 1, "{url} {}", case.name);
            let shared = limiter.check(&stored, 1).expect("a decision").remaining;
            assert_eq!(shared, before - 2, "{url} {}", case.name);
            let (each, of_stored) = ([&key[..]], [&stored[..]]);
            assert_eq!(limiter.check(&each, 1).expect("a decision").remaining, before - 3);
            assert_eq!(limiter.check(&of_stored, 1).expect("a decision").remaining, before - 4);
        }
        limiter.close();
    }
}

#[test]
fn redis_has_the_stored_form() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let limiter = limiter(&server.url());
    for case in vectors().keys {
        limiter.check(&case.key(), 1).expect("a decision");
        let found: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg("*").query(&mut connection).expect("the keys");
        let stored = match &*case.stored() {
            b"" => b"%".to_vec(),
            stored => stored.to_vec(),
        };
        let expect = [b"tidegate:{".as_slice(), &stored, b"}"].concat();
        assert_eq!(found, [expect], "{}", case.name);
        redis::cmd("FLUSHALL").exec(&mut connection).expect("flushed");
    }
}
