//! Servers that refuse, hang or answer nonsense: each call ends in time, with an error or with the
//! answer of the limiter's policy, and no call is allowed without a decision.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::{Error, Limiter, OnStoreError, Source};
use tidegate_conformance::redis_server::RedisServer;

const TIMEOUT: Duration = Duration::from_millis(50);
/// Only a call that hangs takes this long.
const LONG: Duration = Duration::from_secs(10);

fn limiter(url: &str, timeout: Duration, on_store_error: OnStoreError) -> Limiter {
    let builder = Limiter::builder().limit("1000/d").store_url(url).store_timeout(timeout);
    builder.on_store_error(on_store_error).build().expect("a limiter")
}

/// The error of a check, after checking that the policies answer in its place.
fn refused_by(url: &str) -> String {
    let error = limiter(url, LONG, OnStoreError::Raise).check("k", 1).expect_err("refused");
    assert_eq!(error.code(), "store_error", "{error}");
    for policy in [OnStoreError::Deny, OnStoreError::Local { peers: 3 }] {
        let limiter = limiter(url, LONG, policy);
        for _ in 0..10 {
            let decision = limiter.check("k", 1).expect("the policy's answer");
            assert!(!decision.allowed && decision.source == Source::Fallback, "{decision:?}");
        }
    }
    error.to_string()
}

fn command(server: &RedisServer, words: &[&str]) {
    let mut connection = server.connect();
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut connection).expect("the command");
}

#[test]
fn a_read_only_replica() {
    let primary = RedisServer::start();
    let replica = RedisServer::start();
    let port = primary.url().trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
    command(&replica, &["REPLICAOF", "127.0.0.1", &port]);
    let deadline = Instant::now() + LONG;
    loop {
        let role: String =
            redis::cmd("INFO").arg("replication").query(&mut replica.connect()).expect("the role");
        if role.contains("master_link_status:up") {
            break;
        }
        assert!(Instant::now() < deadline, "{role}");
    }
    let told = refused_by(&replica.url());
    assert!(told.contains("read only replica"), "{told}");
}

