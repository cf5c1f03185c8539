//! Group commit and the deny cache on a real Redis: fewer round trips, the same answers.

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate::{Decision, Error, Limiter, Operation, Outcome};
use tidegate_conformance::redis_server::RedisServer;

/// The next step of this limit is in 2069, so no test meets one.
const NEVER_REFILLS: &str = "1000/36500d window";

fn limiter(server: &RedisServer, limit: &str) -> Limiter {
    limiter_of(server, limit, Duration::ZERO)
}

fn limiter_of(server: &RedisServer, limit: &str, deny_cache: Duration) -> Limiter {
    Limiter::builder()
        .limit(limit)
        .store_url(&server.url())
        .store_timeout(Duration::from_secs(10))
        .deny_cache(deny_cache)
        .build()
        .expect("a limiter")
}

/// The number of script calls that the server has run.
fn calls(server: &RedisServer) -> u64 {
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query(&mut server.connect()).expect("INFO");
    let calls_of = |command: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().expect("a count"))
    };
    calls_of("evalsha") + calls_of("eval")
}

fn decision(outcome: Result<Outcome, Error>) -> Decision {
    match outcome.expect("an outcome") {
        Outcome::Decision(decision) => decision.into(),
        other => panic!("{other:?}"),
    }
}

/// Many checks at once share few round trips, and have the answers of some order one after the
/// other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_checks_share_round_trips_and_stay_exact() {
    const CALLERS: u64 = 100;
    const ROUNDS: u64 = 30;
    let server = RedisServer::start();
    let limiter = limiter(&server, NEVER_REFILLS);
    limiter.check_async("warm", 1).await.expect("a decision");
    let before = calls(&server);
    let answers: Arc<Mutex<Vec<(u64, Decision)>>> = Arc::default();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (limiter, answers) = (limiter.clone(), Arc::clone(&answers));
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let cost = 1 + (caller + round) % 3;
                    let answer = limiter.check_async("hot", cost).await.expect("a decision");
                    answers.lock().push((cost, answer));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller");
    }
    let round_trips = calls(&server) - before;
    let checks = CALLERS * ROUNDS;
    assert!(round_trips * 20 <= checks, "{round_trips} round trips for {checks} checks");

    // Sorted by the tokens that were left, each check has spent from what the one before had left.
    let mut answers = Arc::into_inner(answers).expect("all are done").into_inner();
    answers.sort_by_key(|(_, answer)| core::cmp::Reverse(answer.remaining));
    let mut left = 1000;
    for (cost, answer) in answers.iter().filter(|(_, answer)| answer.allowed) {
        left -= cost;
        assert_eq!(answer.remaining, left);
    }
    assert_eq!(left, 0, "checks of 1 spend the last token");
    for (cost, answer) in answers.iter().filter(|(_, answer)| !answer.allowed) {
        assert!(answer.remaining < *cost, "{cost} was refused with {} left", answer.remaining);
    }
}

/// Operations that one caller asks for without waiting are done in that order.
#[test]
fn operations_of_one_caller_keep_their_order() {
    let server = RedisServer::start();
    let limiter = limiter(&server, NEVER_REFILLS);
    let answers: Arc<Mutex<Vec<Decision>>> = Arc::default();
    let asked = AtomicU64::new(0);
    let ask = |operation: Operation| {
        asked.fetch_add(1, Ordering::Relaxed);
        let answers = Arc::clone(&answers);
        limiter.run("k", operation, move |outcome| answers.lock().push(decision(outcome)));
    };
    for _ in 0..50 {
        ask(Operation::Peek { cost: 1000.into() });
        ask(Operation::Check { cost: 1000.into() });
        ask(Operation::Peek { cost: 1.into() });
        ask(Operation::Check { cost: 1.into() });
        ask(Operation::Credit { tokens: 2.into() });
        ask(Operation::Check { cost: 1.into() });
        ask(Operation::Peek { cost: 2.into() });
        ask(Operation::Check { cost: 1.into() });
        ask(Operation::Check { cost: 1.into() });
        ask(Operation::Reset);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while (answers.lock().len() as u64) < asked.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "an answer is missing");
        std::thread::sleep(Duration::from_millis(1));
    }
    let allowed = |decision: &Decision| decision.allowed;
    for round in answers.lock().chunks(10) {
        let round: Vec<bool> = round.iter().map(allowed).collect();
        let expected = [true, true, false, false, true, true, false, true, false, true];
        assert_eq!(round, expected);
    }
}

/// A fake server whose scripts end, in order, when the test says so.
struct Scripted {
    listener: TcpListener,
    /// The number of keys of each call that has come.
    calls: Receiver<usize>,
    sender: Sender<usize>,
}

