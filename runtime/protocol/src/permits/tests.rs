//! The permits against a naive model of them, and desks of several processes over one store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use std::collections::{BTreeMap, VecDeque};

use tidegate_core::{
    PermitAnswer, PermitAsk, PermitHolder, PermitState, PermitWaiter, decide_permit,
};

use super::{
    DeskOptions, PermitAction, PermitDesk, PermitReply, PermitSet, PermitStep, PermitTerms,
};
use crate::error::Error;

const SECOND: u64 = 1_000_000_000;

/// A small generator of numbers, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Permits as plain lists, asked by the rule as the documentation has it.
#[derive(Default)]
struct Naive {
    held: Vec<(String, u64)>,
    line: Vec<(String, u64)>,
}

impl Naive {
    fn step(&mut self, terms: &PermitTerms, step: &PermitStep, now: u64) -> PermitAnswer {
        let PermitStep { ask, id } = step;
        self.held.retain(|(_, until)| *until > now);
        self.line.retain(|(_, until)| *until > now);
        let held = self.held.iter().position(|(other, _)| other == id);
        let place = self.line.iter().position(|(other, _)| other == id);
        match (ask, held, place) {
            (PermitAsk::Leave, ..) => {
                self.held.retain(|(other, _)| other != id);
                self.line.retain(|(other, _)| other != id);
                PermitAnswer::Left { was_here: held.is_some() || place.is_some() }
            }
            (_, Some(held), _) => {
                let until = &mut self.held[held].1;
                *until = (*until).max(now.saturating_add(terms.ttl));
                PermitAnswer::Entered
            }
            (PermitAsk::Renew, None, _) => PermitAnswer::Lost,
            (PermitAsk::Enter | PermitAsk::TryEnter, None, place) => {
                let before = place.unwrap_or(self.line.len()) as u64;
                if self.held.len() as u64 + before < terms.limit {
                    self.line.retain(|(other, _)| other != id);
                    self.held.push((id.clone(), now.saturating_add(terms.ttl)));
                    return PermitAnswer::Entered;
                }
                match place {
                    _ if *ask == PermitAsk::TryEnter => PermitAnswer::Full,
                    Some(place) => {
                        let until = &mut self.line[place].1;
                        *until = (*until).max(now.saturating_add(terms.wait));
                        PermitAnswer::Waiting { ahead: before }
                    }
                    None if (self.line.len() as u64) < terms.max_line => {
                        self.line.push((id.clone(), now.saturating_add(terms.wait)));
                        PermitAnswer::Waiting { ahead: before }
                    }
                    None => PermitAnswer::Full,
                }
            }
        }
    }
}

#[test]
fn permits_do_what_a_naive_model_does() {
    let mut random = Random(7);
    let (mut set, mut naive) = (PermitSet::default(), Naive::default());
    let mut now = 1_000 * SECOND;
    let mut terms = PermitTerms { limit: 3, ttl: 10 * SECOND, wait: 4 * SECOND, max_line: 6 };
    let (mut entered, mut lost, mut full) = (0, 0, 0);
    for _ in 0..100_000 {
        now += random.below(2 * SECOND);
        match random.below(40) {
            // The clock steps back, and the number of permits changes.
            0 => now -= random.below(20 * SECOND),
            1 => terms.limit = random.below(6),
            2 => terms.max_line = random.below(8),
            _ => {}
        }
        let ask = match random.below(8) {
            0..4 => PermitAsk::Enter,
            4 => PermitAsk::TryEnter,
            5 => PermitAsk::Renew,
            _ => PermitAsk::Leave,
        };
        let step = PermitStep { ask, id: random.below(12).to_string() };
        let reply = set.run(&terms, core::slice::from_ref(&step), now);
        let (live, line) = (set.holders(), set.waiters());
        let expected = naive.step(&terms, &step, now);
        assert_eq!(reply.answers, [expected]);
        let ends = live.iter().map(|it| it.until).chain(line.iter().map(|it| it.until));
        let next = ends.min().map(|until| until - now);
        assert_eq!(
            (reply.live, reply.line, reply.next),
            (naive.held.len() as u64, naive.line.len() as u64, next,)
        );
        let order: Vec<_> = line.iter().map(|it| it.id.clone()).collect();
        assert_eq!(order, naive.line.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
        match expected {
            PermitAnswer::Entered => entered += 1,
            PermitAnswer::Lost => lost += 1,
            PermitAnswer::Full => full += 1,
            PermitAnswer::Waiting { .. } | PermitAnswer::Left { .. } => {}
        }
    }
    assert!(entered > 10_000 && lost > 5_000 && full > 500, "{entered} {lost} {full}");
}

#[test]
fn the_core_decides_from_lists_what_the_set_decides() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let now = 100;
        let holder = |id| PermitHolder { id, until: 95 + id % 12 };
        let holders: Vec<_> = (0..random.below(5)).map(holder).collect();
        let waiters: Vec<_> = (10..10 + random.below(5))
            .map(|id| PermitWaiter { id, order: 20 - id, until: 97 + random.below(8) })
            .collect();
        let id = random.below(16);
        let state = PermitState::of(&id, holders.iter().copied(), waiters.iter().copied(), now);
        let live = holders.iter().filter(|it| it.until > now).count() as u64;
        let alive: Vec<_> = waiters.iter().filter(|it| it.until > now).collect();
        let own = alive.iter().find(|it| it.id == id).map_or(u64::MAX, |it| it.order);
        let ahead = alive.iter().filter(|it| it.order < own).count() as u64;
        assert_eq!((state.live, state.line, state.ahead), (live, alive.len() as u64, ahead));
        let limit = random.below(6);
        let holds = holders.iter().any(|it| it.id == id && it.until > now);
        let enters = holds || ahead < limit.saturating_sub(live);
        let answer = decide_permit(&state, limit, 100, PermitAsk::Enter);
        assert_eq!(answer == PermitAnswer::Entered, enters, "{state:?}");
    }
}

