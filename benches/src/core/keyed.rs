//! Benchmarks of buckets by key, each contender with its own default clock.

use core::hint::black_box;
use core::num::NonZeroU32;
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use governor::{DefaultKeyedRateLimiter, RateLimiter};
use tidegate::{Clock, Limiter, MonotonicClock};

use crate::harness::{Contender, Effort, compare, compare_by, quantile, report};
use crate::peers::{Bare, quota};

/// The limit is so slow and its burst so large that buckets owe something for the whole run, so
/// they are live, and yet never refuse. Each starts half spent, which takes half an hour to refill.
const LIMIT: &str = "1000000/h";
pub(crate) const HALF: u32 = BURST / 2;
/// The keys of the largest case.
const MAX_KEYS: usize = 10_000_000;
const WIDTH: u64 = 3_600_000;
const BURST: u32 = 1_000_000;
const BARE: Bare = Bare { width: WIDTH, span: WIDTH * BURST as u64 };

pub(crate) fn run(effort: Effort) {
    let sizes: &[usize] = match effort {
        Effort::Quick => &[100, 1_000],
        Effort::Normal => &[100, 100_000],
        Effort::Full => &[100, 100_000, 10_000_000],
    };
    for &size in sizes {
        check(effort, size);
        many(effort, size);
        shared(effort, size);
    }
    inserting(effort);
}

/// Runs only the cases with this many keys.
pub(crate) fn run_one(keys: &str) -> ExitCode {
    let Ok(size) = keys.parse() else { return ExitCode::from(2) };
    check(Effort::Full, size);
    many(Effort::Full, size);
    shared(Effort::Full, size);
    ExitCode::SUCCESS
}

/// Measures the cost of a second limit: the peer is our limiter with one.
pub(crate) fn two_limits(effort: Effort) {
    let two = Limiter::builder().limit(LIMIT).limit("1000000000/d").max_keys(MAX_KEYS).build();
    let (one, Ok(two)) = (ours(), two) else { return };
    let keys = shuffled(100);
    for key in &keys {
        _ = (one.check(key, u64::from(HALF)), two.check(key, u64::from(HALF)));
    }
    compare(
        effort,
        "keyed, 100 keys, 2 limits",
        vec![
            calls("ours", &keys, |key| two.check(key, 1).is_ok_and(|it| it.allowed)),
            calls("ours, 1 limit", &keys, |key| one.check(key, 1).is_ok_and(|it| it.allowed)),
        ],
    );
}

fn check(effort: Effort, size: usize) {
    let (limiter, peer, map) = (ours(), governors(), Mutex::new(HashMap::new()));
    let clock = MonotonicClock::new();
    let half = half();
    for number in 0..size {
        let key = key(number);
        _ = limiter.check(&key, u64::from(HALF));
        _ = peer.check_key_n(&key, half);
        BARE.lock_map(&map, &key, Clock::now(&clock));
    }
    let keys = shuffled(size);
    let name = format!("keyed, {size} keys");
    compare(
        effort,
        &name,
        vec![
            calls("ours", &keys, |key| limiter.check(key, 1).is_ok_and(|it| it.allowed)),
            calls("governor (DashMap)", &keys, |key| peer.check_key(key).is_ok()),
            calls("mutex, HashMap", &keys, |key| BARE.lock_map(&map, key, Clock::now(&clock))),
        ],
    );
    if size < 1_000 {
        return;
    }
    compare(
        effort,
        &format!("{name}, 2 threads"),
        vec![
            on_two("ours", &keys, |key| limiter.check(key, 1).is_ok_and(|it| it.allowed)),
            on_two("governor (DashMap)", &keys, |key| peer.check_key(key).is_ok()),
            on_two("mutex, HashMap", &keys, |key| BARE.lock_map(&map, key, Clock::now(&clock))),
        ],
    );
}

/// Checks of 64 keys in one call, per key, against the peer's single calls.
fn many(effort: Effort, size: usize) {
    const MANY: usize = 64;
    let (limiter, peer) = (ours(), governors());
    let half = half();
    for number in 0..size {
        let key = key(number);
        _ = limiter.check(&key, u64::from(HALF));
        _ = peer.check_key_n(&key, half);
    }
    let keys = shuffled(size);
    let (mut batches, mut singles) = (keys.chunks(MANY).cycle(), keys.chunks(MANY).cycle());
    compare_by(
        effort,
        &format!("check_many of {MANY}, {size} keys"),
        MANY.min(size),
        vec![
            Contender::new("ours", move || {
                let batch = batches.next().unwrap_or_default();
                let checks = batch.iter().map(|key| (key, 1));
                _ = black_box(limiter.check_many(checks).is_ok());
            }),
            Contender::new("governor, one by one", move || {
                for key in singles.next().unwrap_or_default() {
                    _ = black_box(peer.check_key(key).is_ok());
                }
            }),
        ],
    );
}

