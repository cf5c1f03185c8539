//! Benchmarks of a single bucket without a key.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use governor::RateLimiter;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use tidegate::{Bucket, Clock, Error, FastClock, Limit, ManualClock, MonotonicClock};

use crate::harness::{Contender, Effort, compare};
use crate::peers::{Bare, GivenClock, NOW, quota};

/// The given time moves after this many calls, by the time that pays for them.
const BATCH: u64 = 1_024;

#[derive(Clone, Copy)]
struct Rate {
    text: &'static str,
    width: u64,
    burst: u32,
}

/// Never refuses while the given time moves as fast as calls are made.
const GIVEN: Rate = Rate { text: "1000000/s", width: 1_000, burst: 1_000_000 };
/// Never refuses, because no caller is this fast.
const NEVER_REFUSES: Rate = Rate { text: "500000000/s", width: 2, burst: 500_000_000 };
/// Refuses all calls but the first.
const REFUSES: Rate = Rate { text: "1/d", width: 86_400_000_000_000, burst: 1 };

impl Rate {
    #[allow(clippy::expect_used, reason = "the benchmarks' own constants")]
    fn bucket(self) -> Bucket {
        Bucket::new(self.text).expect("a valid limit")
    }

    #[allow(clippy::expect_used, reason = "the benchmarks' own constants")]
    fn limit(self) -> Limit {
        Limit::parse(self.text).expect("a valid limit")
    }

    fn bare(self) -> Bare {
        Bare { width: self.width, span: self.width * u64::from(self.burst) }
    }

    fn quota(self) -> governor::Quota {
        quota(self.width, self.burst)
    }
}

pub(crate) fn run(effort: Effort) {
    clocks(effort);
    given(effort, "direct, allow, clock given", GIVEN);
    given(effort, "direct, deny, clock given", REFUSES);
    whole_answer(effort, "direct, allow, clock given, whole answer", GIVEN);
    whole_answer(effort, "direct, deny, clock given, whole answer", REFUSES);
    default_clocks(effort, "direct, allow, default clocks", NEVER_REFUSES);
    default_clocks(effort, "direct, deny, default clocks", REFUSES);
    two_threads(effort);
}

fn clocks(effort: Effort) {
    let (fast, monotonic, peer) =
        (FastClock::new(), MonotonicClock::new(), DefaultClock::default());
    compare(
        effort,
        "reading the clock",
        vec![
            Contender::new("FastClock", || _ = black_box(Clock::now(&fast))),
            Contender::new("governor's (quanta)", || _ = black_box(peer.now())),
            Contender::new("MonotonicClock", || _ = black_box(Clock::now(&monotonic))),
        ],
    );
}

/// The given time, which moves on after each batch by the time that pays for it.
struct Moving {
    calls: u64,
    width: u64,
}

impl Moving {
    #[inline(always)]
    fn now(&mut self) -> u64 {
        self.calls += 1;
        if self.calls.is_multiple_of(BATCH) {
            NOW.fetch_add(BATCH * self.width, Relaxed);
        }
        NOW.load(Relaxed)
    }
}

/// Compares checks that answer yes or no, which is all that governor answers when it allows.
fn given(effort: Effort, case: &str, rate: Rate) {
    let step = if rate.burst == 1 { 0 } else { rate.width };
    let bucket = Bucket::with_clock(rate.limit(), ManualClock::new(0));
    let peer = RateLimiter::direct_with_clock(rate.quota(), GivenClock);
    let (bare, cell, locked) = (rate.bare(), AtomicU64::new(0), Mutex::new(0));
    let moving = || Moving { calls: 0, width: step };
    let (mut ours_now, mut peer_now) = (moving(), moving());
    let (mut bare_now, mut locked_now) = (moving(), moving());
    compare(
        effort,
        case,
        vec![
            Contender::new("ours", move || {
                let now = ours_now.now();
                _ = black_box(bucket.check_at(now, 1).is_ok_and(|decision| decision.allowed));
            }),
            Contender::new("governor", move || {
                peer_now.now();
                _ = black_box(peer.check().is_ok());
            }),
            Contender::new("bare compare-and-swap", move || {
                let now = bare_now.now();
                _ = black_box(bare.swap(&cell, now));
            }),
            Contender::new("mutex", move || {
                let now = locked_now.now();
                _ = black_box(rate.bare().lock(&locked, now));
            }),
        ],
    );
}

