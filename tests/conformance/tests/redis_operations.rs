//! Every operation on the shared buckets of a real Redis, by several clients.

use std::time::Duration;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tidegate::{Decision, Limit, Limiter, Reservation, Source};
use tidegate_conformance::redis_server::RedisServer;
use tidegate_core::{Cells, Operation, Outcome, Reserved, apply};

/// The next step of this limit is in 2069, so no test meets one.
const NEVER_REFILLS: &str = "60/36500d window";

const KEY: &[u8] = b"k";

fn client(server: &RedisServer, limits: &[&str]) -> Limiter {
    let builder =
        Limiter::builder().store_url(&server.url()).store_timeout(Duration::from_secs(10));
    // Clients with other limits share the buckets on purpose.
    let builder = builder.prefix("tidegate");
    // Tokens that another client gives back must be seen at once.
    let builder = builder.deny_cache(Duration::ZERO);
    limits.iter().fold(builder, |builder, limit| builder.limit(limit)).build().expect("a limiter")
}

/// Two clients in turns change the bucket in Redis like one bucket in this process.
#[test]
fn interleaved_clients_share_one_bucket() {
    let server = RedisServer::start();
    let clients = [client(&server, &[NEVER_REFILLS]), client(&server, &[NEVER_REFILLS])];
    let limits = [Limit::parse(NEVER_REFILLS).expect("a limit")];
    let mut cells = Cells::default();
    let mut at_once = |operation| apply(&limits, &mut cells, 1, operation).expect("an outcome");
    let mut slots: Vec<(Reservation, tidegate_core::Reservation)> = Vec::new();
    let mut cancelled = [0, 0];

    let calls = (0..2usize, 0..8u8, 0..9u64, 0..9u64);
    let mut runner = TestRunner::deterministic();
    for turn in 0..1_000 {
        let call = calls.new_tree(&mut runner).expect("a call").current();
        let (who, what, some, more) = call;
        let place = format!("turn {turn}: {call:?}");
        let client = &clients[who];
        let (got, expected) = match what {
            0 => (client.check(KEY, some), at_once(Operation::Check { cost: some.into() })),
            1..4 => {
                let far = more > 2;
                let got = client.reserve(KEY, some, if far { None } else { Some(Duration::ZERO) });
                let got = got.expect("a reservation");
                let max_wait = if far { u64::MAX } else { 0 };
                match at_once(Operation::Reserve { cost: some.into(), max_wait, min_wait: 0 }) {
                    Outcome::Reserved(Reserved::Slot(slot)) => {
                        same(&place, got.decision(), &slot.decision);
                        assert!(got.allowed(), "{place}");
                        slots.push((got, slot));
                    }
                    Outcome::Reserved(Reserved::TooFar(decision)) => {
                        same(&place, got.decision(), &decision);
                        assert!(!got.allowed(), "{place}");
                    }
                    other => panic!("{place}: {other:?}"),
                }
                continue;
            }
            4 if slots.is_empty() => continue,
            4 => {
                // Most often the last reservation, whichever client made it.
                let index = slots.len() - 1 - (some / 5) as usize % slots.len();
                let (got, slot) = slots.remove(index);
                let got = got.cancel().expect("an answer");
                let expected = at_once(Operation::Cancel(slot.charge));
                assert_eq!(Outcome::Cancelled(got), expected, "{place}");
                cancelled[usize::from(got)] += 1;
                continue;
            }
            5 => (
                client.settle(KEY, some, more),
                at_once(Operation::Settle { charged: some.into(), actual: more.into() }),
            ),
            6 => (
                client.credit(KEY, 5 * some),
                at_once(Operation::Credit { tokens: (5 * some).into() }),
            ),
            _ if some > 0 => {
                (client.credit(KEY, 0), at_once(Operation::Credit { tokens: 0.into() }))
            }
            _ => (client.reset(KEY), at_once(Operation::Reset)),
        };
        let Outcome::Decision(expected) = expected else { panic!("{place}: {expected:?}") };
        same(&place, &got.expect("a decision"), &expected);
    }
    assert!(cancelled.iter().all(|&count| count > 10), "{cancelled:?}");
}

/// Compares all fields but the times, which come from different clocks.
fn same(place: &str, got: &Decision, expected: &Decision) {
    assert_eq!(got.source, Source::Redis, "{place}");
    let fields =
        |decision: &Decision| (decision.allowed, decision.limit, decision.remaining, decision.tier);
    assert_eq!(fields(got), fields(expected), "{place}");
}

/// In whatever order the calls of racing clients come, every token is accounted for.
#[test]
fn racing_clients_lose_and_mint_nothing() {
    let server = RedisServer::start();
    let race = || {
        let client = client(&server, &[NEVER_REFILLS]);
        let mut spent = 0;
        for turn in 0..200 {
            let slot = client.reserve(KEY, 1, Some(Duration::ZERO)).expect("an answer");
            match turn % 4 {
                _ if !slot.allowed() => {}
                0 => spent += 1,
                1 => spent += u64::from(!slot.cancel().expect("an answer")),
                2 => {
                    slot.settle(0).expect("an answer");
                }
                _ => {
                    client.credit(KEY, 1).expect("an answer");
                }
            }
        }
        spent
    };
    let spent: u64 = std::thread::scope(|scope| {
        let racing = [scope.spawn(race), scope.spawn(race), scope.spawn(race)];
        racing.into_iter().map(|racer| racer.join().expect("no panic")).sum()
    });
    let left = client(&server, &[NEVER_REFILLS]).check(KEY, 0).expect("a decision").remaining;
    assert_eq!(spent + left, 60);
}

