//! The waiting line beside the exact bucket, over random histories.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may stop")]

use std::collections::{BTreeMap, VecDeque};

use tidegate_core::{AnyLimit, Cells, Cost, Limit, Operation, Outcome, Reserved, Source, apply};

use super::slots::{Brought, Slot, Slots};
use super::tokens::Tokens;
use super::{Action, Asked, Cancelled, LOOK_AHEAD, Line, LineOptions};
use crate::error::Error;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;
const START: u64 = 1_000 * SECOND;
/// The largest cost of a random caller.
const MOST_COST: u64 = 6;

/// A generator of numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// What the store answers later.
enum Reply {
    Reserved(Asked, u64, Result<Reserved, Error>),
    Cancelled(Cancelled, Result<bool, Error>),
    Looked(u64, u64),
}

/// A bucket, the lines of several processes on it, and a network that delays.
struct World {
    limits: Vec<Limit>,
    cells: Cells,
    hold_end: u64,
    now: u64,
    /// The longest delay of the network, one way.
    latency: u64,
    random: Random,
    lines: Vec<Line>,
    /// Calls under way to the bucket, and replies under way back, by time of arrival.
    calls: BTreeMap<(u64, u64), (usize, u64, Action)>,
    replies: BTreeMap<(u64, u64), (usize, Reply)>,
    /// When the network hands over next, one way each, so that a connection keeps its order.
    last: Vec<(u64, u64)>,
    sequence: u64,
    /// Whether a caller has had costs that differ from limit to limit.
    is_mixed: bool,
    /// The largest cost that a caller has had, for each limit.
    most_costs: [u64; 4],
    /// Whether an answer sometimes finds its caller gone.
    loses_answers: bool,
    /// When tokens came back, and how many.
    returned: Vec<(u64, Cost)>,
    /// The holds of each line: the line, when it was held, and until when.
    holds: Vec<(usize, u64, u64)>,
    answers: Vec<Answered>,
    waiters: BTreeMap<(usize, u64), (u64, Cost, u64)>,
}

#[derive(Debug)]
struct Answered {
    line: usize,
    id: u64,
    at: u64,
    cost: Cost,
    deadline: u64,
    allowed: bool,
}

impl World {
    /// `limits` are joined by `; `.
    fn new(limits: &str, lines: usize, latency: u64, seed: u64) -> Self {
        let limits = limits.split("; ").map(|text| Limit::parse(text).expect("a limit"));
        let limits: Vec<_> = limits.collect();
        let source = if lines > 1 || latency > 0 { Source::Redis } else { Source::Memory };
        let all: Vec<_> = limits.iter().copied().map(AnyLimit::Rate).collect();
        let options = LineOptions::new(&all, source, 1_000);
        Self {
            limits,
            cells: Cells::default(),
            hold_end: 0,
            now: START,
            latency,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            lines: (0..lines).map(|_| Line::new(options)).collect(),
            calls: BTreeMap::new(),
            replies: BTreeMap::new(),
            last: vec![(0, 0); lines],
            sequence: 0,
            is_mixed: false,
            most_costs: [1; 4],
            loses_answers: false,
            returned: Vec::new(),
            holds: Vec::new(),
            answers: Vec::new(),
            waiters: BTreeMap::new(),
        }
    }

    fn arrive(&mut self, line: usize, cost: impl Into<Cost>, max_wait: u64) -> u64 {
        let cost = cost.into();
        self.is_mixed |= cost.uniform().is_none();
        for (tier, most) in self.most_costs.iter_mut().enumerate() {
            *most = cost.of_tier(tier).max(*most);
        }
        let id = self.lines[line].arrive(self.now, cost, max_wait);
        self.waiters.insert((line, id), (self.now, cost, self.now.saturating_add(max_wait)));
        self.act(line);
        id
    }

    fn leave(&mut self, line: usize, id: u64) {
        self.lines[line].leave(self.now, id);
        self.waiters.remove(&(line, id));
        self.act(line);
    }

    fn bucket(&mut self, operation: Operation) -> Outcome {
        apply(&self.limits, &mut self.cells, self.now, operation).expect("an outcome")
    }

    fn hold(&mut self, wait: u64, by: Option<usize>) {
        self.bucket(Operation::Hold { wait });
        self.hold_end = self.hold_end.max(self.now + wait);
        if let Some(line) = by {
            self.holds.push((line, self.now, self.now + wait));
            self.lines[line].held(self.now, self.now + wait);
            self.act(line);
        }
    }