/// A process of the simulation: its desk, and the calls that are on their way to the store or back.
struct Process {
    number: usize,
    desk: PermitDesk,
    /// The callers that believe to hold a permit, and when that ends for each.
    holding: BTreeMap<u64, u64>,
    waiting: BTreeMap<u64, u64>,
    out: VecDeque<OnItsWay>,
    back: VecDeque<(u64, u64, Result<PermitReply, Error>)>,
    calls: u64,
}

/// When a call reaches the store, its number and its steps.
type OnItsWay = (u64, u64, Vec<(PermitAsk, u64)>);

const OPTIONS: DeskOptions =
    DeskOptions { ttl: 6 * SECOND, wait: 5 * SECOND, limit: 3, is_shared: true };
const TERMS: PermitTerms =
    PermitTerms { limit: 3, ttl: 6 * SECOND, wait: 5 * SECOND, max_line: 1_000 };

impl Process {
    fn new(number: usize) -> Self {
        Self {
            number,
            desk: PermitDesk::new(OPTIONS),
            holding: BTreeMap::new(),
            waiting: BTreeMap::new(),
            out: VecDeque::new(),
            back: VecDeque::new(),
            calls: 0,
        }
    }

    fn take_actions(&mut self, now: u64, random: &mut Random) {
        while let Some(action) = self.desk.next_action() {
            match action {
                PermitAction::Call { call, steps } => {
                    self.calls += 1;
                    // Calls of one process go over one connection, in order.
                    let before = self.out.back().map_or(0, |(at, ..)| *at);
                    let at = before.max(now + 1 + random.below(20_000_000));
                    self.out.push_back((at, call, steps));
                }
                PermitAction::Answer { id, answer } => {
                    assert!(self.waiting.remove(&id).is_some(), "{id} is answered twice");
                    if answer != Ok(true) {
                        self.holding.remove(&id);
                    }
                }
                PermitAction::Lasts { id, until } => _ = self.holding.insert(id, until),
                PermitAction::Lost { id } => {
                    assert!(self.holding.remove(&id).is_some(), "{id} is lost and has none");
                }
                PermitAction::Left { .. } => {}
            }
        }
    }

    fn name(&self, id: u64) -> String {
        format!("{}-{id}", self.number)
    }
}

#[test]
fn desks_of_several_processes_never_hold_more_than_the_limit_and_serve_everybody() {
    for seed in 0..20 {
        simulate(seed, seed % 3 == 0);
    }
}