impl Scripted {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let (sender, calls) = channel();
        Self { listener, calls, sender }
    }

    fn url(&self) -> String {
        format!("redis://{}/", self.listener.local_addr().expect("its address"))
    }

    /// Waits for the client's connection.
    fn accept(&self) -> TcpStream {
        let (connection, _) = self.listener.accept().expect("a client");
        let (mut answers, sender) = (connection.try_clone().expect("a clone"), self.sender.clone());
        let mut commands = BufReader::new(connection.try_clone().expect("a clone"));
        std::thread::spawn(move || {
            while let Some(words) = command(&mut commands) {
                match (&*words[0], words.get(2)) {
                    ("EVAL" | "EVALSHA", Some(keys)) => {
                        let _ = sender.send(keys.parse().expect("how many keys"));
                    }
                    _ => answers.write_all(b"+OK\r\n").expect("a client"),
                }
            }
        });
        connection
    }

    /// Waits for the next call and answers how many keys it has.
    fn next_call(&self) -> usize {
        self.calls.recv_timeout(Duration::from_secs(10)).expect("a call")
    }
}

/// Reads the words of the next command.
fn command(commands: &mut impl std::io::BufRead) -> Option<Vec<String>> {
    let mut number = |sign| {
        let mut line = String::new();
        commands.read_line(&mut line).ok()?;
        let number: usize = line.strip_prefix(sign)?.trim_end().parse().ok()?;
        let mut word = vec![0; if sign == '$' { number + 2 } else { 0 }];
        commands.read_exact(&mut word).ok()?;
        Some((number, String::from_utf8_lossy(&word).trim_end().to_owned()))
    };
    let (words, _) = number('*')?;
    (0..words).map(|_| number('$').map(|(_, word)| word)).collect()
}

/// A call is sent at once while there is at most one batch in flight. Calls that find two wait
/// until one of these is answered, and then form one batch.
#[test]
fn two_batches_are_in_flight_and_no_more() {
    let server = Scripted::start();
    let limiter = Limiter::builder()
        .limit(NEVER_REFILLS)
        .store_url(&server.url())
        .store_timeout(Duration::from_secs(10))
        .build()
        .expect("a limiter");
    let (answered, answers) = channel();
    let ask = |key: &str| {
        let answered = answered.clone();
        limiter.check_then(key, 1, move |answer: Result<Decision, Error>| {
            let _ = answered.send(answer.expect("a decision").allowed);
        });
    };
    ask("first");
    let mut connection = server.accept();
    let mut answer = |keys| {
        let now = "*{}\r\n$10\r\n1764000000\r\n$1\r\n0\r\n".replace("{}", &format!("{}", 2 + keys));
        let bytes = now + &"$-1\r\n".repeat(keys);
        connection.write_all(bytes.as_bytes()).expect("a client");
    };
    assert_eq!(server.next_call(), 1);
    ask("second");
    assert_eq!(server.next_call(), 1);
    ask("third");
    let third = server.calls.recv_timeout(Duration::from_millis(200));
    assert!(third.is_err(), "it does not wait until one of the two is answered");
    ask("fourth");
    answer(1);
    assert_eq!(server.next_call(), 2, "the third and the fourth");
    answer(1);
    answer(2);
    for _ in 0..4 {
        assert!(answers.recv_timeout(Duration::from_secs(10)).expect("an answer"));
    }
}

/// A call may check one key many times; the checks are done in order.
#[test]
fn checks_of_one_call_are_one_round_trip() {
    let server = RedisServer::start();
    let limiter = limiter(&server, NEVER_REFILLS);
    limiter.check("warm", 1).expect("a decision");
    let before = calls(&server);
    let checks = (0..300).map(|number| (if number % 3 == 0 { "a" } else { "b" }, 1 + number % 7));
    let decisions = limiter.check_many(checks.clone()).expect("decisions");
    assert_eq!(calls(&server) - before, 1);
    let mut left = [1000, 1000];
    for ((key, cost), decision) in checks.zip(decisions) {
        let left = &mut left[usize::from(key == "b")];
        *left -= if decision.allowed { cost } else { 0 };
        assert_eq!(decision.remaining, *left);
    }
}

