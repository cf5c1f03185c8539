//! The Redis store while its server restarts, hangs, forgets, or refuses.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::{Error, Limiter, ManualClock, Store};
use tidegate_conformance::forgetful_proxy::ForgetfulProxy;
use tidegate_conformance::redis_server::RedisServer;

/// How long a call may take beyond its store timeout, because threads run late on a busy machine.
/// A call that hangs takes far longer.
const SLACK: Duration = Duration::from_secs(10);

fn limiter(url: &str, limit: &str, timeout: Duration) -> Limiter {
    let builder = Limiter::builder().limit(limit).store_url(url).store_timeout(timeout);
    if url == "memory://" {
        return builder.build().expect("a limiter");
    }
    // Limiters with other limits share buckets on purpose.
    let builder = builder.prefix("tidegate");
    // These tests are about the server's buckets, so no refusal may come from this process.
    builder.deny_cache(Duration::ZERO).build().expect("a limiter")
}

/// Checks until that succeeds again, each time within the timeout.
fn recovers(limiter: &Limiter, timeout: Duration) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = Instant::now();
        let answer = limiter.check("k", 1);
        assert!(before.elapsed() < timeout + SLACK, "took {:?}", before.elapsed());
        match answer {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "still {error}"),
        }
    }
}

#[test]
fn two_limiters_share_a_bucket_exactly() {
    let server = RedisServer::start();
    let limiters: Vec<Limiter> =
        (0..4).map(|_| limiter(&server.url(), "100/h window", Duration::from_secs(10))).collect();
    // The test fits in one window, unless an hour ends meanwhile: then a second window adds 100.
    let hour = || server_seconds(&server) / 3600;
    let before = hour();
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = limiters
            .iter()
            .map(|limiter| {
                scope.spawn(|| {
                    (0..200).filter(|_| limiter.check("k", 1).expect("a decision").allowed).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    if hour() == before {
        assert_eq!(admitted, 100);
    } else {
        assert!((100..=200).contains(&admitted), "{admitted}");
    }
}

fn server_seconds(server: &RedisServer) -> u64 {
    let (seconds, _): (u64, u64) =
        redis::cmd("TIME").query(&mut server.connect()).expect("the time");
    seconds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_checks_on_one_connection() {
    let server = RedisServer::start();
    let limiter = limiter(&server.url(), "1/d burst 70", Duration::from_secs(20));
    let checks: Vec<_> = (0..1000).map(|_| tokio::spawn(limiter.check_async("k", 1))).collect();
    let mut admitted = 0;
    for check in checks {
        admitted += usize::from(check.await.expect("no panic").expect("a decision").allowed);
    }
    assert_eq!(admitted, 70);
    let clients: String =
        redis::cmd("CLIENT").arg("LIST").query(&mut server.connect()).expect("the clients");
    assert_eq!(clients.lines().count(), 2, "one connection and this one:\n{clients}");
}

#[test]
fn flushed_scripts_and_data_change_nothing_but_the_debts() {
    let server = RedisServer::start();
    let limiter = limiter(&server.url(), "1/d burst 2", Duration::from_secs(5));
    let mut connection = server.connect();
    assert!(limiter.check("k", 2).expect("a decision").allowed);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).expect("flushed");
    assert!(!limiter.check("k", 1).expect("a decision").allowed, "the bucket is still empty");
    redis::cmd("FLUSHALL").exec(&mut connection).expect("flushed");
    assert!(limiter.check("k", 2).expect("a decision").allowed, "the bucket is new");
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .exec(&mut connection)
        .expect("killed");
    assert!(!limiter.check("k", 1).expect("one retry on a new connection").allowed);
}

#[test]
fn a_stopped_server_is_an_error_and_a_started_one_works_again() {
    let mut server = RedisServer::start();
    let timeout = Duration::from_millis(200);
    let limiter = limiter(&server.url(), "1000/s", timeout);
    recovers(&limiter, timeout);
    server.stop();
    for _ in 0..20 {
        let before = Instant::now();
        let error = limiter.check("k", 1).expect_err("the server is gone");
        assert!(matches!(error.code(), "store_error" | "store_timeout"), "{error}");
        assert!(before.elapsed() < timeout + SLACK, "took {:?}", before.elapsed());
    }
    server.restart();
    recovers(&limiter, timeout);
}

#[test]
fn a_hung_server_is_a_timeout_and_a_thawed_one_works_again() {
    let server = RedisServer::start();
    let timeout = Duration::from_millis(200);
    let limiter = limiter(&server.url(), "1000/s", timeout);
    recovers(&limiter, timeout);
    server.freeze();
    // After more failures in a row the server would no longer be asked.
    for _ in 0..3 {
        let before = Instant::now();
        let error = limiter.check("k", 1).expect_err("the server hangs");
        assert_eq!(error, Error::timeout(timeout));
        assert!(before.elapsed() >= timeout, "took only {:?}", before.elapsed());
        assert!(before.elapsed() < timeout + SLACK, "took {:?}", before.elapsed());
    }
    server.thaw();
    recovers(&limiter, timeout);
}

/// The operating system considers the connection healthy, because everything sent is acknowledged.
#[test]
fn a_connection_that_is_forgotten_on_the_way_is_replaced() {
    let server = RedisServer::start();
    let proxy = ForgetfulProxy::before(server.port());
    let timeout = Duration::from_millis(100);
    let limiter = limiter(&proxy.url(), "1000/s", timeout);
    recovers(&limiter, timeout);
    let accepted = proxy.accepted();
    proxy.forget_all();
    let error = limiter.check("k", 1).expect_err("nothing is passed on");
    assert_eq!(error, Error::timeout(timeout));
    recovers(&limiter, timeout);
    // The limiter makes as many connections as it needs to find out, and not one for every call.
    assert!(proxy.accepted() <= accepted + 3, "{} connections", proxy.accepted());
}

#[test]
fn an_unreachable_server_is_an_error_within_the_timeout() {
    let mut server = RedisServer::start();
    server.stop();
    let timeout = Duration::from_millis(200);
    let limiter = limiter(&server.url(), "10/s", timeout);
    let before = Instant::now();
    let error = limiter.check("k", 1).expect_err("nobody listens");
    assert!(matches!(error.code(), "store_error" | "store_timeout"), "{error}");
    assert!(before.elapsed() < timeout + SLACK);
    server.restart();
    recovers(&limiter, timeout);
}

#[test]
fn credentials_work_and_are_in_no_message() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    redis::cmd("ACL")
        .arg(&[
            "SETUSER", "gate", "on", ">s3cret", "~gates:*", "+eval", "+evalsha", "+get", "+mget",
            "+set", "+time", "+ping",
        ])
        .exec(&mut connection)
        .expect("a user");
    let host = server.url().replace("redis://", "");
    let with = |user: &str| format!("redis://{user}@{host}0");
    let build = |url: &str, prefix: &str| {
        Limiter::builder()
            .limit("5/s")
            .store_url(url)
            .prefix(prefix)
            .store_timeout(Duration::from_secs(5))
            .build()
            .expect("a limiter")
    };
    assert!(build(&with("gate:s3cret"), "gates:a").check("k", 1).expect("a decision").allowed);
    for (limiter, why) in [
        (build(&with("gate:wr0ng"), "gates:a"), "a wrong password"),
        (build(&with("gate:s3cret"), "other"), "a key outside the user's pattern"),
    ] {
        let error = limiter.check("k", 1).expect_err(why);
        assert_eq!(error.code(), "store_error", "{why}: {error}");
        let message = format!("{error} {error:?} {limiter:?}");
        assert!(!message.contains("s3cret") && !message.contains("wr0ng"), "{message}");
    }
}

/// All URLs of a database lead to the same bucket; another database has its own.
#[test]
fn every_kind_of_url_leads_to_the_bucket() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let mut say = |words: &[&str]| {
        redis::cmd(words[0]).arg(&words[1..]).exec(&mut connection).expect("carried out");
    };
    say(&["ACL", "SETUSER", "gate", "on", ">p@ss/w:rd", "allkeys", "+@all"]);
    let host = server.url().replace("redis://", "").replace('/', "");
    let remaining = |url: String| {
        let limiter = limiter(&url, "1/d burst 9", Duration::from_secs(5));
        limiter.check("k", 1).unwrap_or_else(|error| panic!("{url}: {error}")).remaining
    };
    for (url, expected) in [
        (format!("redis://{host}"), 8),
        (format!("valkey://{host}/?protocol=resp3"), 7),
        (format!("redis://gate:p%40ss%2Fw%3Ard@{host}/0"), 6),
        (format!("redis://gate:p%40ss%2Fw%3Ard@{host}?protocol=resp3&db=0"), 5),
        (format!("redis+unix://{}", server.socket().display()), 4),
        (format!("redis+unix://{}?user=gate&pass=p%40ss%2Fw%3Ard", server.socket().display()), 3),
        (format!("redis://{host}/1"), 8),
        (format!("redis://{host}?db=1&protocol=resp3"), 7),
        (format!("redis+unix://{}?db=1", server.socket().display()), 6),
    ] {
        assert_eq!(remaining(url.clone()), expected, "{url}");
    }
}

#[test]
fn invalid_options_are_refused_when_built() {
    let cases = [
        ("redis:/127.0.0.1", "store"),
        ("127.0.0.1:6379", "store"),
        ("http://127.0.0.1:6379", "store"),
        ("memory://x", "store"),
        ("redis://", "store"),
        ("redis://user:hunter2@127.0.0.1:99999", "store"),
        ("redis://user:hunter2@127.0.0.1/not-a-number", "store"),
    ];
    for (url, field) in cases {
        let error = Limiter::builder().limit("5/s").store_url(url).build().expect_err(url);
        assert_eq!(error.code(), "invalid_argument", "{url}: {error}");
        assert!(error.to_string().starts_with(&format!("invalid {field}: ")), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    for timeout in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(61)] {
        let error = Store::open("memory://", timeout).expect_err("out of bounds");
        assert!(error.to_string().contains("1 ms to 60 s"), "{error}");
    }
    let error = Limiter::builder().build().expect_err("no limit");
    assert_eq!(error.reason(), Some("tier_count"));
    let five = (0..5).fold(Limiter::builder(), |builder, _| builder.limit("5/s"));
    assert!(five.build().expect_err("five").to_string().contains("1 to 4 limits, but 5"));
    let clocked = Limiter::builder()
        .limit("5/s")
        .store_url("redis://127.0.0.1")
        .clock(Arc::new(ManualClock::new(0)));
    assert!(clocked.build().expect_err("a clock").to_string().starts_with("invalid clock: "));
    for prefix in ["", &"x".repeat(257)] {
        let error = Limiter::builder().limit("5/s").prefix(prefix).build().expect_err("a prefix");
        assert!(error.to_string().contains("1 to 256 bytes"), "{error}");
    }
}

#[test]
fn bad_calls_never_reach_the_server() {
    for url in ["memory://", "redis://127.0.0.1:1"] {
        let limiter = limiter(url, "5/s", Duration::from_millis(50));
        assert_eq!(limiter.check("k", 6), Err(Error::CostTooLarge { cost: 6, burst: 5 }));
        let keys: [&[u8]; 2] = [b"a", b"b"];
        let error = limiter.check(&keys, 1).expect_err("a key too many");
        assert!(error.to_string().contains("one for each limit (1), but has 2"), "{error}");
        limiter.close();
        limiter.close();
        assert_eq!(limiter.check("k", 1).expect_err("closed").code(), "store_error");
    }
}

/// A rolling change of a limit keeps each bucket's debt in whole tokens.
#[test]
fn a_changed_limit_keeps_the_debt_in_tokens() {
    let server = RedisServer::start();
    let timeout = Duration::from_secs(5);
    let slow = limiter(&server.url(), "10/d burst 10", timeout);
    assert!(slow.check("k", 10).expect("a decision").allowed);
    let refused = slow.check("k", 1).expect("a decision");
    assert!(refused.retry_after > 8_000_000_000_000, "hours: {refused:?}");
    let fast = limiter(&server.url(), "20/s burst 20", timeout);
    let decision = fast.check("k", 1).expect("a decision");
    assert!(decision.allowed, "ten tokens are owed of twenty");
    assert_eq!(decision.remaining, 9);
}

/// A refusal under a changed limit is kept, so that following its `retry_after` leads to an answer.
/// What the limiter with the other limits remembers of the key is forgotten with it.
#[test]
fn a_refusal_under_a_changed_limit_is_the_only_one() {
    let server = RedisServer::start();
    let limiter = |limit| {
        let builder = Limiter::builder().store_url(&server.url()).prefix("shared").limit(limit);
        let builder = builder.store_timeout(Duration::from_secs(5));
        builder.deny_cache(Duration::from_secs(60)).build().expect("a limiter")
    };
    let (slow, fast) = (limiter("20/36500d window"), limiter("20/s burst 20"));
    for key in ["refused", "looked at"] {
        assert!(slow.check(key, 20).expect("a decision").allowed);
        assert!(!slow.check(key, 1).expect("a decision").allowed);
    }
    assert!(fast.check("looked at", 0).expect("a decision").allowed);
    let refused = fast.check("refused", 20).expect("a decision");
    assert!(!refused.allowed && refused.retry_after <= 1_000_000_000, "{refused:?}");
    std::thread::sleep(Duration::from_nanos(refused.retry_after));
    let decision = fast.check("refused", 20).expect("a decision");
    assert!(decision.allowed, "its time has come: {decision:?}");
    let decision = slow.check("looked at", 1).expect("a decision");
    assert!(decision.allowed, "the other limit has brought tokens back: {decision:?}");
}

fn command(server: &RedisServer, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut server.connect()).expect("the command");
}

/// Makes one server the replica of another, and waits until it is.
fn demote(replica: &RedisServer, primary: &RedisServer) {
    command(replica, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut connection = replica.connect();
    loop {
        let role: String =
            redis::cmd("INFO").arg("replication").query(&mut connection).expect("the role");
        if role.contains("master_link_status:up") {
            return;
        }
        assert!(Instant::now() < deadline, "{role}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Behind a forwarder, an old master stays connected after it has become a replica. Its answers lead to
/// a new connection, which the forwarder leads to the new master.
#[test]
fn a_replica_is_left_for_the_server_that_the_address_leads_to_now() {
    let (old, mut new) = (RedisServer::start(), RedisServer::start());
    let proxy = ForgetfulProxy::before(old.port());
    let limiter = limiter(&proxy.url(), "1000/d", Duration::from_secs(5));
    assert!(limiter.check("k", 1).expect("a decision").allowed);
    demote(&old, &new);

    // While the address leads to the replica, connections to it are tried again, and not for each call.
    let until = Instant::now() + Duration::from_secs(1);
    let mut calls = 0;
    while Instant::now() < until {
        let error = limiter.check("k", 1).expect_err("a replica");
        assert!(error.to_string().contains("read only") || error.to_string().contains("not asked"));
        calls += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let tried = proxy.accepted() - 1;
    assert!((1..=12).contains(&tried) && calls > 20, "{tried} connections for {calls} calls");

    proxy.lead_to(new.port());
    recovers(&limiter, Duration::from_secs(5));
    let connected = proxy.accepted();
    for _ in 0..100 {
        limiter.check("k", 1).expect("the new master answers");
    }
    assert_eq!(proxy.accepted(), connected, "the connection stays");

    // A replica that has lost its master and serves nothing is left too, if that lasts.
    command(&old, &["REPLICAOF", "NO", "ONE"]);
    demote(&new, &old);
    command(&new, &["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    command(&new, &["REPLICAOF", "127.0.0.1", "1"]);
    let error = limiter.check("k", 1).expect_err("a replica without a master");
    assert!(error.to_string().contains("Link with MASTER is down"), "{error}");
    proxy.lead_to(old.port());
    recovers(&limiter, Duration::from_secs(5));
    new.stop();
    assert!(limiter.check("k", 1).expect("the other server").allowed);
}

/// The server closes idle connections. What gives tokens back is then sent over a new one, because it
/// is known not to have been sent.
#[test]
fn an_idle_connection_that_was_closed_is_replaced_before_anything_is_sent() {
    let server = RedisServer::start_with(&["--timeout", "1"]);
    let limiter = limiter(&server.url(), "1000/36500d window", Duration::from_secs(5));
    // The connection that looks is never idle.
    let mut looking = server.connect();
    let mut is_closed = || {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let list: String =
                redis::cmd("CLIENT").arg("LIST").query(&mut looking).expect("the clients");
            if list.lines().count() == 1 {
                return;
            }
            assert!(Instant::now() < deadline, "{list}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for _ in 0..2 {
        let reserved = limiter.reserve("m", 400, None).expect("an answer");
        is_closed();
        assert_eq!(reserved.settle(100).expect("settled").remaining, 900);
        is_closed();
        assert_eq!(limiter.credit("m", 100).expect("credited").remaining, 1000);
    }
}

/// A server that answers everything with these words.
fn answering(words: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("the port").port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                while let Ok(1..) = client.read(&mut asked) {
                    if client.write_all(words.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

/// The port of a server that says nothing, and does this with each connection.
fn taking(connection: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("the port").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(connection));
    port
}

/// Every error says in one line which server it is about, and what the likely cause is.
#[test]
fn errors_name_the_server_and_the_likely_cause() {
    let server = RedisServer::start();
    let port = server.port();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let unused = free.local_addr().expect("the port").port();
    drop(free);
    let (http, no_auth, moved) = (
        answering("HTTP/1.1 400 Bad Request\r\n\r\n"),
        answering("-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"),
        answering("-MOVED 7 127.0.0.1:7001\r\n-MOVED 7 127.0.0.1:7001\r\n"),
    );
    let (silent, closing) = (taking(core::mem::forget), taking(drop));
    for (url, port, cause) in [
        (format!("redis://127.0.0.1:{unused}"), unused, "no server listens there"),
        (format!("redis://ann:wrong@127.0.0.1:{port}"), port, "the user and the password"),
        (format!("redis://127.0.0.1:{http}"), http, "does not speak the protocol of Redis"),
        (format!("rediss://127.0.0.1:{http}"), http, "does not speak TLS"),
        (format!("rediss://127.0.0.1:{silent}"), silent, "a port without TLS needs redis://"),
        (format!("redis://127.0.0.1:{closing}"), closing, "a port for TLS needs rediss://"),
        (format!("redis://127.0.0.1:{no_auth}"), no_auth, "the user and the password"),
        (format!("redis://127.0.0.1:{moved}"), moved, "redis+cluster://"),
    ] {
        let error = limiter(&url, "10/d", Duration::from_secs(2)).check("k", 1);
        let text = error.expect_err("no answer").to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
        assert!(text.contains(cause) && text.lines().count() == 1, "{text}");
        assert!(!text.contains("wrong"), "{text}");
    }
}