    /// Carries out the actions of a line.
    fn act(&mut self, line: usize) {
        while let Some(action) = self.lines[line].next_action() {
            match action {
                Action::Answer { id, answer } => {
                    let Some((_, cost, deadline)) = self.waiters.remove(&(line, id)) else {
                        panic!("{id} of line {line} is answered although it does not wait");
                    };
                    let allowed = answer.expect("no failure").allowed;
                    let at = self.now;
                    if allowed && self.loses_answers && self.random.one_in(8) {
                        let left = self.lines[line].unclaimed(at, cost);
                        self.returned.push((at, cost));
                        self.bucket(Operation::Credit { tokens: left });
                        continue;
                    }
                    self.answers.push(Answered { line, id, at, cost, deadline, allowed });
                }
                call => {
                    let delay = self.random.below(self.latency + 1);
                    let at = (self.now + delay).max(self.last[line].0);
                    self.last[line].0 = at;
                    self.sequence += 1;
                    self.calls.insert((at, self.sequence), (line, self.now, call));
                    if self.latency == 0 {
                        self.deliver();
                    }
                }
            }
        }
    }

    /// Hands over what has arrived by now.
    fn deliver(&mut self) {
        loop {
            if let Some((&(at, _), _)) = self.calls.first_key_value()
                && at <= self.now
            {
                let Some((_, (line, sent, call))) = self.calls.pop_first() else { return };
                let reply = self.answer(sent, call);
                let delay = self.random.below(self.latency + 1);
                let at = (self.now + delay).max(self.last[line].1);
                self.last[line].1 = at;
                self.sequence += 1;
                self.replies.insert((at, self.sequence), (line, reply));
                continue;
            }
            if let Some((&(at, _), _)) = self.replies.first_key_value()
                && at <= self.now
            {
                let Some((_, (line, reply))) = self.replies.pop_first() else { return };
                let (machine, now) = (&mut self.lines[line], self.now);
                match reply {
                    Reply::Reserved(asked, sent, answer) => {
                        machine.reserved(now, sent, asked, answer)
                    }
                    Reply::Cancelled(cancelled, answer) => {
                        machine.cancelled(now, cancelled, answer)
                    }
                    Reply::Looked(sent, held) => machine.looked(now, sent, Ok(held)),
                }
                self.act(line);
                continue;
            }
            return;
        }
    }

    fn answer(&mut self, sent: u64, call: Action) -> Reply {
        match call {
            Action::Reserve(asked) => {
                let Outcome::Reserved(reserved) = self.bucket(asked.operation()) else { panic!() };
                Reply::Reserved(asked, sent, Ok(reserved))
            }
            Action::Cancel(cancelled) => {
                let operation = Operation::Cancel(cancelled.charge());
                let Outcome::Cancelled(all) = self.bucket(operation) else { panic!() };
                Reply::Cancelled(cancelled, Ok(all))
            }
            Action::Look => Reply::Looked(sent, self.hold_end.saturating_sub(self.now)),
            Action::Answer { .. } => panic!("no call"),
        }
    }

    /// Lets time pass, and wakes every line when it is due.
    fn pass(&mut self, time: u64) {
        let end = self.now + time;
        loop {
            let due = self.lines.iter().filter_map(Line::due).min();
            let call = self.calls.first_key_value().map(|((at, _), _)| *at);
            let reply = self.replies.first_key_value().map(|((at, _), _)| *at);
            let next = [due, call, reply].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.deliver();
            for line in 0..self.lines.len() {
                self.lines[line].tick(self.now);
                self.act(line);
            }
        }
        self.now = end;
        self.deliver();
    }

    fn served(&self) -> impl Iterator<Item = &Answered> {
        self.answers.iter().filter(|answered| answered.allowed)
    }

    /// No stretch of time has more than the burst and what the rate gives, beside what came back.
    fn check_bound(&self, others: &[(u64, Cost)], seed: u64) {
        for tier in 0..self.limits.len() {
            self.check_bound_of(tier, others, seed);
        }
    }