/// Runs processes whose store answers late, and loses calls if `is_lossy`; some of them crash.
fn simulate(seed: u64, is_lossy: bool) {
    let mut random = Random(seed);
    let mut set = PermitSet::default();
    let mut processes: Vec<Process> = (0..4).map(Process::new).collect();
    let mut now = 1_000 * SECOND;
    let (mut served, mut crashes) = (0, 0);
    for step in 0..40_000_u64 {
        now += random.below(4_000_000) + 1;
        let winding_down = step > 20_000;
        let place = random.below(4) as usize;
        let process = &mut processes[place];
        match random.below(12) {
            0 if !winding_down && process.waiting.len() + process.holding.len() < 8 => {
                let max_wait = match random.below(4) {
                    0 => 0,
                    1 => random.below(SECOND),
                    _ => u64::MAX,
                };
                let id = process.desk.enter(now, max_wait);
                process.waiting.insert(id, now);
            }
            1 => {
                if let Some((&id, _)) = process.holding.first_key_value() {
                    process.holding.remove(&id);
                    process.desk.leave(now, id);
                    served += 1;
                }
            }
            2 if random.below(30) == 0 && !winding_down => {
                if let Some((&id, _)) = process.waiting.last_key_value() {
                    process.waiting.remove(&id);
                    process.desk.leave(now, id);
                }
            }
            3 if random.below(400) == 0 && !winding_down => {
                // A crash: nothing of the process is left but what the store has.
                let number = process.number + 100;
                *process = Process::new(number);
                crashes += 1;
            }
            _ => {}
        }
        for process in &mut processes {
            while process.out.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, call, asked) = process.out.pop_front().unwrap();
                let fate = if is_lossy { random.below(40) } else { 9 };
                let timeout = || Err(Error::timeout(core::time::Duration::from_millis(50)));
                let reply = match fate {
                    0 => timeout(),
                    _ => {
                        let steps: Vec<_> = asked
                            .iter()
                            .map(|(ask, id)| PermitStep { ask: *ask, id: process.name(*id) })
                            .collect();
                        let reply = set.run(&TERMS, &steps, now);
                        if fate == 1 { timeout() } else { Ok(reply) }
                    }
                };
                process.back.push_back((now + 1 + random.below(10_000_000), call, reply));
            }
            while process.back.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, call, reply) = process.back.pop_front().unwrap();
                process.desk.answered(now, call, reply);
            }
            if process.desk.due().is_some_and(|due| due <= now) {
                process.desk.tick(now);
            }
            process.take_actions(now, &mut random);
        }
        let held = |process: &Process| process.holding.values().filter(|it| **it > now).count();
        let believed: usize = processes.iter().map(held).sum();
        assert!(believed <= 3, "seed {seed}: {believed} believe to hold a permit at {now}");
        let alive = set.holders().iter().filter(|it| it.until > now).count();
        assert!(alive <= 3, "seed {seed}: the store has {alive}");
    }
    let waiting: usize = processes.iter().map(|it| it.waiting.len()).sum();
    assert_eq!(waiting, 0, "seed {seed}: somebody waits for ever");
    assert!(served > 80, "seed {seed}: {served} served, {crashes} crashes");
    let seconds = (now - 1_000 * SECOND) / SECOND;
    for process in &processes {
        assert!(process.desk.is_idle(), "seed {seed}: {:?}", process.desk);
        // Two calls for each caller, and at most 20 polls a second beside renewals.
        assert!(process.calls < seconds * 60, "{} calls in {seconds} s", process.calls);
    }
}

#[test]
fn a_process_polls_at_most_twenty_times_a_second_and_less_while_nothing_moves() {
    let mut desk = PermitDesk::new(OPTIONS);
    let mut set = PermitSet::default();
    let holders: Vec<_> =
        (0..3).map(|id| PermitStep { ask: PermitAsk::Enter, id: format!("other-{id}") }).collect();
    let mut now = SECOND;
    set.run(&PermitTerms { ttl: 100 * SECOND, ..TERMS }, &holders, now);
    for _ in 0..100 {
        desk.enter(now, u64::MAX);
    }
    let mut polls = Vec::new();
    while now < 11 * SECOND {
        while let Some(action) = desk.next_action() {
            let PermitAction::Call { call, steps } = action else { panic!("{action:?}") };
            if steps.len() > 1 {
                polls.push(now);
            }
            let named = |(ask, id): &(PermitAsk, u64)| PermitStep { ask: *ask, id: id.to_string() };
            let steps: Vec<_> = steps.iter().map(named).collect();
            let reply = set.run(&TERMS, &steps, now);
            desk.answered(now, call, Ok(reply));
        }
        now = desk.due().unwrap();
        desk.tick(now);
    }
    let gaps: Vec<u64> = polls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(polls.len() < 60, "{} polls in 10 s", polls.len());
    assert!(gaps.iter().filter(|gap| **gap < 50_000_000).count() < 10, "{gaps:?}");
    assert!(desk.waiting() == 100);
}

#[test]
fn a_permit_that_cannot_be_renewed_is_lost_when_its_ttl_is_over() {
    let mut desk = PermitDesk::new(OPTIONS);
    let id = desk.enter(0, 0);
    let Some(PermitAction::Call { call, .. }) = desk.next_action() else { panic!("no call") };
    desk.answered(SECOND, call, Ok(PermitReply::of(vec![PermitAnswer::Entered])));
    // The ttl counts from when the permit was asked for.
    assert_eq!(desk.next_action(), Some(PermitAction::Lasts { id, until: 6 * SECOND }));
    assert_eq!(desk.next_action(), Some(PermitAction::Answer { id, answer: Ok(true) }));
    let mut renewals = 0;
    let lost_at = loop {
        let now = desk.due().unwrap();
        desk.tick(now);
        let mut lost = None;
        while let Some(action) = desk.next_action() {
            match action {
                PermitAction::Call { call, .. } => {
                    renewals += 1;
                    desk.answered(now, call, Err(Error::Store("down".into())));
                }
                PermitAction::Lost { .. } => lost = Some(now),
                PermitAction::Left { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        if let Some(now) = lost {
            break now;
        }
    };
    assert_eq!(lost_at, 6 * SECOND);
    assert!((2..12).contains(&renewals), "{renewals}");
}
