//! The controller before a vendor whose limit nobody knows, beside a re-implementation of botocore's
//! algorithm; and what holds of it whatever it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod controller_fleet;

use core::ops::Range;

use controller_fleet::{MILLI, Queue, Run, SECOND, Window, World};
use proptest::prelude::*;
use tidegate_core::{ControlPolicy, ControlReport, Controller};

const WINDOWS: [Window; 3] = [Window::Fixed, Window::Sliding, Window::Bucket];
const PROCESSES: [usize; 3] = [1, 10, 50];
const SEEDS: u64 = 30;

fn world(window: Window, processes: usize, seed: u64) -> World {
    let says_when = seed.is_multiple_of(2);
    World { seed, processes, window, limit: 100, later_limit: 100, seconds: 120, says_when }
}

/// The number of processes differs from seed to seed.
fn processes_of(seed: u64) -> usize {
    PROCESSES[(seed / 2 % 3) as usize]
}

/// The worst and the mean of runs.
struct Runs {
    name: &'static str,
    refused: Vec<f64>,
    used: Vec<f64>,
}

fn runs(later_limit: u64) -> Vec<Run> {
    let run = |seed| {
        let window = WINDOWS[(seed % 3) as usize];
        let world = World { later_limit, ..world(window, processes_of(seed), seed) };
        world.with_ours()
    };
    (0..SEEDS).map(run).collect()
}

impl Runs {
    fn of(name: &'static str, runs: &[Run], seconds: Range<usize>, limit: u64) -> Self {
        let refused = runs.iter().map(|run| run.refused(seconds.clone())).collect();
        let used = runs.iter().map(|run| run.used(seconds.clone(), limit)).collect();
        Self { name, refused, used }
    }

    fn keep(&self, most_refused: f64, least_used: f64, mean_refused: f64, mean_used: f64) {
        let mean = |figures: &[f64]| figures.iter().sum::<f64>() / figures.len() as f64;
        let most = self.refused.iter().copied().fold(0.0, f64::max);
        let least = self.used.iter().copied().fold(200.0, f64::min);
        let text = format!(
            "{}: refused {:.2} % (worst {most:.2}), used {:.1} % (worst {least:.1})",
            self.name,
            mean(&self.refused),
            mean(&self.used),
        );
        println!("{text}");
        assert!(most <= most_refused && least >= least_used, "{text}");
        assert!(mean(&self.refused) <= mean_refused && mean(&self.used) >= mean_used, "{text}");
    }
}

#[test]
fn an_unknown_limit_is_used_and_seldom_passed() {
    let runs = runs(100);
    Runs::of("unknown, after 20 s", &runs, 20..120, 100).keep(1.5, 95.0, 0.5, 97.0);
    Runs::of("unknown, from the first call", &runs, 0..120, 100).keep(2.0, 85.0, 1.0, 90.0);
}

#[test]
fn a_limit_that_is_halved_is_kept_within_five_seconds() {
    Runs::of("halved, after 5 s", &runs(50), 65..120, 50).keep(1.0, 85.0, 0.5, 95.0);
}

#[test]
fn a_limit_that_rises_is_found() {
    Runs::of("doubled, after 30 s", &runs(200), 90..120, 200).keep(3.0, 60.0, 1.0, 90.0);
}

/// The peer is our re-implementation of the algorithm of botocore's adaptive mode, not botocore.
#[test]
fn a_controller_for_the_fleet_refuses_less_than_one_in_each_process() {
    println!("vendor of 100 calls in a second, 120 s: refused % (used % after 20 s)");
    for window in WINDOWS {
        for processes in PROCESSES {
            let figures = |run: Run| (run.refused(0..120), run.used(20..120, 100));
            let world = world(window, processes, 3);
            let (ours, peer) = (figures(world.with_ours()), figures(world.with_botocore()));
            println!(
                "{window:?}, {processes} processes: ours {:.2} ({:.1}), botocore's algorithm {:.2} ({:.1})",
                ours.0, ours.1, peer.0, peer.1
            );
            assert!(ours.0 < peer.0 || ours.1 > peer.1);
        }
    }
}