#[test]
fn users_who_may_not() {
    let server = RedisServer::start();
    let host = server.url().replace("redis://", "");
    for (name, may, told) in [
        ("no_scripts", "+@all -@scripting", "'eval"),
        ("no_set", "+@all -set", "can't run this command"),
        ("no_time", "+@all -time", "can't run this command"),
        ("no_keys", "+@all resetkeys", "no permissions to access one of the keys"),
    ] {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">s3cret", "~*"];
        words.extend(may.split(' '));
        command(&server, &words);
        let error = refused_by(&format!("redis://{name}:s3cret@{host}"));
        assert!(error.contains(told) && !error.contains("s3cret"), "{name}: {error}");
        let error = refused_by(&format!("redis://{name}:wr0ng@{host}"));
        assert!(!error.contains("wr0ng") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn memory_used_up() {
    let server = RedisServer::start();
    command(&server, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    // With another timeout it is on a store of its own, whose breaker stays closed.
    let timeout = LONG + Duration::from_millis(1);
    let limiter = limiter(&server.url(), timeout, OnStoreError::Raise);
    assert!(limiter.check("k", 1).expect("a decision").allowed);
    command(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    let told = refused_by(&server.url());
    assert!(told.contains("OOM"), "{told}");
    command(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    assert!(limiter.check("k", 1).expect("a decision").allowed, "room again");
}

#[test]
fn a_disk_that_cannot_be_written() {
    let server = RedisServer::start_with(&["--enable-protected-configs", "yes"]);
    let folder = std::env::temp_dir().join(format!("tidegate-misconf-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    command(&server, &["CONFIG", "SET", "dir", &folder.to_string_lossy()]);
    command(&server, &["CONFIG", "SET", "save", "3600 1"]);
    std::fs::remove_dir_all(&folder).expect("no folder");
    command(&server, &["BGSAVE"]);
    let deadline = Instant::now() + LONG;
    loop {
        let saved: String =
            redis::cmd("INFO").arg("persistence").query(&mut server.connect()).expect("its state");
        if saved.contains("rdb_last_bgsave_status:err") {
            break;
        }
        assert!(Instant::now() < deadline, "{saved}");
    }
    let told = refused_by(&server.url());
    assert!(told.contains("MISCONF"), "{told}");
}

#[test]
fn a_script_that_never_ends() {
    let server = RedisServer::start();
    command(&server, &["CONFIG", "SET", "busy-reply-threshold", "1"]);
    let mut busy = server.connect();
    let looping = std::thread::spawn(move || {
        let _ = redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut busy);
    });
    let deadline = Instant::now() + LONG;
    let is_busy = || {
        let mut connection = server.connect();
        redis::cmd("GET").arg("k").exec(&mut connection).is_err_and(|e| e.code() == Some("BUSY"))
    };
    while !is_busy() {
        assert!(Instant::now() < deadline, "the server is not busy");
    }
    let told = refused_by(&server.url());
    assert!(told.contains("BUSY"), "{told}");
    command(&server, &["SCRIPT", "KILL"]);
    looping.join().expect("killed");
    let again = limiter(&server.url(), LONG, OnStoreError::Raise);
    assert!(again.check("k", 1).expect("a decision").allowed);
}

/// A value that Tidegate did not write is an error under every policy: the bucket's debt is
/// unknown, and the server does answer.
#[test]
fn values_of_others() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let key = |name: &str| format!("tidegate:{{{name}}}");
    redis::cmd("RPUSH").arg(key("list")).arg("1").exec(&mut connection).expect("a list");
    redis::cmd("HSET").arg(key("hash")).arg("a").arg("b").exec(&mut connection).expect("a hash");
    for (name, value) in
        [("text", "hello"), ("number", "17"), ("empty", ""), ("bytes", "\u{0}\u{ff}")]
    {
        redis::cmd("SET").arg(key(name)).arg(value).exec(&mut connection).expect("a text");
    }
    for policy in [OnStoreError::Raise, OnStoreError::Allow, OnStoreError::Local { peers: 3 }] {
        let limiter = limiter(&server.url(), LONG, policy);
        for name in ["list", "hash", "text", "number", "empty", "bytes"] {
            for _ in 0..6 {
                let error = limiter.check(name, 1).expect_err(name);
                assert_eq!(error, Error::CorruptBucket { key: key(name) });
            }
        }
        assert_eq!(limiter.store_health().failures, 0, "the store is well");
        assert!(limiter.check("beside", 1).expect("a decision").allowed);
    }
}

#[test]
fn any_bytes_are_a_key() {
    let server = RedisServer::start();
    let limiter = limiter(&server.url(), LONG, OnStoreError::Raise);
    let all: Vec<u8> = (0..=255).collect();
    let long: Vec<u8> = all.iter().copied().cycle().take(1024).collect();
    let longer: Vec<u8> = all.iter().copied().cycle().take(1025).collect();
    let keys: [&[u8]; 10] = [&all, &long, &longer, b"", b"%", b"\r\n", b"\0", b"}", b"{", b"%7D"];
    for key in keys {
        assert_eq!(limiter.check(key, 1).expect("a decision").remaining, 999, "{key:?}");
        assert_eq!(limiter.check(key, 1).expect("a decision").remaining, 998, "{key:?}");
    }
}

/// A fake server that answers every command with the same bytes; with none, it closes the
/// connection.
struct Answering {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Answering {
    fn with(bytes: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut serving = Vec::new();
            for connection in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    break;
                }
                serving.push(std::thread::spawn(move || answer_all(connection, bytes)));
            }
        });
        Self { address, ends, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }
}

fn answer_all(connection: std::io::Result<TcpStream>, bytes: &[u8]) {
    let Ok(mut connection) = connection else { return };
    let mut asked = [0; 4096];
    while connection.read(&mut asked).is_ok_and(|count| count > 0) {
        if bytes.is_empty() || connection.write_all(bytes).is_err() {
            return;
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        // The thread waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn servers_that_answer_nonsense() {
    let answers: [&[u8]; 21] = [
        b"",
        b"garbage\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"+OK\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*1\r\n$1\r\n1\r\n",
        b"*3\r\n$1\r\nx\r\n$1\r\ny\r\n$-1\r\n",
        b"*3\r\n$20\r\n99999999999999999999\r\n$1\r\n0\r\n$-1\r\n",
        b"*3\r\n$10\r\n1764000000\r\n$1\r\n0\r\n*0\r\n",
        b"*2\r\n$10\r\n1764000000\r\n$1\r\n0\r\n",
        b"*4\r\n$10\r\n1764000000\r\n$1\r\n0\r\n$-1\r\n$-1\r\n",
        b"$999999999999\r\nx",
        b"*2147483647\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOSCRIPT No matching script\r\n",
        b"-\r\n",
    ];
    for bytes in answers {
        let server = Answering::with(bytes);
        let raises = limiter(&server.url(), TIMEOUT, OnStoreError::Raise);
        for _ in 0..7 {
            let began = Instant::now();
            let shown = String::from_utf8_lossy(bytes);
            let answer = raises.check("k", 1);
            // An array of a time and a nil means a bucket that was never used.
            let error = answer.expect_err(&shown);
            assert!(matches!(error.code(), "store_error" | "store_timeout"), "{shown}: {error}");
            assert!(began.elapsed() < LONG, "{shown}");
        }
        let denies = limiter(&server.url(), TIMEOUT, OnStoreError::Deny);
        for _ in 0..7 {
            assert!(!denies.check("k", 1).expect("a refusal").allowed);
        }
    }
}

/// On a busy machine a thread may be woken late, and a call with it. So most calls must be on time,
/// and no call may be as late as a hang would make it.
#[test]
fn no_call_takes_longer_than_its_timeout() {
    let frozen = RedisServer::start();
    frozen.freeze();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (unreachable, _kept) = unreachable();
    let url_of = |address: SocketAddr| format!("redis://{address}/");
    let silent_url = url_of(silent.local_addr().expect("its address"));
    for (name, url) in
        [("frozen", frozen.url()), ("silent", silent_url), ("unreachable", url_of(unreachable))]
    {
        let mut late = Vec::new();
        for timeout in [TIMEOUT, 4 * TIMEOUT] {
            // Each limiter is new, so that each call connects and no breaker shortens the wait.
            let limiter = || limiter(&url, timeout, OnStoreError::Raise);
            let mut measure = |call: &dyn Fn() -> Result<(), Error>| {
                late.push(lateness(name, timeout, call));
            };
            measure(&|| limiter().check("k", 1).map(drop));
            measure(&|| limiter().acquire("k", 1, None).map(drop));
            measure(&|| limiter().check_many([("a", 1), ("a", 1), ("b", 1)]).map(drop));
            let kept = limiter();
            for _ in 0..3 {
                measure(&|| kept.check("k", 1).map(drop));
            }
        }
        late.sort();
        assert!(late[late.len() * 2 / 3] <= Duration::from_millis(10), "{name}: {late:?}");
        assert!(late.last().is_some_and(|most| *most < Duration::from_secs(1)), "{name}: {late:?}");
    }
    frozen.thaw();
}

/// How much later than its timeout a call ends, less the delay with which a thread beside it is
/// woken.
fn lateness(name: &str, timeout: Duration, call: &dyn Fn() -> Result<(), Error>) -> Duration {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stalls = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !ended.load(Ordering::Acquire) {
                let before = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                longest = longest.max(before.elapsed());
            }
            longest
        });
        let began = Instant::now();
        let error = call().expect_err("nobody answers");
        let took = began.elapsed();
        ended.store(true, Ordering::Release);
        assert_eq!(error, Error::timeout(timeout), "{name}");
        assert!(took >= timeout, "{name}: {took:?}");
        let stalled = stalls.join().expect("no panic");
        took.saturating_sub(timeout + stalled)
    })
}

/// An address whose packets are dropped, because the queue of its listener is full.
fn unreachable() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let mut waiting = Vec::new();
    loop {
        assert!(waiting.len() < 100_000, "the queue never fills");
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => return (address, (listener, waiting)),
        }
    }
}
