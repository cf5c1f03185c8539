//! A fleet of nodes that lease one bucket, by the clock of the test: what it admits in every
//! sliding second, how much of the limit it uses, who gets it, and what a crash costs.
#![allow(missing_docs, clippy::unwrap_used)]

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tidegate_core::{
    Cells, Grant, LeaseAsk, LeaseTerms, Limit, Member, Next, Slice, Spent, decide_tiers,
    grant_lease,
};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const START: u64 = 1_764_000_000 * SECOND;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What is asked of a fleet.
#[derive(Clone, Debug)]
struct Scene {
    limit: &'static str,
    ttl: u64,
    /// Requests per second of each node; at every multiple of `moves` all move on by three.
    demands: &'static [u64],
    moves: u64,
    /// How far a gap between requests may be from the mean, in hundredths of it.
    jitter: u64,
    lasts: u64,
    seed: u64,
    /// A node that stops without a word, and when.
    crash: Option<(usize, u64)>,
    /// Requests per second of a client that leases nothing.
    direct: u64,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            limit: "100/s",
            ttl: SECOND,
            demands: UNEVEN,
            moves: 15 * SECOND,
            jitter: 0,
            lasts: 45 * SECOND,
            seed: 0,
            crash: None,
            direct: 0,
        }
    }
}

const UNEVEN: &[u64] = &[150, 100, 60, 30, 20, 10, 5, 5, 2, 1];
const MOSTLY_MET: &[u64] = &[60, 40, 20, 10, 5, 5, 2, 1, 1, 1];
const ONE_HOT: &[u64] = &[2000, 10, 10, 10, 5, 5, 5, 2, 1, 1];
const EQUAL: &[u64] = &[20; 10];
const SEEDS: core::ops::Range<u64> = 0..8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    /// A node looks after its slice.
    Tick(usize),
    /// The answer to a node's question reaches it.
    Answer(usize, usize),
    /// The client without leases.
    Direct,
}

struct Fleet {
    scene: Scene,
    random: Random,
    limits: [Limit; 1],
    terms: LeaseTerms,
    cells: Cells,
    members: BTreeMap<usize, (u64, Member)>,
    slices: Vec<Slice>,
    answers: Vec<Grant>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    /// When, and by which node.
    admitted: Vec<(u64, usize)>,
    offered: u64,
    trips: u64,
}

impl Fleet {
    fn run(scene: Scene) -> Self {
        let limits = [Limit::parse(scene.limit).unwrap()];
        let terms = LeaseTerms::new(&limits, scene.ttl, 1_000).unwrap();
        let mut fleet = Self {
            random: Random(scene.seed),
            limits,
            terms,
            cells: Cells::default(),
            members: BTreeMap::new(),
            slices: vec![Slice::new(terms, START); scene.demands.len()],
            answers: Vec::new(),
            events: BinaryHeap::new(),
            count: 0,
            admitted: Vec::new(),
            offered: 0,
            trips: 0,
            scene,
        };
        for node in 0..fleet.slices.len() {
            let at = START + fleet.random.below(100 * MILLI);
            fleet.put(at, Event::Arrival(node));
            fleet.put(at, Event::Tick(node));
        }
        if fleet.scene.direct > 0 {
            fleet.put(START, Event::Direct);
        }
        while let Some(Reverse((now, _, event))) = fleet.events.pop() {
            if now > START + fleet.scene.lasts {
                break;
            }
            fleet.happen(now, event);
        }
        fleet
    }