/// A backlog before a vendor with 20 servers, each of which takes 0.1 s for a call.
#[test]
fn a_slow_vendor_is_not_given_more_calls_and_a_recovered_one_all() {
    for seed in 0..SEEDS {
        let queue = Queue { seed, servers: 20, service: 100 * MILLI };
        let seconds = queue.run(140, |second| if (60..80).contains(&second) { 10 } else { 1 });
        let settled: Vec<_> = seconds[30..60].iter().map(|second| second.limit).collect();
        assert!(settled.iter().all(|limit| (16..=24).contains(limit)), "{seed}: {settled:?}");
        let before = seconds[59].under_way;
        let most = seconds[60..80].iter().map(|second| second.under_way).max().unwrap();
        assert!(most * 10 <= before * 12, "{seed}: {most} under way, {before} before");
        let done: u64 = seconds[110..140].iter().map(|second| second.done).sum();
        assert!(done * 100 >= 95 * 200 * 30, "{seed}: {done} of {}", 200 * 30);
    }
}

/// A vendor that has become slower for good has its calls again.
#[test]
fn a_vendor_that_stays_slow_is_used_again() {
    let queue = Queue { seed: 1, servers: 20, service: 100 * MILLI };
    let seconds = queue.run(240, |second| if second >= 60 { 10 } else { 1 });
    let done: u64 = seconds[200..240].iter().map(|second| second.done).sum();
    assert!(done * 100 >= 90 * 20 * 40, "{done} of {}", 20 * 40);
}

fn seconds_of(rate: u64, number: u64, controller: &mut Controller, policy: &ControlPolicy) -> u64 {
    let mut now = 1_000 * SECOND;
    for _ in 0..number {
        now += SECOND;
        let report = ControlReport { ok: rate, latency: rate * 50 * MILLI, ..Default::default() };
        controller.report(policy, now, &report);
    }
    now
}

#[test]
fn a_rate_that_is_not_made_use_of_does_not_rise() {
    let policy = ControlPolicy::DEFAULT;
    let mut controller = Controller::new();
    seconds_of(5, 100, &mut controller, &policy);
    assert_eq!(controller.rate(&policy), policy.first_rate);
    // Nor does the concurrency: 5 calls in a second of 50 ms are a quarter of a call at a time.
    assert_eq!(controller.limit(&policy), policy.first_limit);
}

#[test]
fn a_named_limit_counts_more_than_what_is_inferred() {
    let policy = ControlPolicy::DEFAULT;
    let mut controller = Controller::new();
    let now = seconds_of(10, 3, &mut controller, &policy);
    let named = ControlReport { seen_limit: 6_000, seen_window: 60 * SECOND, ..Default::default() };
    controller.report(&policy, now, &named);
    assert_eq!(controller.rate(&policy), 100_000 - 100_000 / 64);
    // It bounds the growth too.
    seconds_of(200, 30, &mut controller, &policy);
    assert_eq!(controller.rate(&policy), 100_000 - 100_000 / 64);
    // A refusal lowers the rate nevertheless: others may use the same credential.
    let refused = ControlReport { throttled: 1, ..named };
    controller.report(&policy, now + 60 * SECOND, &refused);
    assert!(controller.rate(&policy) < 98_000);
}

#[test]
fn a_hold_is_one_epoch() {
    let policy = ControlPolicy::DEFAULT;
    let mut controller = Controller::new();
    let now = seconds_of(10, 3, &mut controller, &policy);
    let refused = ControlReport { throttled: 1, hold: 30 * SECOND, ..Default::default() };
    controller.report(&policy, now, &refused);
    let rate = controller.rate(&policy);
    for second in 1..30 {
        let late = ControlReport { throttled: 5, ..Default::default() };
        controller.report(&policy, now + second * SECOND, &late);
        assert_eq!(controller.rate(&policy), rate);
    }
}