    fn check_bound_of(&self, tier: usize, others: &[(u64, Cost)], seed: u64) {
        let returned = &self.returned;
        let limit = &self.limits[tier];
        let width = limit.span() / limit.burst();
        // What one process keeps for a first waiter of one limit is exact; it is added beside others,
        // and under several limits, of which some may owe nothing meanwhile.
        let is_alone = self.lines.len() == 1 && self.limits.len() == 1 && returned.is_empty();
        let most_cost = self.most_costs[tier];
        let kept_by_each = if self.is_mixed { limit.burst() } else { most_cost.saturating_sub(1) };
        let kept = if is_alone { 0 } else { self.lines.len() as u64 * kept_by_each };
        let mut spent: Vec<(u64, u64)> = self
            .served()
            .map(|served| (served.at, served.cost))
            .chain(others.iter().copied())
            .map(|(at, cost)| (at, cost.of_tier(tier)))
            .collect();
        spent.sort_unstable();
        for first in 0..spent.len() {
            let mut sum = 0;
            for last in first..spent.len() {
                sum += spent[last].1;
                let (from, to) = (spent[first].0, spent[last].0);
                // Tokens that came back before may have slots in this stretch.
                let back: u64 =
                    returned.iter().filter(|it| it.0 <= to).map(|it| it.1.of_tier(tier)).sum();
                // A slot counts from when the answer of the store comes, and may wait for a look.
                let round_trip = 2 * self.latency;
                let late = round_trip + round_trip.saturating_sub(LOOK_AHEAD);
                let most = limit.burst() + (to - from + late) / width + back + kept;
                assert!(
                    sum <= most,
                    "seed {seed}: {sum} tokens of {limit} from {from} to {to}, at most {most}"
                );
            }
        }
    }

    /// Nobody is served during a hold. Tokens that come back shorten it, and so may a cancel that has not
    /// heard of it: one of another process, or one under way.
    fn check_holds(&self, seed: u64) {
        if self.lines.len() > 1 || self.latency > 0 || !self.returned.is_empty() {
            return;
        }
        for (line, from, end) in &self.holds {
            let during =
                self.served().find(|it| it.line == *line && (from + 1..*end).contains(&it.at));
            assert!(during.is_none(), "seed {seed}: held from {from} until {end}: {during:?}");
        }
    }

    /// Everybody is answered in the order of arrival, and nobody after the deadline.
    fn check_order(&self, seed: u64) {
        let mut last = vec![0; self.lines.len()];
        for Answered { line, id, at, deadline, .. } in self.served() {
            assert!(*id > last[*line], "seed {seed}: {id} of line {line} was overtaken");
            last[*line] = *id;
            // A round trip for the reservation, and one for a look.
            let late = 4 * self.latency;
            let by = at.saturating_sub(*deadline);
            assert!(by <= late, "seed {seed}: {id} came {by} ns too late, at most {late}");
        }
    }

    /// In the end nobody waits, and nothing is left.
    fn check_end(&mut self, seed: u64) {
        self.pass(10_000 * SECOND);
        for line in &self.lines {
            assert!(line.is_idle(), "seed {seed}: {line:?}");
        }
        assert!(self.waiters.is_empty(), "seed {seed}: {:?} still wait", self.waiters);
    }
}

/// What the random histories run under, one of them each.
const LIMITS: [&str; 7] = [
    "100/s burst 1",
    "100/s burst 7",
    "10/s burst 3",
    "1000/s burst 50",
    "10/s burst 2; 100/s burst 40",
    "100/s burst 3; 20/s burst 9",
    "5/s burst 5; 100/s burst 8; 1000/s burst 100",
];

fn histories() -> u64 {
    if std::env::var_os("TIDEGATE_TEST_LONG").is_some() { 100_000 } else { 5_000 }
}

