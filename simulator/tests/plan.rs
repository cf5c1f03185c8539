//! Plans whose figures were worked out by hand, to the digit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "how a test fails")]

use tidegate_sim::plan::{Error, Host, Inputs, Mode, Plan, Spike, Vendor, plan};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn vendor(calls: u64, window: u64, jitter: u64, burst: u64) -> Inputs {
    Inputs::new(Vendor { calls, window, jitter, burst })
}

fn of(inputs: &Inputs) -> Plan {
    plan(inputs).unwrap()
}

fn ids(plan: &Plan) -> Vec<&'static str> {
    plan.warnings.iter().map(|warning| warning.id.as_str()).collect()
}

fn rounded(value: f64, digits: u32) -> f64 {
    let scale = 10f64.powi(digits as i32);
    (value * scale).round() / scale
}

fn host(batch: u64, mode: Option<Mode>, overhead: u64, concurrency: Option<u64>) -> Host {
    Host {
        batch,
        mode,
        overhead,
        concurrency,
        timeout: None,
        visibility: None,
        max_receives: None,
        is_event_source: false,
        is_provisioned: false,
    }
}

#[test]
fn the_limit_keeps_the_vendors_window() {
    let cases = [
        (vendor(10, S, 0, 1), 100_000_001, 10.0, 10, 100.0, "10 in any 1s"),
        (vendor(10, S, 50 * MS, 1), 105_000_001, 9.5238, 10, 95.24, "10 in any 1s jitter 50ms"),
        (vendor(10, S, 0, 5), 166_666_667, 6.0, 10, 60.0, "10 in any 1s burst 5"),
        (
            vendor(100, 60 * S, 200 * MS, 1),
            602_000_001,
            1.6611,
            100,
            99.67,
            "100 in any 1min jitter 200ms",
        ),
        (
            vendor(50, S, 20 * MS, 10),
            24_878_049,
            40.1961,
            50,
            80.39,
            "50 in any 1s burst 10 jitter 20ms",
        ),
        // The width is whole nanoseconds, so the window is not always filled.
        (vendor(1_000_000, S, 0, 1), 1001, 999_000.999, 999_001, 99.9, "1000000 in any 1s"),
    ];
    for (inputs, width, rate, worst, usable, text) in cases {
        let limit = of(&inputs).limit;
        assert_eq!((limit.width, limit.worst_window, limit.text.as_str()), (width, worst, text));
        assert_eq!(rounded(limit.rate, 4), rounded(rate, 4));
        assert_eq!(rounded(limit.usable * 100.0, 2), usable);
        let parsed: tidegate_core::Limit = text.parse().unwrap();
        assert_eq!(parsed.timeline().width(), width, "the text is the limit");
    }
}

#[test]
fn no_window_holds_more_than_it_may() {
    // The real engine, asked all the time: the densest calls that the limit admits.
    for (calls, window, jitter, burst) in
        [(10, S, 0, 1), (7, S, 13 * MS, 3), (100, 60 * S, 200 * MS, 100)]
    {
        let planned = of(&vendor(calls, window, jitter, burst)).limit;
        let limit = tidegate_core::Limit::in_any(calls, window, jitter, burst).unwrap();
        let (mut cell, mut now, mut times) = (0, 1000 * S, Vec::new());
        for _ in 0..4 * calls {
            let (decision, next) = tidegate_core::decide(&limit, cell, now, 1).unwrap();
            if decision.allowed {
                times.push(now);
                cell = next;
            } else {
                now += decision.retry_after;
            }
        }
        let reach = window + jitter;
        let most = times.iter().map(|first| {
            times.iter().filter(|time| (*first..=first + reach).contains(time)).count()
        });
        assert_eq!(most.max().unwrap() as u64, planned.worst_window);
        assert!(planned.worst_window <= calls);
    }
}