/// Measures the cost of sharing buckets with other processes: the peer is our limiter in memory.
fn shared(effort: Effort, size: usize) {
    // All slots of shared memory exist from the start. Their number is at least the default.
    let max_keys = size.max(100_000);
    let url = format!("shm://tidegate-bench-{}?max_keys={max_keys}", std::process::id());
    let Ok(shared) = Limiter::builder().limit(LIMIT).store_url(&url).build() else {
        println!("shared memory: this system has none");
        return;
    };
    let memory = ours();
    for number in 0..size {
        let key = key(number);
        _ = (shared.check(&key, u64::from(HALF)), memory.check(&key, u64::from(HALF)));
    }
    let keys = shuffled(size);
    compare(
        effort,
        &format!("shm, {size} keys"),
        vec![
            calls("ours", &keys, |key| shared.check(key, 1).is_ok_and(|it| it.allowed)),
            calls("ours, memory", &keys, |key| memory.check(key, 1).is_ok_and(|it| it.allowed)),
        ],
    );
}

/// Measures the slowest call while a million keys arrive, and how many calls take more than 50 µs.
/// The figures are those of the best of several rounds, because interruptions come from elsewhere.
fn inserting(effort: Effort) {
    let (size, rounds) = if effort == Effort::Quick { (20_000, 1) } else { (1_000_000, 5) };
    let keys: Vec<String> = (0..size).map(key).collect();
    let half = half();
    let (mut worst, mut slow) = ([const { Vec::new() }; 4], [const { Vec::new() }; 4]);
    for _ in 0..rounds {
        let (limiter, peer, map) = (ours(), governors(), Mutex::new(HashMap::new()));
        let clock = MonotonicClock::new();
        let stalls = [
            stalls(&keys, |key| limiter.check(key, u64::from(HALF)).is_ok()),
            stalls(&keys, |key| peer.check_key_n(key, half).is_ok()),
            stalls(&keys, |key| BARE.lock_map(&map, key, Clock::now(&clock))),
            // The machine's own interruptions, measured for about the time that our calls take.
            stalls(&keys, |_| (0..40).all(|_| black_box(Clock::now(&clock)) > 0)),
        ];
        for (which, (longest, count)) in stalls.into_iter().enumerate() {
            worst[which].push(longest);
            slow[which].push(count);
        }
    }
    for (peer, name) in [(1, "governor (DashMap)"), (2, "mutex, HashMap"), (3, "no call at all")] {
        let (ours, theirs) = (quantile(&worst[0], 0.0), quantile(&worst[peer], 0.0));
        report("worst call, 1M keys arriving", "us", ours, theirs, name, vec![theirs / ours]);
        let (ours, theirs) = (quantile(&slow[0], 0.0), quantile(&slow[peer], 0.0));
        // One is added on both sides, so that no slow call at all gives a ratio too.
        let ratio = (theirs + 1.0) / (ours + 1.0);
        report("calls over 50 us, 1M keys arriving", "calls", ours, theirs, name, vec![ratio]);
    }
}

/// The time of the slowest call in microseconds, and the number of calls over 50 µs.
fn stalls(keys: &[String], check: impl Fn(&String) -> bool) -> (f64, f64) {
    let (mut longest, mut slow) = (0.0_f64, 0);
    for key in keys {
        let start = Instant::now();
        _ = black_box(check(key));
        let micros = start.elapsed().as_nanos() as f64 / 1_000.0;
        longest = longest.max(micros);
        slow += u32::from(micros > 50.0);
    }
    (longest, f64::from(slow))
}

fn calls<'a>(
    name: &'static str,
    keys: &'a [String],
    check: impl Fn(&String) -> bool + 'a,
) -> Contender<'a> {
    let mut keys = keys.iter().cycle();
    Contender::new(name, move || _ = black_box(keys.next().is_some_and(&check)))
}

/// A contender of two threads, each of which starts at another key.
fn on_two<'a>(
    name: &'static str,
    keys: &'a [String],
    check: impl Fn(&String) -> bool + Sync + Copy + 'a,
) -> Contender<'a> {
    Contender::on_threads(name, 2, move |thread| {
        let mut keys = keys.iter().cycle().skip(thread * keys.len() / 2);
        move || _ = black_box(keys.next().is_some_and(check))
    })
}

/// [`HALF`] in governor's type.
pub(crate) fn half() -> NonZeroU32 {
    NonZeroU32::new(HALF).unwrap_or(NonZeroU32::MIN)
}

#[allow(clippy::expect_used, reason = "the benchmarks' own constants")]
pub(crate) fn ours() -> Limiter {
    Limiter::builder().limit(LIMIT).max_keys(MAX_KEYS).build().expect("a valid limit")
}

pub(crate) fn governors() -> DefaultKeyedRateLimiter<String> {
    RateLimiter::dashmap(quota(WIDTH, BURST))
}

/// A key of 15 bytes, like the name of a user or an address.
pub(crate) fn key(number: usize) -> String {
    format!("user:{number:010}")
}

/// The keys in an order in which no store has seen them, so that neighbours in memory are not asked
/// for one after the other. The strings themselves are in that order, so that reading them costs
/// little.
fn shuffled(size: usize) -> Vec<String> {
    let mut numbers: Vec<usize> = (0..size).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..size).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(last, (state % (last as u64 + 1)) as usize);
    }
    numbers.into_iter().map(key).collect()
}
