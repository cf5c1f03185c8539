//! The breaker against a naive one that is easy to read, and the promises that it makes alone.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::HashMap;

use proptest::prelude::*;
use tidegate_core::{Attempt, Breaker, BreakerPolicy, BreakerState};

/// The breaker's rules, written out naively, over a list of all outcomes since its last change.
struct Naive {
    policy: BreakerPolicy,
    state: BreakerState,
    /// The attempts whose outcome counts.
    live: Vec<usize>,
    /// The outcomes since the last change, in order.
    outcomes: Vec<bool>,
    /// The number of successes that ends the trial.
    trial: usize,
    bound: u64,
    until: u64,
    failing_since: Option<u64>,
}

impl Naive {
    fn attempt(&mut self, id: usize, now: u64) -> Result<bool, u64> {
        if self.state == BreakerState::Closed {
            self.live.push(id);
            return Ok(false);
        }
        if now < self.until {
            return Err(self.until);
        }
        self.until = now.saturating_add(self.policy.patience);
        self.state = BreakerState::HalfOpen;
        self.live = vec![id];
        Ok(true)
    }

    fn ended(&mut self, id: usize, success: bool, now: u64, random: u64) {
        let Some(at) = self.live.iter().position(|&live| live == id) else { return };
        self.live.remove(at);
        self.failing_since = if success { None } else { self.failing_since.or(Some(now)) };
        let needed = self.policy.failures.max(1) as usize;
        if self.state == BreakerState::Closed {
            self.outcomes.push(success);
            let on_trial = self.outcomes.iter().filter(|&&success| success).count() < self.trial;
            let in_a_row = self.outcomes.iter().rev().take_while(|&&success| !success).count();
            if !success && on_trial {
                self.open(self.bound.saturating_mul(2), now, random);
            } else if in_a_row >= needed {
                self.open(self.policy.first_wait, now, random);
            } else if !success {
                self.live.clear();
            }
        } else if success {
            (self.state, self.trial) = (BreakerState::Closed, needed);
            self.outcomes.clear();
            self.live.clear();
        } else {
            self.open(self.bound.saturating_mul(2), now, random);
        }
    }