#[test]
fn a_concurrency_is_not_a_rate() {
    // Five seconds of work and a call of five seconds, ten to a batch.
    let mut inputs = vendor(10, S, 50 * MS, 1);
    inputs.call.typical = 5 * S;
    inputs.host = Some(host(10, Some(Mode::Parallel), 5 * S, None));
    let parallel = of(&inputs);
    let settings = parallel.host.as_ref().unwrap();
    assert_eq!((settings.batch_time, settings.concurrency), (10.0, 10));
    assert_eq!(rounded(parallel.throughput, 2), 9.52);
    assert_eq!(settings.without_limit.throughput, 10.0);
    assert_eq!((settings.without_limit.worst_window, parallel.limit.worst_window), (100, 10));
    assert!(ids(&parallel).contains(&"batch-in-one-second"));

    inputs.host = Some(host(10, Some(Mode::Sequential), 5 * S, None));
    let sequential = of(&inputs);
    let settings = sequential.host.as_ref().unwrap();
    assert_eq!((settings.batch_time, settings.concurrency), (55.0, 53));
    assert_eq!(rounded(sequential.throughput, 2), 9.52);

    inputs.host = Some(host(10, Some(Mode::Sequential), 5 * S, Some(10)));
    let fixed = of(&inputs);
    assert_eq!(rounded(fixed.throughput, 3), 1.818);
    // Ten functions make one call at a time each, so ten in a second.
    assert_eq!(fixed.host.as_ref().unwrap().without_limit.worst_window, 10);
    assert!(!ids(&fixed).contains(&"batch-in-one-second"));
    inputs.host = Some(host(10, None, 5 * S, Some(10)));
    assert!(ids(&of(&inputs)).contains(&"sequential-or-parallel"));
}

#[test]
fn what_a_fixed_concurrency_does_depends_on_how_long_calls_take() {
    let throughput = |batch, concurrency, call, mode| {
        let mut inputs = vendor(10, S, 0, 1);
        inputs.call.typical = call;
        inputs.call.min = call;
        inputs.host = Some(host(batch, Some(mode), 0, Some(concurrency)));
        of(&inputs).host.unwrap().without_limit
    };
    for (call, per_second, worst) in [(S, 100.0, 100), (300 * MS, 333.0, 400)] {
        let plan = throughput(10, 10, call, Mode::Parallel);
        assert_eq!((plan.throughput.round(), plan.worst_window), (per_second, worst));
    }
    assert_eq!(throughput(2, 2, S, Mode::Parallel).throughput, 4.0);
    assert_eq!(throughput(2, 2, 10 * S, Mode::Parallel).throughput, 0.4);

    let mut inputs = vendor(10, S, 0, 1);
    (inputs.call.min, inputs.call.typical) = (S, 10 * S);
    inputs.host = Some(host(2, Some(Mode::Parallel), 0, Some(2)));
    let plan = of(&inputs);
    let (low, high) = plan.host.as_ref().unwrap().without_limit.used;
    assert_eq!((rounded(low, 9), rounded(high, 9)), (0.04, 0.4));
    assert!(ids(&plan).contains(&"concurrency-is-not-rate"));
}

#[test]
fn waits_follow_the_load() {
    // 10 a second is the limit itself here: 100 ms are a slot, but for the nanosecond.
    for (arrivals, mean, p99, p999) in
        [(8.0, 0.200, 1.036, 1.570), (9.0, 0.450, 2.19, 3.30), (9.5, 0.950, 4.49, 6.76)]
    {
        let mut inputs = vendor(10, S, 0, 1);
        inputs.arrivals = Some(arrivals);
        let waits = of(&inputs).waits.unwrap();
        assert_eq!(rounded(waits.mean, 3), mean);
        let digits = if arrivals < 9.0 { 3 } else { 2 };
        assert_eq!((rounded(waits.p99, digits), rounded(waits.p999, digits)), (p99, p999));
    }
}

