//! What holds of a gate whatever happens: holds join, nothing passes while it is open, one probe at
//! a time, and a ramp that only rises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use tidegate_core::{CallOutcome, FULL_SHARE, Gate, GateAnswer, GatePolicy, GateReport};

const SECOND: u64 = 1_000_000;
const START: u64 = 1_764_000_000 * SECOND;
const POLICY: GatePolicy =
    GatePolicy { least_calls: 4, window: 10 * SECOND, ..GatePolicy::DEFAULT };

fn hold(duration: u64) -> GateReport {
    GateReport::of(CallOutcome::Throttled, duration)
}

fn of_probe(number: u64, outcome: CallOutcome) -> GateReport {
    GateReport { probe: Some((number, outcome)), ..GateReport::default() }
}

fn counts(ok: u64, faults: u64) -> GateReport {
    GateReport { ok, faults, ..GateReport::default() }
}

fn probe(gate: &mut Gate, policy: &GatePolicy, now: u64) -> u64 {
    match gate.admit(policy, now) {
        GateAnswer::Probe { number, .. } => number,
        other => panic!("{other:?} at {now}"),
    }
}

fn opened(policy: &GatePolicy) -> Gate {
    let mut gate = Gate::new();
    gate.report(policy, START, &counts(0, 4));
    assert_eq!(gate.open_until(), Some(START + policy.open_for));
    gate
}

#[test]
fn simultaneous_refusals_of_many_workers_are_one_hold() {
    let mut one = Gate::new();
    one.report(&POLICY, START, &hold(5 * SECOND));
    let mut many = Gate::new();
    for _ in 0..50 {
        many.report(&POLICY, START, &hold(5 * SECOND));
    }
    assert_eq!(many, one);
}

#[test]
fn after_a_hold_one_call_passes_and_the_others_when_it_is_answered() {
    let policy = GatePolicy { ramp: 10 * SECOND, ..POLICY };
    let mut gate = Gate::new();
    gate.report(&policy, START, &hold(5 * SECOND));
    let end = START + 5 * SECOND;
    assert_eq!(gate.admit(&policy, end - 1), GateAnswer::Wait { until: end });
    let first = probe(&mut gate, &policy, end);
    assert_eq!(gate.admit(&policy, end), GateAnswer::Wait { until: end + SECOND });
    gate.report(&policy, end + 50_000, &of_probe(first, CallOutcome::Ok));
    assert_eq!(gate.admit(&policy, end + 50_000), GateAnswer::Ramp { share: 104 });
    assert_eq!(gate.admit(&policy, end + 5 * SECOND), GateAnswer::Ramp { share: 550 });
    assert_eq!(gate.admit(&policy, end + 10 * SECOND), GateAnswer::Pass);
}

#[test]
fn after_a_hold_the_others_do_not_wait_long_for_the_first() {
    let mut gate = Gate::new();
    gate.report(&POLICY, START, &hold(5 * SECOND));
    let end = START + 5 * SECOND;
    let late = probe(&mut gate, &POLICY, end);
    assert_eq!(gate.admit(&POLICY, end + SECOND), GateAnswer::Pass);
    gate.report(&POLICY, end + 3 * SECOND, &of_probe(late, CallOutcome::Ok));
    assert_eq!(gate.admit(&POLICY, end + 3 * SECOND), GateAnswer::Pass);
}

#[test]
fn a_first_call_that_was_not_made_leaves_its_place_to_the_next() {
    let mut gate = Gate::new();
    gate.report(&POLICY, START, &hold(5 * SECOND));
    let end = START + 5 * SECOND;
    let first = probe(&mut gate, &POLICY, end);
    gate.report(&POLICY, end, &of_probe(first, CallOutcome::NotMade));
    assert_ne!(probe(&mut gate, &POLICY, end), first);
}

#[test]
fn a_share_of_faults_opens_and_a_probe_that_succeeds_closes() {
    let mut gate = Gate::new();
    gate.report(&POLICY, START, &counts(1, 2));
    assert_eq!(gate.admit(&POLICY, START), GateAnswer::Pass); // too few calls
    gate.report(&POLICY, START, &counts(2, 0));
    assert_eq!(gate.admit(&POLICY, START), GateAnswer::Pass); // 2 of 5
    gate.report(&POLICY, START, &counts(0, 1));
    let until = START + POLICY.open_for;
    assert_eq!(gate.admit(&POLICY, START), GateAnswer::Wait { until });
    let number = probe(&mut gate, &POLICY, until);
    let given_up = until + POLICY.probe_timeout;
    assert_eq!(gate.admit(&POLICY, until), GateAnswer::Wait { until: given_up });
    gate.report(&POLICY, until, &of_probe(number, CallOutcome::Ok));
    assert_eq!(gate.admit(&POLICY, until), GateAnswer::Pass);
    assert_eq!(gate.open_until(), None);
}

