//! A fleet of nodes that lease one bucket, by the clock of the test.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tidegate_core::*;

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

struct Random(u64);

impl Random {
    /// SplitMix64.
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

    /// Of an exponential distribution with this mean.
    fn exponential(&mut self, mean: f64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (-(1.0 - uniform).ln() * mean) as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrivals {
    /// Evenly spaced, but for half a gap either way.
    Even,
    /// By chance, as independent users come.
    Chance,
    /// Exactly even.
    Strict,
}

#[derive(Clone, Debug)]
struct Scene {
    limit: &'static str,
    ttl: u64,
    /// Requests per second, which move on by one node every `moves`.
    demands: Vec<f64>,
    moves: u64,
    arrivals: Arrivals,
    lasts: u64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    Tick(usize),
    /// The answer to a node's question arrives; the answer's place.
    Answer(usize, usize),
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
    admitted: Vec<(u64, usize)>,
    offered: u64,
    trips: u64,
}

const START: u64 = 1_764_000_000 * SECOND;

impl Fleet {
    fn new(scene: Scene) -> Self {
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
        fleet
    }

    fn put(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn run(&mut self) {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > START + self.scene.lasts {
                break;
            }
            match event {
                Event::Arrival(node) => self.arrive(now, node),
                Event::Tick(node) => {
                    self.look(now, node);
                    let jitter = self.random.below(MILLI * 10);
                    self.put(now + self.scene.ttl / 16 + jitter, Event::Tick(node));
                }
                Event::Answer(node, answer) => {
                    let grant = self.answers[answer];
                    self.slices[node].granted(now, &grant);
                }
            }
        }
    }

    fn demand(&self, now: u64, node: usize) -> f64 {
        let moved = (now - START) / self.scene.moves;
        let nodes = self.scene.demands.len();
        self.scene.demands[(node + (moved as usize * 3) % nodes) % nodes]
    }

    fn arrive(&mut self, now: u64, node: usize) {
        let gap = SECOND as f64 / self.demand(now, node);
        let after = match self.scene.arrivals {
            Arrivals::Even => gap as u64 / 2 + self.random.below(gap as u64 + 1),
            Arrivals::Chance => self.random.exponential(gap),
            Arrivals::Strict => gap as u64,
        };
        // Nobody is bound to an old gap when demand has moved.
        let next_move = START + ((now - START) / self.scene.moves + 1) * self.scene.moves;
        let next = if now + after > next_move {
            next_move + self.random.below(gap as u64 / 2 + 1).min(50 * MILLI)
        } else {
            now + after.max(1)
        };
        self.put(next, Event::Arrival(node));
        self.offered += 1;
        match self.slices[node].spend(now, 1) {
            Spent::Allowed { .. } => self.admitted.push((now, node)),
            Spent::Refused { retry_after, .. } => {
                assert!(retry_after > 0);
                self.look(now, node);
            }
            Spent::Outside => {
                self.trips += 1;
                let decision = decide_tiers(&self.limits, &mut self.cells, now, 1).unwrap();
                if decision.allowed {
                    self.admitted.push((now, node));
                    self.slices[node].spent_directly(now, 1);
                }
                self.look(now, node);
            }
        }
    }

    fn look(&mut self, now: u64, node: usize) {
        match self.slices[node].next(now) {
            Next::Nothing => {}
            Next::Forget => self.slices[node] = Slice::new(self.terms, now),
            Next::Leave => {
                let returned = self.slices[node].leave(now);
                self.trip(now, node, LeaseAsk { returned, ..LeaseAsk::default() });
            }
            Next::Ask => {
                let ask = self.slices[node].ask(now);
                let grant = self.trip(now, node, ask);
                self.answers.push(grant);
                if std::env::var_os("TRACE").is_some() {
                    println!(
                        "bin {} node {node} {ask:?} {:?} {} {} {}",
                        (now - START) / MILLI,
                        grant.part,
                        grant.pace,
                        grant.most,
                        grant.tokens
                    );
                }
                let latency = 300_000 + self.random.below(3 * MILLI);
                self.put(now + latency, Event::Answer(node, self.answers.len() - 1));
            }
        }
    }

    fn trip(&mut self, now: u64, node: usize, ask: LeaseAsk) -> Grant {
        self.trips += 1;
        self.members.retain(|_, (until, _)| *until > now);
        self.members.remove(&node);
        let others: Vec<Member> = self.members.values().map(|(_, member)| *member).collect();
        let (grant, member) =
            grant_lease(&self.limits, &mut self.cells, now, &self.terms, &others, &ask).unwrap();
        if ask.want > 0 {
            self.members.insert(node, (now + self.scene.ttl, member));
        }
        grant
    }

    /// The most in a sliding second: at the start, within 2 s of a move, and else; and sd when calm
    fn phases(&self) -> ([usize; 3], f64, f64) {
        let times: Vec<u64> = self.admitted.iter().map(|(at, _)| *at).collect();
        let (mut first, mut most) = (0, [0; 3]);
        let phase = |at: u64| {
            let since = at - START;
            if since < 2 * SECOND {
                0
            } else if since >= self.scene.moves && since % self.scene.moves < 2 * SECOND {
                1
            } else {
                2
            }
        };
        for last in 0..times.len() {
            while times[last] - times[first] >= SECOND {
                first += 1;
            }
            let most = &mut most[phase(times[last])];
            *most = (*most).max(last - first + 1);
        }
        let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let mut at = START + 2 * SECOND;
        while at + SECOND < START + self.scene.lasts {
            if phase(at + SECOND) == 2 && phase(at) == 2 {
                let low = times.partition_point(|&time| time < at);
                let high = times.partition_point(|&time| time < at + SECOND);
                let count = (high - low) as f64;
                n += 1.0;
                sum += count;
                squares += count * count;
            }
            at += 5 * MILLI;
        }
        let mean: f64 = sum / n;
        (most, mean, (squares / n - mean * mean).sqrt())
    }
}

#[test]
fn explore() {
    let mixed = vec![60.0, 40.0, 20.0, 10.0, 5.0, 5.0, 2.0, 1.0, 1.0, 0.5];
    let hot = vec![150.0, 100.0, 60.0, 30.0, 20.0, 10.0, 5.0, 5.0, 2.0, 1.0];
    let flat = vec![20.0; 10];
    let one = vec![2000.0, 10.0, 10.0, 10.0, 5.0, 5.0, 5.0, 2.0, 1.0, 1.0];
    for (name, demands) in [("mixed", mixed), ("hot", hot), ("flat", flat), ("one", one)] {
        for arrivals in [Arrivals::Strict, Arrivals::Even, Arrivals::Chance] {
            for moves in [4 * SECOND, 10 * SECOND] {
                let (mut most, mut used, mut trips, mut mean, mut sd) =
                    (Vec::new(), Vec::new(), 0.0, 0.0, 0.0);
                for seed in 0..20 {
                    let scene = Scene {
                        limit: "100/s",
                        ttl: SECOND,
                        demands: demands.clone(),
                        moves,
                        arrivals,
                        lasts: 40 * SECOND,
                        seed,
                    };
                    let mut fleet = Fleet::new(scene);
                    fleet.run();
                    let (m, me, s) = fleet.phases();
                    most.push(m);
                    mean += me / 20.0;
                    sd += s / 20.0;
                    used.push(fleet.admitted.len() as f64 / 4000.0);
                    trips += fleet.trips as f64 / fleet.offered as f64 / 20.0;
                }
                let worst = |phase: usize| {
                    let mut all: Vec<usize> = most.iter().map(|m: &[usize; 3]| m[phase]).collect();
                    all.sort();
                    (all[10], all[19])
                };
                used.sort_by(f64::total_cmp);
                println!(
                    "{name} {arrivals:?} {}: start {:?} move {:?} calm {:?} mean {mean:.1} sd {sd:.1} used {:.3} {:.3} trips {trips:.3}",
                    moves / SECOND,
                    worst(0),
                    worst(1),
                    worst(2),
                    used[10],
                    used[0]
                );
            }
        }
    }
}

#[test]
fn around_moves() {
    let mixed = vec![60.0, 40.0, 20.0, 10.0, 5.0, 5.0, 2.0, 1.0, 1.0, 0.5];
    let mut bins = vec![0.0; 32];
    for seed in 0..if std::env::var_os("TRACE").is_some() { 1 } else { 40 } {
        let scene = Scene {
            limit: "100/s",
            ttl: SECOND,
            demands: mixed.clone(),
            moves: 4 * SECOND,
            arrivals: Arrivals::Strict,
            lasts: 41 * SECOND,
            seed,
        };
        let mut fleet = Fleet::new(scene);
        fleet.run();
        for (at, _) in &fleet.admitted {
            let since = at - START;
            if since >= 4 * SECOND && since < 40 * SECOND {
                let bin = (since % (4 * SECOND)) / (125 * MILLI);
                bins[bin as usize] += 1.0 / (40.0 * 9.0) * 8.0;
            }
        }
    }
    for (n, b) in bins.iter().enumerate() {
        println!("bin {} {b:.1}", n * 125);
    }
}

#[test]
fn startup() {
    let scene = Scene {
        limit: "100/s",
        ttl: SECOND,
        demands: vec![20.0; 10],
        moves: 4 * SECOND,
        arrivals: Arrivals::Even,
        lasts: 3 * SECOND,
        seed: 3,
    };
    let mut fleet = Fleet::new(scene);
    fleet.run();
    let mut counts = [[0; 12]; 10];
    for (at, node) in &fleet.admitted {
        let b = (at - START) / (125 * MILLI);
        if b < 12 {
            counts[*node][b as usize] += 1;
        }
    }
    for (n, c) in counts.iter().enumerate() {
        println!("bin node {n} {c:?} {}", c[..8].iter().sum::<i32>());
    }
}