    fn open(&mut self, bound: u64, now: u64, random: u64) {
        let first = self.policy.first_wait.max(1);
        self.bound = bound.min(self.policy.longest_wait.max(first)).max(first);
        let (half, whole) = (self.bound / 2, self.bound);
        let choices = u128::from(whole - half) + 1;
        // All 64-bit numbers are divided into `choices` equal parts; `random` lies in this one.
        let part = (u128::from(random) * choices) / (u128::from(u64::MAX) + 1);
        self.until = now.saturating_add(half + u64::try_from(part).unwrap());
        self.state = BreakerState::Open;
        self.live.clear();
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Attempt,
    /// One of the calls under way ends, with success or not.
    Ends(usize, bool),
    Abandoned(usize),
    Passes(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        5 => Just(Event::Attempt),
        // Mostly failures, because otherwise no breaker ever opens.
        4 => (any::<usize>(), prop::bool::weighted(0.25)).prop_map(|(at, ok)| Event::Ends(at, ok)),
        1 => any::<usize>().prop_map(Event::Abandoned),
        3 => prop_oneof![0..40u64, 0..2_000u64].prop_map(Event::Passes),
    ];
    prop::collection::vec(event, 1..200)
}

fn policy() -> impl Strategy<Value = BreakerPolicy> {
    (0..5u32, 0..50u64, 0..400u64, 0..100u64).prop_map(
        |(failures, first_wait, longest_wait, patience)| BreakerPolicy {
            failures,
            first_wait,
            longest_wait,
            patience,
        },
    )
}

proptest! {
    #[test]
    fn does_what_its_rules_say(
        policy in policy(),
        start in prop_oneof![Just(0), Just(1_764_000_000_000_000_000), u64::MAX - 3_000..],
        randoms in prop::collection::vec(any::<u64>(), 200),
        events in events(),
    ) {
        let mut breaker = Breaker::new(policy);
        let mut naive = Naive {
            policy,
            state: BreakerState::Closed,
            live: Vec::new(),
            outcomes: Vec::new(),
            trial: 0,
            bound: 0,
            until: 0,
            failing_since: None,
        };
        let mut under_way: Vec<(usize, Attempt)> = Vec::new();
        let mut now = start;
        for (id, (event, random)) in events.into_iter().zip(randoms).enumerate() {
            match event {
                Event::Passes(time) => now = now.saturating_add(time),
                Event::Attempt => {
                    let expected = naive.attempt(id, now);
                    let attempt = breaker.attempt(now);
                    let answer = attempt.as_ref().map(|attempt| attempt.is_probe).map_err(|until| *until);
                    prop_assert_eq!(answer, expected);
                    under_way.extend(attempt.ok().map(|attempt| (id, attempt)));
                }
                Event::Ends(_, _) | Event::Abandoned(_) if under_way.is_empty() => {}
                Event::Ends(at, success) => {
                    let (id, attempt) = under_way.remove(at % under_way.len());
                    naive.ended(id, success, now, random);
                    if success {
                        breaker.succeeded(attempt);
                    } else {
                        breaker.failed(attempt, now, random);
                    }
                }
                Event::Abandoned(at) => {
                    let (id, attempt) = under_way.remove(at % under_way.len());
                    if naive.live.contains(&id) && attempt.is_probe {
                        (naive.state, naive.until) = (BreakerState::Open, 0);
                    }
                    naive.live.retain(|&live| live != id);
                    breaker.abandoned(attempt);
                }
            }
            prop_assert_eq!(breaker.state(), naive.state);
            let closed = naive.state == BreakerState::Closed;
            prop_assert_eq!(breaker.retry_at(), (!closed).then_some(naive.until));
            prop_assert_eq!(breaker.failing_since(), naive.failing_since);
            let successes = naive.outcomes.iter().filter(|&&success| success).count();
            let sound = naive.state == BreakerState::Closed
                && successes >= naive.trial
                && naive.outcomes.last() != Some(&false);
            prop_assert_eq!(breaker.is_sound(), sound);
        }
    }

    /// However often the breaker is asked, it lets calls to something dead through no more often
    /// than the waits allow.
    #[test]
    fn the_dead_are_left_alone(
        randoms in prop::collection::vec(any::<u64>(), 400),
        gaps in prop::collection::vec(0..30u64, 400),
    ) {
        let policy = BreakerPolicy { failures: 3, first_wait: 50, longest_wait: 400, patience: 100 };
        let mut breaker = Breaker::new(policy);
        let (mut now, mut asked) = (0, Vec::new());
        for (gap, random) in gaps.into_iter().zip(randoms) {
            now += gap;
            if let Ok(attempt) = breaker.attempt(now) {
                asked.push(now);
                breaker.failed(attempt, now, random);
            }
        }
        let bounds = [50, 100, 200, 400].into_iter().chain(core::iter::repeat(400));
        for (pair, bound) in asked.windows(2).skip(2).zip(bounds) {
            let waited = pair[1] - pair[0];
            prop_assert!((bound / 2..=bound + 30).contains(&waited), "{waited} of {bound}");
        }
    }
}

/// The nodes of a fleet whose breakers opened together probe again spread over half of the wait.
#[test]
fn probes_of_a_fleet_are_spread() {
    let policy =
        BreakerPolicy { failures: 1, first_wait: 1_000, longest_wait: 1_000, patience: 10 };
    let mut by_tenth: HashMap<u64, u32> = HashMap::new();
    for node in 0..10_000u64 {
        let mut breaker = Breaker::new(policy);
        let attempt = breaker.attempt(0).unwrap();
        // The multiples of an odd number are spread evenly over all 64-bit numbers.
        breaker.failed(attempt, 0, node.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let until = breaker.attempt(0).unwrap_err();
        assert!((500..=1_000).contains(&until), "{until}");
        *by_tenth.entry((until - 500) / 50).or_default() += 1;
    }
    for tenth in 0..10 {
        assert!((900..=1_100).contains(&by_tenth[&tenth]), "{by_tenth:?}");
    }
}

#[test]
fn names() {
    let states = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
    assert_eq!(states.map(BreakerState::as_str), ["closed", "open", "half_open"]);
}
