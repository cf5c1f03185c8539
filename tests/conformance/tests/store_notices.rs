//! What a program is told of a store's settings: that it evicts buckets.

use std::sync::mpsc;
use std::time::Duration;

use tidegate::{Error, Limiter, Store, StoreChange, StoreNotice};
use tidegate_conformance::redis_server::RedisServer;

/// No call takes so long, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(20);
/// How long a busy machine may take until a condition holds.
const DEADLINE: Duration = Duration::from_secs(60);

fn set(server: &RedisServer, setting: &str, value: &str) {
    let mut admin = server.connect();
    redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec(&mut admin).expect("set");
}

/// Opens a store for a limiter and pings it twice.
fn pinged(url: &str) -> Result<(), Error> {
    let builder = Limiter::builder().limit("5/s").store_url(url).store_timeout(PATIENT);
    let limiter = builder.build()?;
    limiter.ping()?;
    limiter.ping()
}

/// The only test of this process, because there is one hook.
#[test]
fn the_first_ping_tells_of_a_policy_that_evicts_buckets_that_owe() -> Result<(), Error> {
    let server = RedisServer::start();
    let (sender, changes) = mpsc::channel::<StoreChange>();
    Store::on_change(move |change| _ = sender.send(change.clone()));
    let place = format!("redis://127.0.0.1:{}/0", server.port());
    let cases = [
        ("0", "allkeys-lru", "resp2", false),
        ("100mb", "noeviction", "resp2", false),
        ("100mb", "volatile-ttl", "resp2", false),
        ("100mb", "volatile-lfu", "resp2", false),
        ("100mb", "allkeys-lru", "resp2", true),
        ("100mb", "volatile-lru", "resp3", true),
        ("100mb", "allkeys-random", "resp3", true),
    ];
    for (memory, policy, protocol, is_told) in cases {
        set(&server, "maxmemory", memory);
        set(&server, "maxmemory-policy", policy);
        pinged(&format!("{}?protocol={protocol}", server.url()))?;
        if is_told {
            let change = changes.recv_timeout(DEADLINE).expect("a notice");
            assert_eq!(change.store, place);
            assert_eq!(change.notice, Some(StoreNotice::Evicts(policy.to_owned())));
            assert!(change.is_warning() && change.error.is_none());
            let line = change.to_string();
            assert!(line.contains(&format!("evicts keys by maxmemory-policy {policy}")), "{line}");
        }
    }
    // A user without the permission is not told, and the ping passes.
    let mut admin = server.connect();
    let words = ["SETUSER", "seldom", "on", "nopass", "~*", "+@all", "-info"];
    redis::cmd("ACL").arg(&words).exec(&mut admin).expect("a user");
    pinged(&format!("redis://seldom:x@127.0.0.1:{}", server.port()))?;
    // What was told came in the order of the pings, so a notice too many would have come before.
    pinged(&format!("{}?db=1", server.url()))?;
    let last = changes.recv_timeout(DEADLINE).expect("a notice");
    assert_eq!(last.store, place.replace("/0", "/1"));
    assert_eq!(changes.try_recv(), Err(mpsc::TryRecvError::Empty));
    Ok(())
}