#[test]
fn the_probe_of_a_process_that_crashed_is_given_up() {
    let mut gate = opened(&POLICY);
    let until = START + POLICY.open_for;
    let crashed = probe(&mut gate, &POLICY, until);
    let next = probe(&mut gate, &POLICY, until + POLICY.probe_timeout);
    // What is heard of the first after all says nothing any more.
    gate.report(&POLICY, until + POLICY.probe_timeout, &of_probe(crashed, CallOutcome::Ok));
    assert!(gate.open_until().is_some());
    gate.report(&POLICY, until + POLICY.probe_timeout, &of_probe(next, CallOutcome::Ok));
    assert!(gate.open_until().is_none());
}

#[test]
fn a_probe_that_fails_doubles_the_time_up_to_its_bound() {
    let mut gate = opened(&POLICY);
    let mut now = START + POLICY.open_for;
    for time in [10, 20, 40, 80, 160, 300, 300] {
        let number = probe(&mut gate, &POLICY, now);
        gate.report(&POLICY, now, &of_probe(number, CallOutcome::Fault));
        assert_eq!(gate.open_until(), Some(now + time * SECOND));
        now += time * SECOND;
    }
}

#[test]
fn a_probe_refused_for_a_limit_waits_as_long_as_before() {
    let mut gate = opened(&POLICY);
    let now = START + POLICY.open_for;
    let number = probe(&mut gate, &POLICY, now);
    gate.report(&POLICY, now, &of_probe(number, CallOutcome::Throttled));
    assert_eq!(gate.open_until(), Some(now + POLICY.open_for));
}

#[test]
fn a_breaker_that_opens_again_soon_stays_open_longer() {
    let mut gate = opened(&POLICY);
    let now = START + POLICY.open_for;
    let number = probe(&mut gate, &POLICY, now);
    gate.report(&POLICY, now, &of_probe(number, CallOutcome::Ok));
    let mut later = gate;
    gate.report(&POLICY, now + SECOND, &counts(0, 4));
    assert_eq!(gate.open_until(), Some(now + SECOND + 2 * POLICY.open_for));
    let after = now + POLICY.window;
    later.report(&POLICY, after, &counts(0, 4));
    assert_eq!(later.open_until(), Some(after + POLICY.open_for));
}

#[test]
fn faults_leave_the_window() {
    let mut gate = Gate::new();
    gate.report(&POLICY, START, &counts(0, 3));
    let window = POLICY.window;
    // A quarter of the window is left of the three, too few together with one more.
    gate.report(&POLICY, START + window * 7 / 4, &counts(0, 1));
    assert_eq!(gate.open_until(), None);
    gate.report(&POLICY, START + window * 4, &counts(0, 3));
    assert_eq!(gate.open_until(), None);
}

#[test]
fn refusals_for_limits_and_wrong_calls_are_no_faults() {
    use tidegate_core::SignalKind as Kind;
    for kind in [Kind::Rate, Kind::Concurrency, Kind::Quota, Kind::Abuse] {
        assert_eq!(CallOutcome::of(kind), CallOutcome::Throttled);
    }
    for kind in [Kind::Ok, Kind::Refused, Kind::Auth] {
        assert_eq!(CallOutcome::of(kind), CallOutcome::Ok);
    }
    for kind in [Kind::Fault, Kind::Overload] {
        assert_eq!(CallOutcome::of(kind), CallOutcome::Fault);
    }
    let mut gate = Gate::new();
    for _ in 0..1_000 {
        gate.report(&POLICY, START, &GateReport::of(CallOutcome::Throttled, 0));
    }
    assert_eq!(gate.admit(&POLICY, START), GateAnswer::Pass);
}

#[test]
fn a_state_is_kept_until_it_says_nothing() {
    let mut gate = Gate::new();
    // The longest time that the breaker may open for, after the end of the latest hold.
    gate.report(&POLICY, START, &hold(5 * SECOND));
    let end = START + 5 * SECOND;
    assert_eq!(gate.forgotten_at(&POLICY, START), end + POLICY.longest_open);
    // Two windows, if they are longer; or the ramp.
    let window = GatePolicy { longest_open: 0, ..POLICY };
    assert_eq!(gate.forgotten_at(&window, START), end + 2 * POLICY.window);
    let ramp = GatePolicy { longest_open: 0, ramp: 60 * SECOND, ..POLICY };
    assert_eq!(gate.forgotten_at(&ramp, START), end + 60 * SECOND);
    // Later than what is behind: now; and the probe under way.
    assert_eq!(gate.forgotten_at(&window, end + SECOND), end + SECOND + 2 * POLICY.window);
    let mut gate = opened(&window);
    let until = START + POLICY.open_for;
    assert_eq!(gate.forgotten_at(&window, START), until + 2 * POLICY.window);
    probe(&mut gate, &window, until);
    let given_up = until + POLICY.probe_timeout;
    assert_eq!(gate.forgotten_at(&window, until), given_up + 2 * POLICY.window);
}