#[test]
fn fast_refusals_do_not_raise_the_concurrency() {
    let policy = ControlPolicy { first_limit: 20, ..ControlPolicy::DEFAULT };
    let mut controller = Controller::new();
    let mut now = 1_000 * SECOND;
    for _ in 0..50 {
        now += SECOND;
        let report = ControlReport { throttled: 1_000, ..Default::default() };
        controller.report(&policy, now, &report);
        assert_eq!(controller.limit(&policy), 20);
    }
}

fn reports() -> impl Strategy<Value = Vec<(u64, ControlReport)>> {
    let count = || prop_oneof![3 => Just(0), 3 => 1..50u64, 1 => 0..u64::MAX];
    let time = || prop_oneof![3 => Just(0), 3 => 1..10 * SECOND, 1 => 0..u64::MAX];
    let report = (count(), time(), count(), count(), count(), time(), count(), time()).prop_map(
        |(ok, latency, other, throttled, dropped, hold, seen_limit, seen_window)| ControlReport {
            ok,
            latency,
            other,
            throttled,
            dropped,
            hold,
            seen_limit,
            seen_window,
        },
    );
    let step = prop_oneof![6 => 0..2 * SECOND, 1 => 0..4_000 * SECOND, 1 => 0..u64::MAX];
    prop::collection::vec((step, report), 1..60)
}

fn policies() -> impl Strategy<Value = ControlPolicy> {
    let number = || prop_oneof![3 => 0..1_000u64, 1 => 0..u64::MAX];
    prop::array::uniform8(number()).prop_map(
        |[min_rate, max_rate, first_rate, min_limit, max_limit, first_limit, epoch, price]| {
            ControlPolicy {
                min_rate,
                max_rate,
                first_rate,
                min_limit,
                max_limit,
                first_limit,
                epoch,
                calls_per_refusal: price,
            }
        },
    )
}

proptest! {
    #[test]
    fn the_rate_and_the_concurrency_stay_within_their_bounds(
        policy in prop_oneof![Just(ControlPolicy::DEFAULT), policies()],
        reports in reports(),
    ) {
        let bounds = policy.bounded();
        let mut controller = Controller::new();
        let mut now = 0u64;
        for (step, report) in reports {
            now = now.saturating_add(step);
            let before = controller;
            controller.report(&policy, now, &report);
            let rate = controller.rate(&policy);
            prop_assert!((bounds.min_rate..=bounds.max_rate).contains(&rate));
            let limit = controller.limit(&policy);
            prop_assert!((bounds.min_limit.max(1)..=bounds.max_limit).contains(&limit));
            prop_assert!(controller.pace(&policy).is_ok());
            prop_assert_eq!(Controller::from_words(controller.words()), Some(controller));
            // A refusal never raises the rate, unless the vendor named another one; and never
            // lowers it by more than half.
            if report.throttled > 0 && report.seen_limit == 0 {
                prop_assert!(rate <= before.rate(&policy));
                prop_assert!(rate >= before.rate(&policy) / 2);
            }
        }
    }

    #[test]
    fn there_is_one_decrease_in_an_epoch(
        counts in prop::collection::vec((0..50_000u64, 1..1_000u64), 1..20),
    ) {
        let policy = ControlPolicy::DEFAULT;
        let mut controller = Controller::new();
        let mut now = seconds_of(10, 10, &mut controller, &policy);
        let mut lowered = None;
        let first = now;
        for (step, throttled) in counts {
            now += step;
            if now >= first + policy.epoch {
                break;
            }
            let report = ControlReport { throttled, ..Default::default() };
            controller.report(&policy, now, &report);
            let rate = controller.rate(&policy);
            prop_assert_eq!(*lowered.get_or_insert(rate), rate);
        }
    }
}
