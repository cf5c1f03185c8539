//! The world is the same each time, loses no message, and agrees with the plan's arithmetic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "how a test fails")]

use tidegate_sim::plan::{Inputs, Vendor, plan};
use tidegate_sim::report::{Report, html, log_csv, seconds_csv, summary_json};
use tidegate_sim::scenario::{Scenario, shipped};
use tidegate_sim::{Run, run};

fn scenarios(text: &str) -> Vec<Scenario> {
    Scenario::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn report(text: &str) -> Report {
    Report::make(&scenarios(text)[0], false, &mut |_, _| {})
}

fn value(report: &Report, name: &str) -> u64 {
    report.figure(name).unwrap().value
}

fn silent(scenario: &Scenario, seed: u64) -> Run {
    run(scenario, seed, false, &mut |_| {})
}

/// A hash of everything that a scenario writes, to see a change without keeping megabytes.
fn fnv1a(texts: &[String]) -> u64 {
    texts.iter().flat_map(|text| text.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn every_file_is_the_same_to_the_byte_wherever_it_is_made() {
    let mut found = String::new();
    for each in shipped() {
        for seed in [1, 2, 2026] {
            for mut scenario in scenarios(each.text) {
                (scenario.seed, scenario.seeds) = (seed, 1);
                let reports = [Report::make(&scenario, true, &mut |_, _| {})];
                let files = [
                    summary_json(&reports).replace(env!("CARGO_PKG_VERSION"), ""),
                    seconds_csv(&reports),
                    log_csv(&reports),
                    html(&reports),
                ];
                found += &format!("{:016x} {} seed {seed}\n", fnv1a(&files), scenario.name);
            }
        }
    }
    let kept = include_str!("golden/files.txt");
    if found != kept {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/files.txt");
        std::fs::write(path, &found).unwrap();
        panic!("the files differ from those of tests/golden/files.txt; the new list is {path}");
    }
}

#[test]
fn a_seed_tells_everything() {
    let scenario = &scenarios("extends = 'seed001-s3'")[0];
    assert_eq!(silent(scenario, 5), silent(scenario, 5));
    assert_ne!(silent(scenario, 5).seconds, silent(scenario, 6).seconds);
}

#[test]
fn a_component_that_is_added_changes_no_others_numbers() {
    let base = "extends = 'seed000-ours'\nsource.pattern = 'rate'\nsource.rate = '8/s'\nsource.arrivals = 'random'";
    let more =
        format!("{base}\nfunction.cold_start = '10ms..900ms'\nlimiter.round_trip = '1ms..3ms'");
    let produced = |text: &str| -> Vec<u32> {
        silent(&scenarios(text)[0], 3).seconds.iter().map(|second| second.produced).collect()
    };
    let (base, more) = (produced(base), produced(&more));
    let both = base.len().min(more.len());
    assert_eq!(base[..both], more[..both]);
}

/// What is queued, in flight, done and lost is what was produced: at every event (`is_conserved`), and at the end of
/// every second by what was counted in it.
#[test]
fn no_message_is_lost_sight_of_whatever_fails() {
    let mut state = 7u64;
    let mut below = |end: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    for case in 0..120 {
        let base =
            ["seed001-s2", "seed001-s3", "seed000-10x10", "seed000-ours", "retry-after-storm"];
        let base = base[below(base.len() as u64) as usize];
        let mut text = format!("extends = '{base}'\nseeds = 1\nlasts = '{}s'\n", 60 + below(2000));
        text += &format!("source.messages = {}\n", 1 + below(800));
        text += &format!("function.timeout = '{}s'\n", 1 + below(20));
        text += &format!("vendor.latency = 'mean {}ms'\n", 1 + below(3000));
        text += &format!("vendor.failures = '{}%'\n", below(30));
        text += "vendor.refusal = 'retry-after'\n";
        if base != "seed001-s2" {
            text += &format!("queue.visibility = '{}s'\n", 1 + below(30));
            text += &format!("queue.max_receives = {}\n", 1 + below(4));
        }
        for _ in 0..below(5) {
            let fault = match below(4) {
                0 => format!("crash = {}", 1 + below(20)),
                1 => format!("vendor_limit = '{}/s'", 1 + below(20)),
                2 => format!("store_down = true\nlasts = '{}s'", 1 + below(60)),
                _ => format!("clock = '{}s'", below(20)),
            };
            text += &format!("[[fault]]\nat = '{}s'\n{fault}\n", below(300));
        }
        let run = silent(&scenarios(&text)[0], case);
        assert!(run.is_conserved, "{text}");
        let (mut produced, mut ended) = (0, 0);
        for second in &run.seconds {
            produced += second.produced;
            ended += second.done + second.lost;
            assert_eq!(produced, ended + second.queued + second.in_flight, "{text}");
        }
        let figure = |name| run.figures.iter().find(|each| each.name == name).unwrap().value;
        assert_eq!(figure("produced"), figure("done") + figure("lost") + figure("unfinished"));
    }
}

#[test]
fn seed_001_is_met_as_far_as_it_tells_its_settings() {
    // S2 follows from the documented back-off: 1905 s were observed, and the seeds differ by 70 s.
    let s2 = report("extends = 'seed001-s2'\nseeds = 8");
    assert!(value(&s2, "time").abs_diff(1917 * S) < 1917 * S / 33, "{:?}", s2.figure("time"));
    let full = report("extends = 'seed001-s2'\nseeds = 8\nasync.jitter = 'full'");
    assert!(value(&full, "time").abs_diff(1677 * S) < 1677 * S / 33, "{:?}", full.figure("time"));
    // S3 to S5 are calibrated.
    let s3 = report("extends = 'seed001-s3'\nseeds = 8");
    assert!((102..=110).contains(&value(&s3, "lost")), "{:?}", s3.figure("lost"));
    assert!(value(&s3, "time").abs_diff(1160 * S) < 12 * S);
    let s3 = report("extends = 'seed001-s3'\nseeds = 8\nvendor.latency = '1.39s'");
    assert!((114..=124).contains(&value(&s3, "lost")), "{:?}", s3.figure("lost"));
    assert!(value(&s3, "time").abs_diff(1231 * S) < 12 * S);
    // A visibility timeout from 100 to 900 s changes nothing but the loss.
    for visibility in [100, 300, 900] {
        let text = format!("extends = 'seed001-s4'\nseeds = 2\nqueue.visibility = '{visibility}s'");
        assert!(
            value(&report(&text), "time").abs_diff(1450 * S) < 1450 * S * 15 / 1000,
            "{visibility}"
        );
    }
    // Little's law is exact: 89 at a time at 16.7/s are calls of 5.3 s.
    assert_eq!(value(&report("extends = 'seed001-s1-long'"), "max_concurrency"), 89);
}

const S: u64 = 1_000_000_000;

#[test]
fn a_limit_ends_when_its_arithmetic_says() {
    // The k-th of a burst starts after k widths, and a width of "1 in any 1s" is a second and a nanosecond.
    let ours = report("extends = 'seed001-ours'");
    assert_eq!(value(&ours, "time"), 999 * (S + 1) + S);
    let five = report("extends = 'seed001-ours-5'");
    assert_eq!(value(&five, "time"), 999 * 200_000_001 + 1_305_000_000);
    for report in [&ours, &five] {
        for (name, wanted) in [("lost", 0), ("throttles", 0), ("duplicates", 0), ("receives", 1000)]
        {
            assert_eq!(value(report, name), wanted, "{name}");
        }
    }
}

#[test]
fn a_backlog_drains_as_planned() {
    // 50 a second for 60 s at 1 a second, as in the seed.
    let text = "name = 'spike'\n[source]\nmessages = 3000\npattern = 'spike'\nrate = '50/s'\nspike = '60s'\n\
        [queue]\nvisibility = '1h'\n[function]\nconcurrency = 5\n[limiter]\nlimit = '1 in any 1s jitter 10ms'\n\
        [vendor]\nlimit = '1/s'";
    let simulated = value(&report(text), "time") as f64 / S as f64;
    let mut inputs = Inputs::new(Vendor { calls: 1, window: S, jitter: 10_000_000, burst: 1 });
    inputs.spike = Some(tidegate_sim::plan::Spike { rate: 50.0, length: 60 * S });
    let planned = plan(&inputs).unwrap().drain.unwrap().drained.unwrap() + 60.0;
    assert!((simulated / planned - 1.0).abs() < 0.01, "{simulated} {planned}");
}

#[test]
fn waits_are_those_of_the_plan() {
    for (arrivals, seeds) in [("2/s", 1), ("5/s", 1), ("8/s", 3)] {
        let text = format!(
            "name = 'waits'\nseeds = {seeds}\n[source]\nmessages = 60000\npattern = 'rate'\nrate = '{arrivals}'\n\
             arrivals = 'random'\n[queue]\nvisibility = '1h'\n[function]\nconcurrency = 5\n\
             [limiter]\nlimit = '10 in any 1s'\n[vendor]\nlimit = '10/s'"
        );
        let simulated = value(&report(&text), "wait_p99") as f64 / S as f64;
        let mut inputs = Inputs::new(Vendor { calls: 10, window: S, jitter: 0, burst: 1 });
        inputs.arrivals = Some(arrivals.trim_end_matches("/s").parse().unwrap());
        let planned = plan(&inputs).unwrap().waits.unwrap().p99;
        let error = (simulated / planned - 1.0).abs() * 100.0;
        assert!(error < 3.0, "{arrivals}: {simulated} s, planned {planned} s");
    }
}

#[test]
fn a_network_that_varies_needs_its_jitter_in_the_limit() {
    let of = |limit: &str| {
        let text = format!("extends = 'seed000-ours'\nlimiter.limit = '{limit}'");
        value(&report(&text), "most_in_any_second")
    };
    assert_eq!(of("10 in any 1s jitter 50ms"), 10);
    assert!(of("10/s burst 1") > 10, "an exact match of the vendor's limit is too much");
    assert!(of("10/s") >= 19, "a burst counts twice");
}

#[test]
fn retry_after_pauses_all_workers_through_the_engine() {
    // Without a limit of ours the same vendor refuses most calls.
    let without = report(
        "extends = 'retry-after-storm'\nlimiter = 'none'\n[pollers]\nstart = 50\nmost = 50\nreceive = '0s'",
    );
    let with = report("extends = 'retry-after-storm'");
    assert!(value(&with, "refused") <= 100, "{:?}", with.figure("refused"));
    assert!(value(&without, "refused") > 1000, "{:?}", without.figure("refused"));
}

#[test]
fn mistakes_name_the_field_and_the_nearest() {
    for (text, said) in [
        ("extends = 'seed001-s9'", "did you mean `seed001-s2`?"),
        ("extends = 'seed001-s3'\nqueue.visiblity = '1s'", "did you mean `visibility`?"),
        ("extends = 'seed001-s3'\nvendors = 1", "did you mean `vendor`?"),
        (
            "extends = 'seed001-s3'\n[expect]\nmost_in_any_secnd = '<= 1'",
            "did you mean `most_in_any_second`?",
        ),
        ("extends = 'seed001-s3'\n[expect]\ntime = '1000'", "write <= 10"),
        ("extends = 'seed001-s3'\nqueue.visibility = '10'", "write a number and a unit"),
        ("extends = 'seed001-s3'\nsource.messages = 0", "source.messages: it is 1 to"),
        ("extends = 'seed001-s3'\nlimiter.limit = '1/fortnight'", "unknown unit of time"),
        ("extends = 'seed001-s3'\nlimiter.limit = '1/s'", "before-receive takes no [pollers]"),
        ("extends = 'seed001-s3'\nqueue = 'none'", "write one of [queue] and [async]"),
        ("extends = 'seed001-s3'\nmatrix.seed = 1", "matrix: seed is a list"),
        (
            "name = 'x'\n[source]\nmessages = 1\n[vendor]\n[queue]\nvisibility = '1s'",
            "takes [pollers]",
        ),
        ("= 1", "TOML parse error"),
    ] {
        let error = Scenario::parse(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_matrix_makes_a_scenario_of_each_choice() {
    let text = "extends = 'seed001-s3'\nname = 'm'\nseeds = 1\n[matrix]\n'queue.visibility' = ['5s', '50s']\n\
        'queue.max_receives' = [1, 2, 3]";
    let all = scenarios(text);
    assert_eq!(all.len(), 6);
    assert_eq!(all[0].name, "m queue.max_receives=1 queue.visibility=5s");
    assert!(all.windows(2).all(|pair| pair[0].hash != pair[1].hash));
}

#[test]
fn an_expectation_that_is_not_met_says_what_was_found() {
    let met = |bound: &str| {
        report(&format!("extends = 'seed001-ours'\n[expect]\n{bound}")).verdicts[0].is_met
    };
    for bound in [
        "done = '= 1000'",
        "time = '<= 1.001x'",
        "used = '>= 0.999x'",
        "used = '>= 99%'",
        "mean_rate = '0.9..1.1'",
    ] {
        assert!(met(bound), "{bound}");
    }
    for bound in [
        "done = '>= 1001'",
        "time = '<= 999s'",
        "time = '>= 1.1x'",
        "lost = '= 1'",
        "mean_rate = '<= 0.9/s'",
    ] {
        assert!(!met(bound), "{bound}");
    }
}

/// Prints the speed. A debug build on a busy machine says little, so nothing is asserted but the count.
#[test]
fn a_million_events_are_counted() {
    let text = "extends = 'seed001-ours-5'\nsource.messages = 300000\nsource.rate = '5000/s'\n\
        limiter.limit = '5000 in any 1s'\nvendor.limit = '5000/s'\nfunction.concurrency = 10000";
    let began = std::time::Instant::now();
    let run = silent(&scenarios(text)[0], 1);
    let took = began.elapsed().as_micros().max(1);
    println!("{} events, {} a second", run.events, u128::from(run.events) * 1_000_000 / took);
    assert!(run.events > 1_000_000, "{}", run.events);
}