/// The law of the wait, by the slots that a random walk leaves: Lindley's recursion.
#[test]
fn waits_are_those_of_a_queue() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    for load in [0.05, 0.14, 0.25, 0.29, 0.31, 0.5, 0.8] {
        let mut wait = 0.0f64;
        let mut seen: Vec<f64> = (0..1_000_000)
            .map(|_| {
                let found = wait;
                wait = (wait + 1.0 + uniform().ln() / load).max(0.0);
                found
            })
            .collect();
        seen.sort_by(f64::total_cmp);
        let mut inputs = vendor(10, S, 0, 1);
        inputs.arrivals = Some(load * 10.0);
        let waits = of(&inputs).waits.unwrap();
        let quantile = |share: f64| seen[(seen.len() as f64 * share) as usize] / 10.0;
        let mean = seen.iter().sum::<f64>() / seen.len() as f64 / 10.0;
        assert!((waits.mean / mean - 1.0).abs() < 0.02, "{load}: {} {mean}", waits.mean);
        for (ours, theirs) in [(waits.p99, quantile(0.99)), (waits.p999, quantile(0.999))] {
            assert!((ours / theirs - 1.0).abs() < 0.03, "{load}: {ours} {theirs}");
        }
    }
}

#[test]
fn a_spike_leaves_a_backlog_that_drains_slowly() {
    let mut inputs = vendor(1, S, 0, 1);
    inputs.spike = Some(Spike { rate: 50.0, length: 60 * S });
    let drain = of(&inputs).drain.unwrap();
    assert_eq!((drain.backlog.round(), drain.drained.unwrap().round()), (2940.0, 2940.0));
    inputs.arrivals = Some(0.2);
    assert_eq!(of(&inputs).drain.unwrap().drained.unwrap().round(), 3675.0);
    inputs.arrivals = Some(1.0);
    let plan = of(&inputs);
    assert_eq!(plan.drain.unwrap().drained, None);
    assert!(ids(&plan).contains(&"never-drains"));
}

#[test]
fn a_backlog_of_1000() {
    let mut inputs = vendor(1, S, 0, 1);
    (inputs.backlog, inputs.call.typical) = (1000, S);
    let drain = of(&inputs).drain.unwrap();
    assert_eq!((rounded(drain.last_start, 3), rounded(drain.done, 1)), (999.0, 1000.0));
    let mut inputs = vendor(5, S, 0, 1);
    (inputs.backlog, inputs.call.typical) = (1000, 1305 * MS);
    let drain = of(&inputs).drain.unwrap();
    assert_eq!((rounded(drain.last_start, 1), rounded(drain.done, 1)), (199.8, 201.1));
}

#[test]
fn old_messages_are_counted_in_whole_tokens() {
    let mut inputs = vendor(1, S, 0, 1);
    (inputs.backlog, inputs.deadline) = (100, Some(500 * MS));
    let plan = of(&inputs);
    assert_eq!(plan.drain.unwrap().stale, 99);
    assert!(ids(&plan).contains(&"stale-backlog"));
}

#[test]
fn failures_are_sent_again() {
    // 9 a second and a fifth that fails are 11.25 calls a second.
    let mut inputs = vendor(10, S, 0, 1);
    (inputs.arrivals, inputs.call.failures) = (Some(9.0), 0.2);
    let plan = of(&inputs);
    assert!(plan.waits.is_none());
    assert!(ids(&plan).contains(&"never-drains") && ids(&plan).contains(&"retries-cost-tokens"));
    inputs.arrivals = Some(5.0);
    assert_eq!(of(&inputs).throughput, 6.25);
}