/// The buckets of a user and an organisation are charged together or not at all, and each has a key
/// of its own.
#[test]
fn a_key_per_limit_is_charged_together_or_not_at_all() {
    let server = RedisServer::start();
    let limiter = client(&server, &["10/36500d window", "15/36500d window"]);
    let keys = |user: &'static [u8]| [user, b"org".as_slice()];
    let check = |user, cost| limiter.check(&keys(user)[..], cost).expect("a decision");
    assert!(check(b"ann", 10).allowed);
    let refused = check(b"bob", 6);
    assert!(!refused.allowed && refused.tier == 1 && refused.remaining == 5, "{refused:?}");
    assert_eq!(stored(&server).len(), 2, "a refusal writes nothing");
    assert!(check(b"bob", 5).allowed);
    let slot = limiter.reserve(&keys(b"cid")[..], 1, None).expect("an answer");
    assert!(slot.allowed() && slot.delay() > Duration::from_secs(86_400));
    assert_eq!(stored(&server).len(), 4);
    assert!(slot.cancel().expect("an answer"));
    assert_eq!(limiter.reset(&keys(b"ann")[..]).expect("a decision").remaining, 10);
    let both = limiter.check(&[b"org".as_slice(), b"org"][..], 1).expect("a decision");
    assert!(both.allowed, "a key's buckets of different limits are different");

    let mut connection = server.connect();
    redis::cmd("DEL").arg("tidegate:{org}:1").exec(&mut connection).expect("deleted");
    redis::cmd("LPUSH").arg("tidegate:{org}:1").arg("x").exec(&mut connection).expect("a list");
    let error = limiter.check(&keys(b"dan")[..], 1).expect_err("not a bucket");
    assert_eq!(error.code(), "corrupt_bucket");
    assert!(error.to_string().contains("tidegate:{org}:1"), "{error}");
}

/// The keys that hold something.
fn stored(server: &RedisServer) -> Vec<String> {
    redis::cmd("KEYS").arg("*").query(&mut server.connect()).expect("the keys")
}

#[test]
fn refused_and_idle_operations_write_nothing() {
    let server = RedisServer::start();
    let limiter = client(&server, &["10/36500d window"]);
    limiter.credit(KEY, 5).expect("a decision");
    limiter.reset(KEY).expect("a decision");
    limiter.settle(KEY, 3, 3).expect("a decision");
    assert!(stored(&server).is_empty(), "a full bucket has no key");
    limiter.check(KEY, 10).expect("a decision");
    let dump = || -> Vec<u8> {
        let key = &stored(&server)[0];
        redis::cmd("GET").arg(key).query(&mut server.connect()).expect("the value")
    };
    let before = dump();
    assert!(!limiter.reserve(KEY, 1, Some(Duration::from_secs(9))).expect("an answer").allowed());
    assert!(!limiter.check(KEY, 1).expect("a decision").allowed);
    limiter.hold(KEY, Duration::ZERO).expect("a decision");
    assert_eq!(dump(), before);
}

/// A hold and a debt last as long as they are owed, in keys that then expire.
#[test]
fn a_hold_pauses_the_fleet_and_goes_by_itself() {
    let server = RedisServer::start();
    let (one, other) = (client(&server, &["1000/s"]), client(&server, &["1000/s"]));
    const HOLD: Duration = Duration::from_secs(1);
    let held = one.hold(KEY, HOLD).expect("a decision");
    assert_eq!(held.remaining, 0);
    let refused = other.check(KEY, 1).expect("a decision");
    let wait = Duration::from_nanos(refused.retry_after);
    assert!(!refused.allowed && wait <= HOLD, "{refused:?}");
    std::thread::sleep(wait);
    assert!(other.check(KEY, 1).expect("a decision").allowed);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !stored(&server).is_empty() {
        assert!(std::time::Instant::now() < deadline, "the bucket stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Another client has charged the bucket under another limit between a reservation and its cancel:
/// nothing comes back, and nothing is minted.
#[test]
fn a_cancel_across_a_change_of_limits_gives_nothing_back() {
    let server = RedisServer::start();
    let old = client(&server, &["60/36500d window"]);
    let new = client(&server, &["90/36500d window"]);
    let slot = old.reserve(KEY, 20, None).expect("an answer");
    assert_eq!(new.check(KEY, 1).expect("a decision").remaining, 69);
    assert_eq!(new.credit(KEY, 1).expect("a decision").remaining, 70);
    assert!(!slot.cancel().expect("an answer"), "as many are owed as it left, elsewhere");
    assert_eq!(new.check(KEY, 0).expect("a decision").remaining, 70);
}

/// After a broken connection, operations that could give tokens twice are not sent again.
#[test]
fn giving_back_is_never_repeated() {
    let server = RedisServer::start();
    let limiter = client(&server, &[NEVER_REFILLS]);
    limiter.check(KEY, 50).expect("a decision");
    let break_it = || {
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        redis::cmd("CLIENT").arg(&kill).exec(&mut server.connect()).expect("killed");
    };
    let mut back = 0;
    for _ in 0..20 {
        break_it();
        back += u64::from(limiter.credit(KEY, 1).is_ok());
        limiter.check(KEY, 0).expect("looking is repeated");
    }
    // Each answered operation gave back once, and each that broke at most once.
    let remaining = limiter.check(KEY, 0).expect("a decision").remaining;
    assert!((10 + back..=30).contains(&remaining), "{back} answered, {remaining} left");
}
