//! A slice spends the tokens that it was granted, while it lives, and no more.
#![allow(missing_docs, clippy::unwrap_used)]

use proptest::prelude::*;
use tidegate_core::{Grant, LeaseError, LeaseTerms, Limit, Next, ShareKind, Slice, SpendResult};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const START: u64 = 1_764_000_000 * SECOND;

fn terms(ttl: u64) -> LeaseTerms {
    LeaseTerms::new(&[Limit::parse("100/s").unwrap()], ttl, 1_000).unwrap()
}

fn grant(tokens: u64, pace: u64, most: u64) -> Grant {
    Grant { tokens, pace: pace * 1_000, most, share: ShareKind::Fair, hold: 0 }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Spend(u64),
    Ask,
    Answer(Grant),
    Fail,
    Leave,
    Direct(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let share = prop::sample::select(vec![
        ShareKind::Whole,
        ShareKind::Fair,
        ShareKind::Short,
        ShareKind::None,
    ]);
    let hold = prop_oneof![9 => Just(0), 1 => (1..3_000u64).prop_map(|ms| ms * MILLI)];
    let answer = (0..200u64, 0..400_000u64, 0..200u64, share, hold).prop_map(
        |(tokens, pace, most, share, hold)| {
            // The bucket grants no tokens without a share, and none while it is paused.
            let tokens = if share == ShareKind::None || hold > 0 { 0 } else { tokens };
            Grant { tokens, pace, most: most.max(1), share, hold }
        },
    );
    prop_oneof![
        6 => (0..200 * MILLI).prop_map(Step::Wait),
        1 => (0..3 * SECOND).prop_map(Step::Wait),
        12 => (0..3u64).prop_map(Step::Spend),
        1 => any::<u64>().prop_map(Step::Spend),
        3 => Just(Step::Ask),
        4 => answer.prop_map(Step::Answer),
        1 => Just(Step::Fail),
        1 => Just(Step::Leave),
        1 => (0..50u64).prop_map(Step::Direct),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Compares the slice with a purse: the tokens granted less those given back, which is emptied
    /// when the slice lapses.
    #[test]
    fn spends_only_what_it_was_given(steps in prop::collection::vec(step(), 1..200)) {
        let terms = terms(SECOND);
        let (mut now, mut slice) = (START, Slice::new(terms, START));
        let (mut purse, mut until, mut pause) = (0, 0, 0);
        let mut asked = None;
        for step in steps {
            if now >= until {
                purse = 0;
            }
            match step {
                Step::Wait(time) => now += time,
                Step::Spend(cost) => {
                    let peeked = slice.peek(now, cost);
                    let spent = slice.spend(now, cost);
                    prop_assert_eq!(peeked, spent);
                    match spent {
                        SpendResult::Allowed { remaining, .. } => {
                            prop_assert!(cost > 0 && now < until && now >= pause);
                            prop_assert!(cost <= purse, "{cost} of {purse}");
                            purse -= cost;
                            prop_assert!(remaining <= purse);
                        }
                        SpendResult::Refused { remaining, retry_after, .. } => {
                            prop_assert!(retry_after > 0 && now < until && remaining <= purse);
                        }
                        SpendResult::Outside => {}
                    }
                }
                Step::Ask => {
                    if asked.is_none() {
                        let ask = slice.ask(now);
                        prop_assert!(ask.want > 0 && ask.returned <= purse);
                        purse -= ask.returned;
                        prop_assert!(ask.held <= purse);
                        asked = Some(now);
                    }
                }
                Step::Answer(grant) => {
                    if let Some(at) = asked.take() {
                        slice.granted(now, &grant);
                        purse += grant.tokens;
                        until = if grant.share == ShareKind::None { 0 } else { at + terms.ttl() };
                        if grant.hold > 0 && grant.share != ShareKind::None {
                            purse = 0;
                            pause = pause.max(now + grant.hold);
                        }
                    }
                }
                Step::Fail => {
                    if asked.take().is_some() {
                        slice.failed();
                    }
                }
                Step::Leave => {
                    let returned = slice.leave(now);
                    prop_assert!(returned <= purse);
                    (purse, until, pause, asked) = (0, 0, 0, None);
                }
                Step::Direct(tokens) => slice.answered_directly(now, tokens, true),
            }
        }
    }

    /// However calls come, no second holds more tokens than the grant allows.
    #[test]
    fn gives_out_no_more_in_any_second(
        gaps in prop::collection::vec(0..40 * MILLI, 1..400),
        pace in 1..60u64,
        more in 0..3u64,
    ) {
        let (mut now, mut slice) = (START, Slice::new(terms(SECOND), START));
        let mut spent: Vec<u64> = Vec::new();
        let most = pace + more;
        let mut refresh = now;
        for gap in gaps {
            if now >= refresh {
                slice.ask(now);
                slice.granted(now, &grant(100, pace, most));
                refresh = now + SECOND / 4;
            }
            now += gap;
            if let SpendResult::Allowed { .. } = slice.spend(now, 1) {
                spent.push(now);
                let within = spent.iter().filter(|at| now - **at < SECOND).count() as u64;
                prop_assert!(within <= most, "{within} of {most}");
            }
        }
    }
}

/// A slice that has just been granted `tokens` tokens.
fn warm(now: u64, tokens: u64, pace: u64) -> Slice {
    // The slice has watched the key for a 20th of the ttl.
    let began = now - SECOND / 20;
    let mut slice = Slice::new(terms(SECOND), began);
    assert_eq!(slice.spend(began, 1), SpendResult::Outside);
    assert_eq!(slice.next(now), Next::Nothing);
    assert_eq!(slice.spend(began + 1, 1), SpendResult::Outside);
    assert_eq!(slice.next(now - 1), Next::Nothing);
    assert_eq!(slice.next(now), Next::Ask);
    let ask = slice.ask(now);
    assert!(ask.is_new && ask.held == 0 && ask.returned == 0);
    assert_eq!(slice.next(now + 10 * SECOND), Next::Nothing, "an answer is still to come");
    slice.granted(now, &grant(tokens, pace, 2 * pace));
    slice
}

#[test]
fn retry_after_is_enough_and_needed() {
    let mut slice = warm(START, 50, 20);
    let mut now = START;
    for _ in 0..30 {
        match slice.spend(now, 1) {
            SpendResult::Allowed { .. } => {}
            SpendResult::Refused { retry_after, .. } => {
                let mut early = slice;
                let before = now + retry_after - 1;
                assert!(!matches!(early.spend(before, 1), SpendResult::Allowed { .. }));
                now += retry_after;
                if now >= START + SECOND {
                    break; // The slice lapses before that.
                }
                assert!(matches!(slice.spend(now, 1), SpendResult::Allowed { .. }), "at {now}");
            }
            SpendResult::Outside => break,
        }
    }
    assert!(now > START + SECOND / 2, "it was paced");
}

#[test]
fn tokens_spent_directly_count_against_the_pace() {
    let ready_after = |direct: u64| {
        let mut slice = Slice::new(terms(SECOND), START);
        slice.spend(START, 2);
        slice.answered_directly(START, direct, true);
        slice.ask(START);
        slice.granted(START, &grant(50, 20, 40));
        match slice.spend(START, 1) {
            SpendResult::Refused { retry_after, .. } => retry_after,
            _ => 0,
        }
    };
    assert_eq!(ready_after(2), ready_after(0) + 2 * SECOND / 20);
}

#[test]
fn a_falling_demand_is_reported_at_once_and_gives_tokens_back() {
    let mut slice = warm(START, 90, 90);
    let mut now = START;
    while now < START + SECOND / 2 {
        now += SECOND / 90;
        slice.spend(now, 1);
        if slice.next(now) == Next::Ask {
            let tokens = 90 - slice.ask(now).held;
            slice.granted(now, &grant(tokens, 90, 180));
        }
    }
    // No more calls come.
    let silent_from = now;
    while slice.next(now) != Next::Ask {
        now += terms(SECOND).tick(0);
    }
    assert!(now - silent_from <= SECOND / 4, "{} ms", (now - silent_from) / MILLI);
    let ask = slice.ask(now);
    assert!(ask.want < 30_000 && ask.returned > 40, "{ask:?}");
    slice.granted(now, &grant(0, 10, 11));
    while slice.next(now) != Next::Leave {
        if slice.next(now) == Next::Ask {
            slice.ask(now);
            slice.granted(now, &grant(0, 10, 11));
        }
        now += terms(SECOND).tick(0);
        assert!(now < silent_from + 3 * SECOND);
    }
}

#[test]
fn a_cold_key_is_forgotten_and_asks_for_nothing() {
    let mut slice = Slice::new(terms(SECOND), START);
    slice.spend(START, 1);
    let later = START + 4 * SECOND;
    assert_eq!(slice.next(later), Next::Forget);
}

#[test]
fn a_failed_request_is_repeated_but_not_at_once() {
    let mut slice = warm(START, 50, 50);
    let at = START + SECOND / 2;
    assert_eq!(slice.next(at), Next::Ask);
    slice.ask(at);
    slice.failed();
    assert_eq!(slice.next(at + MILLI), Next::Nothing);
    assert!(
        matches!(slice.spend(at + MILLI, 1), SpendResult::Allowed { .. }),
        "what it holds is good"
    );
    assert_eq!(slice.next(at + SECOND / 4), Next::Ask);
    assert_eq!(slice.spend(START + SECOND, 1), SpendResult::Outside, "it has lapsed");
}

#[test]
fn costs_above_what_the_slice_ever_spends_at_once_go_to_the_bucket() {
    let mut slice = warm(START, 50, 20);
    assert_eq!(slice.spend(START + SECOND / 2, 7), SpendResult::Outside);
    assert!(matches!(slice.spend(START + SECOND / 2, 6), SpendResult::Allowed { .. }));
    assert_eq!(slice.spend(START + SECOND / 2, 0), SpendResult::Outside);
    assert_eq!(slice.spend(START + SECOND / 2, u64::MAX), SpendResult::Outside);
}

#[test]
fn terms_have_bounds() {
    let limits = |text: &str| [Limit::parse(text).unwrap()];
    let new = |text: &str, ttl: u64, most: u64| LeaseTerms::new(&limits(text), ttl, most);
    assert_eq!(new("100/s", 100 * MILLI - 1, 1_000), Err(LeaseError::Ttl));
    assert_eq!(new("100/s", 60 * SECOND + MILLI, 1_000), Err(LeaseError::Ttl));
    assert_eq!(new("100/s", SECOND + 1, 1_000), Err(LeaseError::Ttl));
    assert_eq!(new("100/s", SECOND, 0), Err(LeaseError::MaxShare));
    assert_eq!(new("100/s", SECOND, 1_001), Err(LeaseError::MaxShare));
    assert_eq!(new("99/10s", SECOND, 1_000), Err(LeaseError::TooFewTokens));
    assert_eq!(new("10/s", SECOND, 1_000).unwrap().rate(), 10_000);
    assert_eq!(new("200000000/s burst 9", SECOND, 1_000), Err(LeaseError::RateTooHigh));
    assert_eq!(new("100000000/s burst 9", SECOND, 1).unwrap().max_rate(), 100_000_000);
    // The limit that refills fastest sets the pace.
    let tiers = [Limit::parse("1000/d").unwrap(), Limit::parse("50/s").unwrap()];
    let terms = LeaseTerms::new(&tiers, SECOND, 500).unwrap();
    assert_eq!((terms.tier(), terms.rate(), terms.max_rate()), (1, 50_000, 25_000));
    for error in
        [LeaseError::Ttl, LeaseError::MaxShare, LeaseError::TooFewTokens, LeaseError::RateTooHigh]
    {
        assert!(!error.to_string().is_empty());
    }
}