#[test]
fn the_queues_settings_outlast_the_call() {
    let mut inputs = vendor(1, S, 0, 1);
    (inputs.call.typical, inputs.call.p999) = (S, 8 * S);
    let mut function = host(1, Some(Mode::Parallel), 0, Some(1));
    function.is_event_source = true;
    inputs.host = Some(function.clone());
    let plan = of(&inputs);
    let settings = plan.host.as_ref().unwrap();
    // 8 s for the longest call, and a tenth for what is not the call's.
    assert_eq!((settings.timeout, settings.visibility, settings.max_receives), (9 * S, 54 * S, 5));
    assert!(ids(&plan).contains(&"lambda-1-not-allowed"));
    inputs.host = Some(Host { concurrency: None, ..function });
    assert_eq!(of(&inputs).host.unwrap().concurrency, 2, "an event source takes no less");

    (function.timeout, function.visibility, function.max_receives) =
        (Some(5 * S), Some(15 * S), Some(3));
    (function.concurrency, function.is_provisioned) = (Some(5), true);
    inputs.host = Some(function);
    let wrong = of(&inputs);
    for id in [
        "visibility-too-short",
        "receive-count-burns",
        "provisioned-and-maximum",
        "average-timeout",
    ] {
        assert!(ids(&wrong).contains(&id), "{id} in {:?}", ids(&wrong));
    }
}

#[test]
fn calls_of_a_batch_wait_for_one_another() {
    let mut inputs = vendor(1, S, 10 * MS, 1);
    inputs.call.typical = S;
    inputs.host = Some(host(10, Some(Mode::Parallel), 0, None));
    let plan = of(&inputs);
    let settings = plan.host.unwrap();
    // The tenth call has its slot after nine widths of 1.01 s, and takes a second.
    assert_eq!(rounded(settings.slot_wait, 2), 9.09);
    assert_eq!(settings.timeout, 12 * S);
    inputs.host.as_mut().unwrap().timeout = Some(3 * S);
    assert!(ids(&of(&inputs)).contains(&"average-timeout"));
}

#[test]
fn a_host_that_is_slower_than_the_limit_bounds_everything() {
    let mut inputs = vendor(10, S, 0, 1);
    (inputs.call.typical, inputs.arrivals, inputs.backlog) = (S, Some(8.0), 1000);
    inputs.host = Some(host(1, Some(Mode::Parallel), 0, Some(2)));
    let plan = of(&inputs);
    assert_eq!((plan.throughput, plan.waits), (2.0, None));
    assert!(ids(&plan).contains(&"never-drains"));
    let drain = plan.drain.unwrap();
    assert_eq!((drain.last_start, drain.drained), (499.5, None));
}

#[test]
fn a_spike_is_all_that_arrives_and_failures_make_more_too_old() {
    let mut inputs = vendor(10, S, 0, 1);
    (inputs.arrivals, inputs.spike) = (Some(8.0), Some(Spike { rate: 16.0, length: 600 * S }));
    assert_eq!(of(&inputs).drain.unwrap().backlog.round(), 3600.0);

    let mut inputs = vendor(1, S, 0, 1);
    (inputs.backlog, inputs.call.failures, inputs.deadline) = (1000, 0.8, Some(500 * S));
    // 500 slots, of which a fifth succeeds.
    assert_eq!(of(&inputs).drain.unwrap().stale, 900);
}

#[test]
fn inputs_out_of_bounds_are_refused_by_name() {
    let refused = |inputs: &Inputs| plan(inputs).unwrap_err().to_string();
    assert_eq!(plan(&vendor(10, S, 0, 11)).unwrap_err(), Error::Burst { burst: 11, calls: 10 },);
    assert!(refused(&vendor(10, S, 0, 0)).starts_with("burst: found 0; it is 1 to"));
    assert!(matches!(plan(&vendor(0, S, 0, 1)), Err(Error::Burst { .. })));
    let mut inputs = vendor(10, S, 0, 1);
    inputs.call.failures = 1.0;
    assert!(refused(&inputs).starts_with("failures: found 1; the share is from 0 to below 1"));
    let mut inputs = vendor(10, S, 0, 1);
    inputs.host = Some(host(1, None, 0, None));
    assert!(refused(&inputs).starts_with("latency: "));
    let mut inputs = vendor(10, S, 0, 1);
    inputs.arrivals = Some(f64::NAN);
    assert!(refused(&inputs).starts_with("arrivals"));
    assert!(ids(&of(&vendor(10, S, 2 * S, 1))).contains(&"jitter-above-window"));
}
