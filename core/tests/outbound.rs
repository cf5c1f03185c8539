//! Properties of outbound calls: each has one end, no request leaves without tokens of its own and a
//! permit, nothing happens beyond the deadline, every hold is reported, and the load stays bounded.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_core::{
    CallEvent, CallStep, CallTerms, GiveUp, OutboundCall, Profile, RetryBudget, RetryPolicy,
    Signal, TransportFailure,
};

const SECOND: u64 = 1_000_000_000;

/// What the vendor does with a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Responds { status: u16, hold_ms: u64 },
    Fails(TransportFailure),
}

/// What a host answers to the steps, one after the other.
#[derive(Clone, Copy, Debug)]
struct Turn {
    fate: Fate,
    takes: u64,
    is_denied: bool,
    is_cancelled: bool,
    random: u64,
}

fn fate() -> impl Strategy<Value = Fate> {
    let statuses = prop::sample::select(vec![200_u16, 204, 400, 404, 429, 500, 503]);
    let failures = prop::sample::select(vec![
        TransportFailure::NotSent,
        TransportFailure::TimedOut,
        TransportFailure::Broken,
        TransportFailure::Permanent,
    ]);
    prop_oneof![
        3 => (statuses, prop_oneof![Just(0_u64), 1_u64..5_000])
            .prop_map(|(status, hold_ms)| Fate::Responds { status, hold_ms }),
        1 => failures.prop_map(Fate::Fails),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    (fate(), 0..3 * SECOND, 0_u8..20, 0_u8..40, any::<u64>()).prop_map(
        |(fate, takes, denied, cancelled, random)| Turn {
            fate,
            takes,
            is_denied: denied == 0,
            is_cancelled: cancelled == 0,
            random,
        },
    )
}

fn terms() -> impl Strategy<Value = CallTerms> {
    let deadline = prop_oneof![Just(u64::MAX), 0..20 * SECOND];
    let attempt_timeout = prop_oneof![Just(u64::MAX), 1..2 * SECOND];
    (0_u32..6, 0..3 * SECOND, deadline, attempt_timeout, any::<[bool; 3]>()).prop_map(
        |(attempts, base, deadline, attempt_timeout, [permit, repeatable, idempotent])| CallTerms {
            policy: RetryPolicy { attempts, base, longest: 20 * SECOND },
            deadline,
            attempt_timeout,
            needs_permit: permit,
            is_repeatable: repeatable,
            is_idempotent: idempotent,
        },
    )
}

fn with_signal<T>(status: u16, hold_ms: u64, run: impl FnOnce(&Signal<'_>) -> T) -> T {
    let wait = hold_ms.to_string();
    let wait_of_success = format!("{}.{:03}s", hold_ms / 1_000, hold_ms % 1_000);
    if hold_ms == 0 {
        run(&Signal::parse(status, [("a", "b")], &Profile::GENERIC, 0))
    } else if status < 300 {
        // A spent limit counts with a success, and a wait does not.
        let headers = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", &*wait_of_success)];
        run(&Signal::parse(status, headers, &Profile::GENERIC, 0))
    } else {
        run(&Signal::parse(status, [("retry-after-ms", &*wait)], &Profile::GENERIC, 0))
    }
}

/// The end of a call that a host drove, and the time.
fn drive(
    terms: CallTerms,
    turns: &[Turn],
    budget: &RetryBudget,
) -> Result<(CallStep, u64), TestCaseError> {
    let mut call = OutboundCall::new(terms);
    let (mut now, mut tokens, mut permits, mut sends) = (0_u64, 0_u32, 0_u32, 0_u32);
    let mut hold_due: Option<CallStep> = None;
    let mut step = call.start(now);
    let mut turns = turns.iter().cycle();
    for _ in 0..1_000 {
        if let Some(hold) = hold_due.take() {
            prop_assert_eq!(step, hold);
        }
        let Some(turn) = turns.next() else { break };
        let within = |bound: u64| turn.takes.min(bound);
        let mut event = CallEvent::Done;
        match step {
            CallStep::Permit { max_wait } | CallStep::Acquire { max_wait } => {
                prop_assert!(now < terms.deadline);
                if terms.deadline < u64::MAX {
                    prop_assert_eq!(max_wait, terms.deadline - now);
                }
                now += within(max_wait);
                event = if turn.is_denied { CallEvent::Denied } else { CallEvent::Granted };
                if event == CallEvent::Granted {
                    if matches!(step, CallStep::Permit { .. }) {
                        permits += 1;
                    } else {
                        prop_assert_eq!(permits, u32::from(terms.needs_permit));
                        tokens += 1;
                    }
                }
            }
            CallStep::Send { timeout } => {
                prop_assert!(now < terms.deadline && timeout <= terms.attempt_timeout);
                prop_assert!(timeout <= terms.deadline - now || terms.deadline == u64::MAX);
                prop_assert_eq!(tokens, 1);
                prop_assert_eq!(permits, u32::from(terms.needs_permit));
                tokens -= 1;
                sends += 1;
                prop_assert!(sends <= terms.policy.attempts.max(1));
                now += within(timeout);
                if turn.is_cancelled {
                    step = call.next(CallEvent::Cancelled, now, turn.random, budget);
                    continue;
                }
                step = match turn.fate {
                    Fate::Responds { status, hold_ms } => with_signal(status, hold_ms, |signal| {
                        let hold = CallStep::Hold { scope: signal.scope, duration: signal.hold };
                        hold_due = (signal.hold > 0).then_some(hold);
                        call.next(CallEvent::Response(signal), now, turn.random, budget)
                    }),
                    Fate::Fails(failure) => {
                        call.next(CallEvent::Failed(failure), now, turn.random, budget)
                    }
                };
                continue;
            }
            CallStep::Release => {
                prop_assert_eq!(permits, 1);
                permits -= 1;
            }
            CallStep::Hold { .. } => now += turn.takes / 100,
            CallStep::Sleep(wait) => {
                prop_assert_eq!(permits, 0);
                prop_assert!(wait > 0 && now + wait < terms.deadline);
                now += wait;
            }
            CallStep::Return => {
                prop_assert_eq!(permits, u32::from(call.has_permit()));
                break;
            }
            CallStep::GiveUp(_) => {
                prop_assert_eq!(permits, 0);
                break;
            }
        }
        let event = if turn.is_cancelled { CallEvent::Cancelled } else { event };
        if event == CallEvent::Cancelled {
            // What was granted at this moment is the host's to give back.
            (tokens, permits) = (0, u32::from(call.has_permit()));
        }
        step = call.next(event, now, turn.random, budget);
    }
    prop_assert!(step.is_end());
    prop_assert_eq!(call.sends(), sends);
    // The end is an end, whatever comes.
    for event in [CallEvent::Granted, CallEvent::Done, CallEvent::Cancelled] {
        prop_assert_eq!(call.next(event, now, 0, budget), step);
    }
    Ok((step, now))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_call_has_one_end_and_keeps_its_rules(terms in terms(), turns in vec(turn(), 1..30)) {
        let budget = RetryBudget::new(100, 100);
        let (end, now) = drive(terms, &turns, &budget)?;
        if end == CallStep::GiveUp(GiveUp::Deadline) {
            prop_assert!(terms.deadline < u64::MAX);
        }
        // Only the storing of a hold may take longer than the deadline.
        prop_assert!(now <= terms.deadline.saturating_add(SECOND));
    }

    /// A host that confuses its events never sends without tokens taken for it.
    #[test]
    fn no_event_out_of_order_sends(terms in terms(), events in vec((0_u8..6, 0..30 * SECOND), 1..40)) {
        let budget = RetryBudget::default();
        let mut call = OutboundCall::new(terms);
        let mut step = call.start(0);
        for (event, now) in events {
            let event = match event {
                0 => CallEvent::Granted,
                1 => CallEvent::Denied,
                2 => CallEvent::Failed(TransportFailure::Broken),
                3 => CallEvent::Cancelled,
                _ => CallEvent::Done,
            };
            let before = step;
            step = call.next(event, now, 7, &budget);
            if matches!(step, CallStep::Send { .. }) {
                let was_acquire = matches!(before, CallStep::Acquire { .. });
                prop_assert!(was_acquire && event == CallEvent::Granted && now < terms.deadline);
            }
        }
    }
}

/// The vendor gets at most 1.1 requests for each of 100,000 calls that all fail, made by 8 callers, each
/// of which has a budget of its own.
#[test]
fn total_failure_offers_at_most_1_1_requests_for_each_call() {
    let kinds = [
        Fate::Responds { status: 503, hold_ms: 0 },
        Fate::Responds { status: 500, hold_ms: 0 },
        Fate::Responds { status: 503, hold_ms: 1_000 },
        Fate::Responds { status: 429, hold_ms: 0 },
        Fate::Fails(TransportFailure::TimedOut),
        Fate::Fails(TransportFailure::NotSent),
    ];
    let calls_each = 100_000 / 8;
    let mut total = 0;
    for caller in 0..8_usize {
        let budget = RetryBudget::default();
        let mut sends = 0;
        for number in 0..calls_each {
            let fate = kinds[(caller + number) % kinds.len()];
            let random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let turn = Turn { fate, takes: 0, is_denied: false, is_cancelled: false, random };
            sends += sends_of(&turn, &budget);
        }
        assert!(sends * 10 <= calls_each as u32 * 11, "{sends}");
        total += sends;
    }
    assert!(total > 105_000, "retries are made at all: {total}");
    assert!(total <= 110_000, "{total}");
}

fn sends_of(turn: &Turn, budget: &RetryBudget) -> u32 {
    let mut call = OutboundCall::new(CallTerms::DEFAULT);
    let mut step = call.start(0);
    while !step.is_end() {
        step = match (step, turn.fate) {
            (CallStep::Acquire { .. }, _) => call.next(CallEvent::Granted, 0, 0, budget),
            (CallStep::Send { .. }, Fate::Responds { status, hold_ms }) => {
                with_signal(status, hold_ms, |signal| {
                    call.next(CallEvent::Response(signal), 0, turn.random, budget)
                })
            }
            (CallStep::Send { .. }, Fate::Fails(failure)) => {
                call.next(CallEvent::Failed(failure), 0, turn.random, budget)
            }
            (_, _) => call.next(CallEvent::Done, 0, 0, budget),
        };
    }
    call.sends()
}

#[test]
fn a_call_that_may_not_happen_twice_is_repeated_only_if_it_did_not_happen() {
    let not_idempotent = CallTerms { is_idempotent: false, ..CallTerms::DEFAULT };
    let not_repeatable = CallTerms { is_repeatable: false, ..CallTerms::DEFAULT };
    let cases = [
        (Fate::Responds { status: 429, hold_ms: 0 }, true),
        (Fate::Responds { status: 503, hold_ms: 0 }, true),
        (Fate::Responds { status: 500, hold_ms: 0 }, false),
        (Fate::Fails(TransportFailure::NotSent), true),
        (Fate::Fails(TransportFailure::TimedOut), false),
        (Fate::Fails(TransportFailure::Broken), false),
    ];
    for (fate, is_repeated) in cases {
        let turn = Turn { fate, takes: 0, is_denied: false, is_cancelled: false, random: 0 };
        let sends = |terms| {
            let mut sends = 0;
            let budget = RetryBudget::default();
            let mut call = OutboundCall::new(terms);
            call.start(0);
            let step = call.next(CallEvent::Granted, 0, 0, &budget);
            sends += u32::from(matches!(step, CallStep::Send { .. }));
            let step = match turn.fate {
                Fate::Responds { status, hold_ms } => with_signal(status, hold_ms, |signal| {
                    call.next(CallEvent::Response(signal), 0, 0, &budget)
                }),
                Fate::Fails(failure) => call.next(CallEvent::Failed(failure), 0, 0, &budget),
            };
            (sends, step)
        };
        let again = CallStep::Acquire { max_wait: u64::MAX };
        let never = CallStep::GiveUp(GiveUp::Unrepeatable);
        assert_eq!(sends(CallTerms::DEFAULT), (1, again), "{fate:?}");
        assert_eq!(sends(not_repeatable), (1, never), "{fate:?}");
        assert_eq!(sends(not_idempotent), (1, if is_repeated { again } else { never }), "{fate:?}");
    }
}

/// The stale call costs nothing: its deadline is looked at before tokens are taken.
#[test]
fn a_stale_call_takes_no_tokens() {
    let mut call = OutboundCall::new(CallTerms { deadline: 5, ..CallTerms::DEFAULT });
    assert_eq!(call.start(5), CallStep::GiveUp(GiveUp::Deadline));
}

#[test]
fn a_method_tells_whether_a_call_may_happen_twice() {
    for method in ["GET", "head", "Put", "DELETE", "OPTIONS", "TRACE", "QUERY"] {
        assert!(CallTerms::is_idempotent_method(method, false), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "", "GETS"] {
        assert!(!CallTerms::is_idempotent_method(method, false), "{method}");
        assert!(CallTerms::is_idempotent_method(method, true), "{method}");
    }
}