#[test]
fn random_histories_keep_the_bound_and_the_order() {
    for seed in 1..=histories() {
        let mut random = Random(seed.wrapping_mul(0xA24B_AED4_963E_E407) | 1);
        let limit = LIMITS[random.below(LIMITS.len() as u64) as usize];
        let lines = [1, 1, 2, 4][random.below(4) as usize];
        let latency = [0, 0, MILLI, 30 * MILLI][random.below(4) as usize];
        let mut world = World::new(limit, lines, latency, seed);
        world.loses_answers = random.one_in(4);
        let burst = world.limits.iter().map(Limit::burst).min().unwrap_or(1);
        // A number for each limit, one of them perhaps 0.
        let is_mixed = world.limits.len() > 1 && random.one_in(2);
        let bursts: Vec<u64> = world.limits.iter().map(Limit::burst).collect();
        let mut present: VecDeque<(usize, u64)> = VecDeque::new();
        let mut others = Vec::new();
        let can_return = random.one_in(2);
        let most_cost = if random.one_in(2) { 1 } else { burst.min(MOST_COST) };
        for _ in 0..20 + random.below(60) {
            match random.below(10) {
                0..=3 => {
                    let line = random.below(lines as u64) as usize;
                    let mut cost = Cost::same(1 + random.below(most_cost));
                    if is_mixed {
                        let mut numbers: Vec<_> =
                            bursts.iter().map(|burst| random.below(*burst.min(&8) + 1)).collect();
                        numbers[0] = numbers[0].max(1);
                        cost = Cost::each(&numbers).expect("a number for each limit");
                    }
                    let max_wait = if random.one_in(4) { u64::MAX } else { random.below(SECOND) };
                    let id = world.arrive(line, cost, max_wait);
                    present.push_back((line, id));
                }
                4..=5 => {
                    for _ in 0..=random.below(4) {
                        if present.is_empty() {
                            break;
                        }
                        let place = random.below(present.len() as u64) as usize;
                        if let Some((line, id)) = present.remove(place) {
                            world.leave(line, id);
                        }
                    }
                }
                6 if random.one_in(4) => {
                    let by = random.below(lines as u64) as usize;
                    world.hold(random.below(SECOND), Some(by));
                }
                6 => {
                    let cost = Cost::same(1 + random.below(burst));
                    let Outcome::Decision(decision) = world.bucket(Operation::Check { cost })
                    else {
                        panic!()
                    };
                    if decision.allowed {
                        others.push((world.now, cost));
                    }
                }
                7 if can_return => {
                    let line = random.below(lines as u64) as usize;
                    let (now, tokens) = (world.now, 1 + random.below(burst));
                    let taken = world.lines[line].returned(now, tokens);
                    world.act(line);
                    world.returned.push((now, taken));
                }
                8 if random.one_in(2) => {
                    // A reservation of its own, which its caller gives up.
                    let (line, cost) =
                        (random.below(lines as u64) as usize, 1 + random.below(most_cost));
                    let operation =
                        Operation::Reserve { cost: cost.into(), max_wait: SECOND, min_wait: 0 };
                    if let Outcome::Reserved(Reserved::Slot(slot)) = world.bucket(operation) {
                        let taken =
                            world.lines[line].adopt(world.now, slot.delay, cost, slot.charge);
                        world.act(line);
                        if !taken {
                            world.bucket(Operation::Cancel(slot.charge));
                        }
                    }
                }
                _ => world.pass(random.below(100 * MILLI)),
            }
        }
        world.check_end(seed);
        world.check_bound(&others, seed);
        world.check_order(seed);
        world.check_holds(seed);
    }
}

/// Callers with a deadline from outside who come 1.5 times as often as the limit allows: the share
/// of the limit that is used in the worst second after the first.
fn worst_second(lines: usize, latency: u64, demand: u64) -> u64 {
    let mut world = World::new("100/s burst 1", lines, latency, 7);
    let gap = SECOND / demand;
    let mut present: VecDeque<(u64, usize, u64)> = VecDeque::new();
    for number in 0..demand * 6 {
        let line = (number as usize) % lines;
        while present.front().is_some_and(|(until, ..)| *until <= world.now) {
            let Some((_, line, id)) = present.pop_front() else { break };
            world.leave(line, id);
        }
        let id = world.arrive(line, 1, u64::MAX);
        present.push_back((world.now + 300 * MILLI, line, id));
        world.pass(gap);
    }
    (1..6)
        .map(|second| {
            let from = START + second * SECOND;
            world.served().filter(|it| (from..from + SECOND).contains(&it.at)).count() as u64
        })
        .min()
        .unwrap_or(0)
}

#[test]
fn outside_deadlines_waste_no_slot() {
    for (lines, latency, demand, least) in [
        (1, 0, 150, 99),
        (1, MILLI, 150, 98),
        (1, MILLI, 300, 98),
        (4, MILLI, 600, 95),
        (4, MILLI, 200, 90),
        (16, MILLI, 300, 85),
    ] {
        let worst = worst_second(lines, latency, demand);
        println!("{lines} lines, latency {latency}, {demand}/s: {worst} of 100");
        assert!(worst >= least, "{lines} lines, latency {latency}, {demand}/s: {worst} of 100");
        assert!(worst <= 101);
    }
}