    fn put(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn happen(&mut self, now: u64, event: Event) {
        let crashed =
            |node: usize| self.scene.crash.is_some_and(|(it, at)| it == node && now >= START + at);
        match event {
            Event::Arrival(node) | Event::Tick(node) | Event::Answer(node, _) if crashed(node) => {}
            Event::Arrival(node) => self.arrive(now, node),
            Event::Tick(node) => {
                self.look(now, node);
                let late = self.random.below(10 * MILLI);
                self.put(now + self.terms.ttl() / 16 + late, Event::Tick(node));
            }
            Event::Answer(node, answer) => {
                let grant = self.answers[answer];
                self.slices[node].granted(now, &grant);
            }
            Event::Direct => {
                let decision = decide_tiers(&self.limits, &mut self.cells, now, 1).unwrap();
                if decision.allowed {
                    self.admitted.push((now, usize::MAX));
                }
                self.put(now + SECOND / self.scene.direct, Event::Direct);
            }
        }
    }

    fn demand(&self, now: u64, node: usize) -> u64 {
        let moved = usize::try_from((now - START) / self.scene.moves).unwrap();
        let demands = self.scene.demands;
        demands[(node + moved * 3) % demands.len()]
    }

    fn arrive(&mut self, now: u64, node: usize) {
        let gap = SECOND / self.demand(now, node);
        let spread = gap * self.scene.jitter / 100;
        let next = now + gap - spread + self.random.below(2 * spread + 1);
        // An old gap ends where demand moves.
        let moves = START + ((now - START) / self.scene.moves + 1) * self.scene.moves;
        let next =
            if next > moves { moves + self.random.below(gap.min(50 * MILLI) + 1) } else { next };
        self.put(next, Event::Arrival(node));
        self.offered += 1;
        match self.slices[node].spend(now, 1) {
            Spent::Allowed { .. } => self.admitted.push((now, node)),
            Spent::Refused { retry_after, .. } => {
                assert!(retry_after > 0);
                self.hurry(now, node);
            }
            Spent::Outside => {
                self.trips += 1;
                let decision = decide_tiers(&self.limits, &mut self.cells, now, 1).unwrap();
                if decision.allowed {
                    self.admitted.push((now, node));
                    self.slices[node].spent_directly(now, 1);
                }
                self.hurry(now, node);
            }
        }
    }

    fn hurry(&mut self, now: u64, node: usize) {
        if self.slices[node].is_urgent(now) {
            self.look(now, node);
        }
    }

    fn look(&mut self, now: u64, node: usize) {
        match self.slices[node].next(now) {
            Next::Nothing => {}
            Next::Forget => self.slices[node] = Slice::new(self.terms, now),
            Next::Leave => {
                let returned = self.slices[node].leave(now);
                self.ask(now, node, LeaseAsk { returned, ..LeaseAsk::default() });
            }
            Next::Ask => {
                let ask = self.slices[node].ask(now);
                let grant = self.ask(now, node, ask);
                self.answers.push(grant);
                let latency = 300_000 + self.random.below(3 * MILLI);
                self.put(now + latency, Event::Answer(node, self.answers.len() - 1));
            }
        }
    }

    fn ask(&mut self, now: u64, node: usize, ask: LeaseAsk) -> Grant {
        self.trips += 1;
        self.members.retain(|_, (until, _)| *until > now);
        self.members.remove(&node);
        let others: Vec<Member> = self.members.values().map(|(_, member)| *member).collect();
        let taken: u64 = others.iter().map(|other| other.taken).sum();
        let (grant, member) =
            grant_lease(&self.limits, &mut self.cells, now, &self.terms, &others, &ask).unwrap();
        assert!(taken.max(self.terms.rate()) >= taken + member.taken, "more than the rate is out");
        if ask.want > 0 {
            self.members.insert(node, (now + self.terms.ttl(), member));
        }
        grant
    }

    /// The most admissions in any second.
    fn most_in_a_second(&self) -> usize {
        let (mut first, mut most) = (0, 0);
        for (last, (at, _)) in self.admitted.iter().enumerate() {
            while at - self.admitted[first].0 >= SECOND {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    /// How much of the limit has been used, between two times since the start.
    fn used(&self, from: u64, to: u64) -> f64 {
        let within = |at: u64| (START + from..START + to).contains(&at);
        let admitted = self.admitted.iter().filter(|(at, _)| within(*at)).count();
        admitted as f64 / (to - from) as f64 * SECOND as f64 / self.limits[0].tokens() as f64
    }

    /// What each node got between two times since the start.
    fn by_node(&self, from: u64, to: u64) -> Vec<usize> {
        let mut got = vec![0; self.slices.len()];
        for (at, node) in &self.admitted {
            if (START + from..START + to).contains(at) && *node < got.len() {
                got[*node] += 1;
            }
        }
        got
    }
}

/// The max-min fair shares of `rate` among `wants`, per second.
fn fair_shares(rate: f64, wants: &[f64]) -> Vec<f64> {
    let mut level = rate / wants.len() as f64;
    for _ in 0..wants.len() {
        let met: f64 = wants.iter().filter(|want| **want <= level).sum();
        let others = wants.iter().filter(|want| **want > level).count();
        if others > 0 {
            level = (rate - met) / others as f64;
        }
    }
    wants.iter().map(|want| want.min(level)).collect()
}

#[test]
fn admits_the_limit_in_every_second_and_uses_it() {
    for demands in [UNEVEN, MOSTLY_MET, ONE_HOT, EQUAL] {
        for seed in SEEDS {
            let fleet = Fleet::run(Scene { demands, seed, ..Scene::default() });
            let (most, used) = (fleet.most_in_a_second(), fleet.used(0, fleet.scene.lasts));
            assert!(most <= 105, "{most} in a second: {:?}", fleet.scene);
            assert!(used >= 0.97, "{used:.3} of the limit: {:?}", fleet.scene);
        }
    }
}

/// Requests that come half a gap too early or too late.
#[test]
fn admits_the_limit_of_what_comes_unevenly() {
    for (demands, least) in [(UNEVEN, 0.95), (EQUAL, 0.97)] {
        for seed in SEEDS {
            let fleet = Fleet::run(Scene { demands, jitter: 50, seed, ..Scene::default() });
            let (most, used) = (fleet.most_in_a_second(), fleet.used(0, fleet.scene.lasts));
            assert!(most <= 105, "{most} in a second: {:?}", fleet.scene);
            assert!(used >= least, "{used:.3} of the limit: {:?}", fleet.scene);
        }
    }
}

#[test]
fn is_fair_again_within_a_ttl() {
    for demands in [UNEVEN, MOSTLY_MET] {
        for seed in SEEDS {
            let fleet = Fleet::run(Scene { demands, seed, ..Scene::default() });
            let moved = fleet.scene.moves;
            for time in [moved, 2 * moved] {
                let (from, to) = (time + SECOND, time + 4 * SECOND);
                let wants: Vec<f64> =
                    (0..10).map(|node| fleet.demand(START + from, node) as f64).collect();
                let shares = fair_shares(100.0, &wants);
                for (got, share) in fleet.by_node(from, to).into_iter().zip(shares) {
                    let expected = share * 3.0;
                    let apart = (got as f64 - expected).abs();
                    assert!(
                        apart <= 3.0 + expected * 0.1,
                        "{got} for {expected:.1} after {time}: {:?}",
                        fleet.scene
                    );
                }
            }
        }
    }
}

#[test]
fn needs_few_trips() {
    const THOUSAND: &[u64] = &[300, 200, 150, 100, 90, 60, 40, 30, 20, 10];
    for seed in SEEDS {
        let limit = "1000/s";
        let fleet = Fleet::run(Scene { limit, demands: THOUSAND, seed, ..Scene::default() });
        let trips = fleet.trips as f64 / fleet.offered as f64;
        assert!(trips <= 0.05, "{trips:.3} trips per request");
    }
}

#[test]
fn is_never_above_what_was_debited() {
    for limit in ["100/s", "100/s burst 10", "1000/s burst 200", "600/min burst 100"] {
        for (seed, direct) in SEEDS.zip([0, 30, 0, 500, 0, 100, 0, 10]) {
            let (crash, moves) = (Some((1, 5 * SECOND)), 3 * SECOND);
            let fleet = Fleet::run(Scene { limit, seed, direct, crash, moves, ..Scene::default() });
            let [limit] = fleet.limits;
            // A small burst is taken ahead, by at most a ttl.
            let ahead = limit.span().max(fleet.terms.ttl());
            for (count, (at, _)) in fleet.admitted.iter().enumerate() {
                let bound = (ahead + at - START) / limit.timeline().width();
                assert!((count as u64) < bound, "{} by then: {:?}", count + 1, fleet.scene);
            }
        }
    }
}

#[test]
fn a_crash_costs_its_slice_for_a_ttl() {
    for seed in SEEDS {
        let crash_at = 15 * SECOND;
        // After one move it wants 100 of the 100 a second.
        let crash = Some((8, crash_at));
        let fleet = Fleet::run(Scene {
            crash,
            moves: 10 * SECOND,
            lasts: 20 * SECOND,
            seed,
            ..Scene::default()
        });
        assert!(fleet.most_in_a_second() <= 105, "{} in a second", fleet.most_in_a_second());
        let used = fleet.used(crash_at + SECOND + SECOND / 4, crash_at + 4 * SECOND);
        assert!(used >= 0.95, "{used:.3} after the crash: {:?}", fleet.scene);
    }
}