/// A frozen server costs each caller its timeout, counted from its own call, whether its request is
/// in flight or waiting.
#[test]
fn every_caller_waits_for_its_own_timeout() {
    let server = RedisServer::start();
    let limiter = Limiter::builder()
        .limit(NEVER_REFILLS)
        .store_url(&server.url())
        .store_timeout(Duration::from_millis(200))
        .build()
        .expect("a limiter");
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = limiter.check("k", 1) {
        assert!(Instant::now() < deadline, "{error}");
    }
    server.freeze();
    type Late = Mutex<Vec<(Duration, Result<Decision, Error>)>>;
    let late: Arc<Late> = Arc::default();
    let mut asked = Vec::new();
    for _ in 0..50 {
        let (late, start) = (Arc::clone(&late), Instant::now());
        asked.push(start);
        limiter.check_then("k", 1, move |answer| late.lock().push((start.elapsed(), answer)));
        std::thread::sleep(Duration::from_millis(1));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while late.lock().len() < asked.len() {
        assert!(Instant::now() < deadline, "an answer is missing");
        std::thread::sleep(Duration::from_millis(1));
    }
    server.thaw();
    for (took, answer) in late.lock().iter() {
        assert_eq!(answer.as_ref().expect_err("frozen").code(), "store_timeout");
        assert!(*took >= Duration::from_millis(199), "given up after {took:?}");
    }
    // On a busy machine threads run late; a caller that waited for another's timeout too would be
    // late by 200 ms.
    let late = late.lock().iter().map(|(took, _)| *took).min().expect("answers");
    assert!(late < Duration::from_millis(300), "the quickest took {late:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = limiter.check("k", 0) {
        assert!(Instant::now() < deadline, "{error}");
    }
}

/// A refused key is refused again without a round trip until its time, unless the refusal no longer
/// holds.
#[test]
fn refusals_are_kept_and_given_up_in_time() {
    let server = RedisServer::start();
    const TOKEN: u64 = 500_000_000;
    let keeping = limiter_of(&server, "2/s burst 10", Duration::from_secs(60));
    assert!(keeping.check("k", 10).expect("a decision").allowed);
    let refused = keeping.check("k", 2).expect("a decision");
    assert!(!refused.allowed && refused.retry_after > 0);
    let before = calls(&server);
    let (mut last, mut asked) = (refused.retry_after, 0);
    let until = Instant::now() + Duration::from_nanos(refused.retry_after) / 2;
    while Instant::now() < until {
        let again = keeping.check("k", 3).expect("a decision");
        assert!(!again.allowed && again.limit == 10, "{again:?}");
        // A larger cost waits for one token more. Both waits get shorter with time.
        assert!(again.retry_after <= last + TOKEN, "{} after {last}", again.retry_after);
        last = again.retry_after - TOKEN;
        asked += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(asked > 10 && calls(&server) == before, "{asked} checks");
    // A peek is refused as a check is. A cost of 0 always asks the server, and so does a check that
    // could be allowed by now.
    let peeked = keeping.peek("k", 3).expect("a decision");
    assert!(!peeked.allowed && peeked.retry_after <= last + TOKEN, "{peeked:?}");
    assert_eq!(calls(&server), before);
    keeping.check("k", 0).expect("a decision");
    assert_eq!(calls(&server), before + 1);
    std::thread::sleep(Duration::from_nanos(refused.retry_after));
    assert!(keeping.check("k", 2).expect("a decision").allowed);

    // What a peek has been refused is remembered for checks too.
    assert!(keeping.check("other", 10).expect("a decision").allowed);
    let before = calls(&server);
    assert!(!keeping.peek("other", 9).expect("a decision").allowed);
    assert!(!keeping.check("other", 9).expect("a decision").allowed);
    assert_eq!(calls(&server), before + 1);

    // Tokens that this process gives back are known at once.
    assert!(!keeping.check("k", 10).expect("a decision").allowed);
    keeping.credit("k", 10).expect("a decision");
    assert!(keeping.check("k", 10).expect("a decision").allowed);
    assert!(!keeping.check("k", 10).expect("a decision").allowed);
    keeping.reset("k").expect("a decision");
    assert!(keeping.check("k", 10).expect("a decision").allowed);
}

/// Tokens that another process gives back are seen once the refusal is no longer kept.
#[test]
fn a_refusal_is_kept_no_longer_than_configured() {
    const KEPT: Duration = Duration::from_secs(1);
    let server = RedisServer::start();
    let keeping = limiter_of(&server, NEVER_REFILLS, KEPT);
    // With another timeout it is on a store of its own, as another process is.
    let other = Limiter::builder().limit(NEVER_REFILLS).store_url(&server.url());
    let other = other.store_timeout(Duration::from_secs(11)).build().expect("a limiter");
    assert!(keeping.check("k", 1000).expect("a decision").allowed);
    let asked = Instant::now();
    assert!(!keeping.check("k", 1).expect("a decision").allowed);
    let answered = Instant::now();
    other.reset("k").expect("a decision");
    let mut kept = 0;
    loop {
        let before = answered.elapsed();
        if keeping.check("k", 1).expect("a decision").allowed {
            break;
        }
        assert!(before < KEPT, "refused after {before:?}");
        kept += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(kept > 0 && asked.elapsed() >= KEPT, "{kept} refusals in {:?}", asked.elapsed());
}