#[test]
fn the_next_caller_after_a_group_has_left_waits_one_slot() {
    for newest_first in [false, true] {
        let mut world = World::new("10/s burst 1", 1, 0, 1);
        let mut ids: Vec<u64> = (0..100).map(|_| world.arrive(0, 1, u64::MAX)).collect();
        world.pass(301 * MILLI);
        if newest_first {
            ids.reverse();
        }
        for id in ids {
            world.leave(0, id);
        }
        let asked = world.now;
        let id = world.arrive(0, 1, u64::MAX);
        world.pass(SECOND);
        let served = world.served().find(|it| it.id == id).map(|it| it.at - asked);
        assert!(served.is_some_and(|wait| wait <= 100 * MILLI), "{served:?}");
    }
}

#[test]
fn a_hold_reaches_those_who_wait() {
    // The first line holds, the second hears of it by its looks.
    let mut world = World::new("10/s burst 1", 2, MILLI, 3);
    for _ in 0..25 {
        world.arrive(0, 1, u64::MAX);
        world.arrive(1, 1, u64::MAX);
    }
    world.pass(150 * MILLI);
    let held = world.now;
    world.hold(3 * SECOND, Some(0));
    world.pass(60 * SECOND);
    let end = held + 3 * SECOND;
    let during =
        |line| world.served().filter(|it| it.line == line && (held..end).contains(&it.at)).count();
    assert_eq!(during(0), 0);
    assert!(during(1) <= 1, "{} of the other process", during(1));
    assert!(world.waiters.is_empty());
    let last = world.served().map(|it| it.at).max().unwrap_or(0);
    // 48 callers at the normal pace, and the slots that lay within the hold are lost to nobody.
    assert!(last <= end + 52 * 100 * MILLI, "the last after {} ms", (last - end) / MILLI);
}

#[test]
fn tokens_that_come_back_move_waiters_up() {
    // 60 jobs with an estimate of 4000 tokens each use 1000.
    let mut world = World::new("60000/s burst 4000", 1, 0, 1);
    for _ in 0..60 {
        world.arrive(0, 4000, u64::MAX);
    }
    let mut settled = 0;
    while !world.waiters.is_empty() {
        world.pass(MILLI);
        let served = world.served().count();
        for _ in settled..served {
            let taken = world.lines[0].returned(world.now, 3000);
            world.act(0);
            let charged = Cost::from(4000).saturating_sub(&taken);
            world.bucket(Operation::Settle { charged, actual: 1000.into() });
        }
        settled = served;
    }
    let took = world.now - START;
    // 60,000 tokens at 60,000/s.
    assert!(took <= 1_100 * MILLI, "{} ms", took / MILLI);
}

#[test]
fn tokens_that_come_back_before_the_store_has_answered_serve_a_caller() {
    let mut world = World::new("100/d burst 100", 1, MILLI, 1);
    world.bucket(Operation::Check { cost: 100.into() });
    world.arrive(0, 30, u64::MAX);
    assert_eq!(world.lines[0].returned(world.now, 40), 30.into());
    world.act(0);
    assert_eq!(world.served().count(), 1);
    world.check_end(1);
    assert!(matches!(
        world.bucket(Operation::Peek { cost: 1.into() }),
        Outcome::Decision(decision) if decision.allowed
    ));
}

#[test]
fn a_full_line_refuses_with_the_time_of_a_slot() {
    let mut world = World::new("10/s burst 1", 1, 0, 1);
    for _ in 0..1001 {
        world.arrive(0, 1, u64::MAX);
    }
    world.lines[0].arrive(world.now, 1, u64::MAX);
    let refused = core::iter::from_fn(|| world.lines[0].next_action()).find_map(|it| match it {
        Action::Answer { answer: Ok(decision), .. } if !decision.allowed => Some(decision),
        _ => None,
    });
    assert_eq!(refused.map(|decision| decision.retry_after), Some(100 * SECOND));
    let waiting = world.lines[0].waiting(world.now);
    assert_eq!((waiting.callers, waiting.tokens, waiting.until), (1000, 1000, 100 * SECOND));
}