fn outcomes() -> impl Strategy<Value = CallOutcome> {
    prop_oneof![
        Just(CallOutcome::Ok),
        Just(CallOutcome::Fault),
        Just(CallOutcome::Throttled),
        Just(CallOutcome::NotMade),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Admit,
    /// The probe of this turn, from the last one back, ends.
    Ends(usize, CallOutcome),
    Counts(u64, u64),
    Hold(u64),
}

fn acts() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let act = prop_oneof![
        6 => Just(Act::Admit),
        4 => (0..2usize, outcomes()).prop_map(|(turn, outcome)| Act::Ends(turn, outcome)),
        2 => (0..6u64, 0..6u64).prop_map(|(ok, faults)| Act::Counts(ok, faults)),
        1 => (1..20 * SECOND).prop_map(Act::Hold),
        1 => any::<u64>().prop_map(Act::Hold),
        1 => any::<(u64, u64)>().prop_map(|(ok, faults)| Act::Counts(ok, faults)),
    ];
    let step = prop_oneof![4 => 0..SECOND, 3 => 0..20 * SECOND, 1 => 0..2_000 * SECOND];
    prop::collection::vec((step, act), 1..120)
}

proptest! {
    #[test]
    fn holds_join(holds in prop::collection::vec(1..100 * SECOND, 1..8), seed in any::<u64>()) {
        let told = |holds: &[u64]| {
            let mut gate = Gate::new();
            for duration in holds {
                gate.report(&POLICY, START, &hold(*duration));
            }
            gate
        };
        let mut mixed = [holds.clone(), holds.clone()].concat();
        let length = mixed.len();
        mixed.rotate_left((seed % length as u64) as usize);
        mixed.reverse();
        prop_assert_eq!(told(&mixed), told(&holds));
        prop_assert_eq!(told(&holds).held_until(), START + holds.iter().max().unwrap());
    }

    #[test]
    fn nothing_passes_while_open_and_one_probe_is_under_way(acts in acts(), ramp in 0..30 * SECOND) {
        let policy = GatePolicy { ramp, probe_timeout: 5 * SECOND, ..POLICY };
        let mut gate = Gate::new();
        let mut now = START;
        // The breaker's probes: number, and when it is given up.
        let mut under_way: Vec<(u64, u64)> = vec![];
        let mut all: Vec<u64> = vec![];
        for (step, act) in acts {
            now += step;
            let before = gate;
            match act {
                Act::Admit => {
                    prop_assert_eq!(before.look(&policy, now), gate.admit(&policy, now));
                    match before.look(&policy, now) {
                        GateAnswer::Wait { until } => {
                            prop_assert!(until > now);
                            prop_assert_eq!(gate, before);
                        }
                        GateAnswer::Probe { number, until } => {
                            prop_assert!(now >= before.held_until() && until >= now);
                            prop_assert!(before.open_until().is_none_or(|until| now >= until));
                            under_way.retain(|(_, given_up)| *given_up > now);
                            if before.open_until().is_some() {
                                prop_assert!(under_way.is_empty());
                                under_way.push((number, until));
                            }
                            all.push(number);
                        }
                        GateAnswer::Pass | GateAnswer::Ramp { .. } => {
                            prop_assert!(now >= before.held_until());
                            prop_assert!(before.open_until().is_none());
                        }
                    }
                }
                Act::Ends(turn, outcome) => {
                    let Some(number) = all.len().checked_sub(turn + 1).map(|at| all[at]) else {
                        continue;
                    };
                    under_way.retain(|(it, _)| *it != number);
                    gate.report(&policy, now, &of_probe(number, outcome));
                }
                Act::Counts(ok, faults) => gate.report(&policy, now, &counts(ok, faults)),
                Act::Hold(duration) => gate.report(&policy, now, &hold(duration)),
            }
            prop_assert!(gate.held_until() >= before.held_until());
            prop_assert_eq!(Gate::from_words(gate.words()), Some(gate));
            prop_assert!(gate.forgotten_at(&policy, now) > now);
        }
    }

    #[test]
    fn a_ramp_only_rises(ramp in 1..100 * SECOND, mut times in prop::collection::vec(0..120 * SECOND, 2..40)) {
        let policy = GatePolicy { ramp, ..POLICY };
        let mut gate = Gate::new();
        gate.report(&policy, START, &hold(SECOND));
        let end = START + SECOND;
        let number = probe(&mut gate, &policy, end);
        gate.report(&policy, end, &of_probe(number, CallOutcome::Ok));
        times.sort_unstable();
        let mut share = 0;
        for time in times {
            let next = match gate.admit(&policy, end + time) {
                GateAnswer::Ramp { share } => share,
                GateAnswer::Pass => FULL_SHARE,
                other => panic!("{other:?}"),
            };
            prop_assert!(next >= share && (100..=FULL_SHARE).contains(&next));
            prop_assert_eq!(next == FULL_SHARE, time >= ramp);
            share = next;
        }
    }

    #[test]
    fn no_words_panic(words in prop::array::uniform14(prop_oneof![any::<u64>(), 0..4 * SECOND])) {
        if let Some(mut gate) = Gate::from_words(words) {
            let _ = gate.admit(&POLICY, 2 * SECOND);
            gate.report(&POLICY, 2 * SECOND, &GateReport { ok: u64::MAX, faults: u64::MAX, hold: u64::MAX, probe: Some((words[3], CallOutcome::Fault)) });
        }
    }
}