/// Compares checks that answer what a response's headers need: the remaining tokens, or the wait.
fn whole_answer(effort: Effort, case: &str, rate: Rate) {
    let step = if rate.burst == 1 { 0 } else { rate.width };
    let bucket = Bucket::with_clock(rate.limit(), ManualClock::new(0));
    let peer = RateLimiter::direct_with_clock(rate.quota(), GivenClock)
        .with_middleware::<StateInformationMiddleware>();
    let moving = || Moving { calls: 0, width: step };
    let (mut ours_now, mut peer_now) = (moving(), moving());
    compare(
        effort,
        case,
        vec![
            Contender::new("ours", move || {
                let now = ours_now.now();
                _ = black_box(bucket.check_at(now, 1).map(|it| (it.remaining, it.retry_after)));
            }),
            Contender::new("governor", move || {
                let now = peer_now.now();
                match peer.check() {
                    Ok(state) => _ = black_box(state.remaining_burst_capacity()),
                    Err(refused) => _ = black_box(refused.wait_time_from(now.into())),
                }
            }),
        ],
    );
}

fn default_clocks(effort: Effort, case: &str, rate: Rate) {
    let bucket = rate.bucket();
    let peer = RateLimiter::direct(rate.quota());
    let (bare, cell, locked) = (rate.bare(), AtomicU64::new(0), Mutex::new(0));
    let (fast, clock) = (FastClock::new(), MonotonicClock::new());
    compare(
        effort,
        case,
        vec![
            Contender::new("ours", || _ = black_box(allowed(&bucket))),
            Contender::new("governor", || _ = black_box(peer.check().is_ok())),
            Contender::new("bare, FastClock", || {
                _ = black_box(bare.swap(&cell, Clock::now(&fast)));
            }),
            Contender::new("mutex, MonotonicClock", || {
                _ = black_box(bare.lock(&locked, Clock::now(&clock)));
            }),
        ],
    );
}

fn two_threads(effort: Effort) {
    let rate = NEVER_REFUSES;
    let (bucket, peer) = (rate.bucket(), RateLimiter::direct(rate.quota()));
    let (bare, locked) = (rate.bare(), Mutex::new(0));
    let clock = MonotonicClock::new();
    compare(
        effort,
        "direct, 2 threads on one bucket",
        vec![
            Contender::on_threads("ours", 2, |_| || _ = black_box(allowed(&bucket))),
            Contender::on_threads("governor", 2, |_| || _ = black_box(peer.check().is_ok())),
            Contender::on_threads("mutex, MonotonicClock", 2, |_| {
                || _ = black_box(bare.lock(&locked, Clock::now(&clock)))
            }),
        ],
    );
    let buckets = [rate.bucket(), rate.bucket()];
    let peers = [RateLimiter::direct(rate.quota()), RateLimiter::direct(rate.quota())];
    compare(
        effort,
        "direct, 2 threads on a bucket each",
        vec![
            Contender::on_threads("ours", 2, |thread| {
                let bucket = &buckets[thread];
                move || _ = black_box(allowed(bucket))
            }),
            Contender::on_threads("governor", 2, |thread| {
                let peer = &peers[thread];
                move || _ = black_box(peer.check().is_ok())
            }),
        ],
    );
}

#[inline]
fn allowed(bucket: &Bucket) -> Result<bool, Error> {
    bucket.check(1).map(|decision| decision.allowed)
}