#[test]
fn a_reset_serves_those_who_wait_anew() {
    let mut world = World::new("10/s burst 5", 1, 0, 1);
    for _ in 0..12 {
        world.arrive(0, 1, u64::MAX);
    }
    world.hold(60 * SECOND, Some(0));
    world.bucket(Operation::Reset);
    world.lines[0].restarted(world.now);
    world.act(0);
    assert_eq!(world.served().count(), 10, "five at first, and five of the full bucket");
    world.pass(200 * MILLI);
    assert_eq!(world.served().count(), 12);
    world.check_end(1);
}

#[test]
fn a_full_line_without_answers_refuses_with_some_wait() {
    let limits = [AnyLimit::parse("10/s burst 1").expect("a limit")];
    let mut line = Line::new(LineOptions::new(&limits, Source::Redis, 1));
    line.arrive(START, 1, u64::MAX);
    line.arrive(START, 1, u64::MAX);
    let refused = core::iter::from_fn(|| line.next_action()).find_map(|it| match it {
        Action::Answer { answer: Ok(decision), .. } => Some(decision),
        _ => None,
    });
    assert!(refused.is_some_and(|decision| !decision.allowed && decision.retry_after > 0));
}

#[test]
fn closing_tells_everybody_and_gives_all_back() {
    let mut world = World::new("10/s burst 1", 1, 0, 1);
    for _ in 0..5 {
        world.arrive(0, 1, u64::MAX);
    }
    world.lines[0].close(world.now, &Error::Store("the limiter is closed".into()));
    let mut told = 0;
    while let Some(action) = world.lines[0].next_action() {
        match action {
            Action::Answer { answer: Err(_), .. } => told += 1,
            Action::Cancel(cancelled) => {
                let operation = Operation::Cancel(cancelled.charge());
                assert_eq!(world.bucket(operation), Outcome::Cancelled(true));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, 4);
    world.now += 100 * MILLI;
    let free = world.bucket(Operation::Check { cost: 1.into() });
    assert!(matches!(free, Outcome::Decision(decision) if decision.allowed));
}

#[test]
fn who_is_refused_costs_a_long_line_little() {
    // Quadratic work for each of them would take minutes.
    let mut world = World::new("10/s burst 1", 1, 0, 1);
    world.lines[0].options.max_waiting = 20_000;
    for _ in 0..5_000 {
        world.arrive(0, 1, u64::MAX);
    }
    for _ in 0..5_000 {
        world.arrive(0, 1, MILLI);
    }
    let refused = world.answers.iter().filter(|answer| !answer.allowed).count();
    assert_eq!((world.lines[0].waiting(world.now).callers, refused), (4_999, 5_000));
    // While their reservations are under way, each answer looks at all who wait.
    let mut world = World::new("10/s burst 1", 1, MILLI, 1);
    world.lines[0].options.max_waiting = 20_000;
    for _ in 0..3_000 {
        world.arrive(0, 1, u64::MAX);
    }
    world.hold(SECOND, Some(0));
    world.pass(100 * MILLI);
    assert_eq!(world.lines[0].waiting(world.now).callers, 3_000);
}

#[test]
fn a_walk_over_the_slots_finds_what_a_search_finds() {
    let mut random = Random(7);
    for _ in 0..500 {
        let mut slots = Slots::new();
        for at in 0..random.below(8) {
            let (at, tokens) = (1000 * at + random.below(1500), 1 + random.below(5));
            let charge = tidegate_core::Charge::default();
            let tokens = Tokens([tokens, 1 + random.below(3), random.below(3), 0]);
            slots.insert(Slot {
                at,
                tokens,
                charge,
                made: 0,
                is_fixed: false,
                is_before_hold: false,
            });
        }
        let (mut brought, mut had, width) = (Brought::default(), 0, random.below(200));
        while had < 40 {
            let needed = had + 1 + random.below(6);
            let (before, all) = (Tokens([had; 4]), Tokens([needed; 4]));
            for tier in 0..4 {
                let of_tier = |tokens: Tokens| {
                    Tokens(core::array::from_fn(|it| if it == tier { tokens.0[it] } else { 0 }))
                };
                let found =
                    slots.covering_after(&mut brought, of_tier(before), of_tier(all), width);
                let search = slots.covering(of_tier(all), width);
                assert_eq!(found, search, "{tier} {had} {needed} {slots:?}");
            }
            had = if random.one_in(3) { had } else { needed };
        }
    }
}
