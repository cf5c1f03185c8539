//! A simulated fleet of nodes that lease one bucket, and the scenes that it is put through.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use tidegate_core::{
    Cells, Grant, LeaseAsk, LeaseTerms, LeasedBucket, Limit, Next, NodeRecord, Slice, SpendResult,
    decide_tiers, grant_lease,
};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLI: u64 = 1_000_000;
pub const START: u64 = 1_764_000_000 * SECOND;

/// A random number generator: SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How requests are spread over time.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// At equal gaps.
    Even,
    /// At gaps that are up to half too short or too long.
    Uneven,
    /// As a Poisson process.
    Random,
    /// In bunches of this size.
    Bunches(u64),
}

impl Pattern {
    pub const ALL: [Self; 5] =
        [Self::Even, Self::Uneven, Self::Random, Self::Bunches(3), Self::Bunches(20)];

    /// The time to the next request or bunch, on average `mean` for each request.
    fn gap(self, mean: u64, random: &mut Random) -> u64 {
        match self {
            Self::Even => mean,
            Self::Uneven => mean / 2 + random.below(mean + 1),
            Self::Random => {
                let chance = (random.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
                (-chance.ln() * mean as f64) as u64
            }
            Self::Bunches(size) => mean * size,
        }
    }

    const fn at_once(self) -> u64 {
        match self {
            Self::Bunches(size) => size,
            _ => 1,
        }
    }
}

/// A scenario: what the fleet's nodes are asked for, and what happens to them.
#[derive(Clone, Debug)]
pub struct Scene {
    pub limit: &'static str,
    pub ttl: u64,
    /// Requests per second of each node; at every multiple of `moves` they shift by `shift` nodes.
    pub demands: &'static [u64],
    /// The number of nodes, if it is not that of the demands.
    pub nodes: Option<usize>,
    pub moves: u64,
    pub shift: usize,
    pub pattern: Pattern,
    /// The nodes' first requests come within this time after the start.
    pub starts_within: u64,
    pub lasts: u64,
    pub seed: u64,
    /// A node that crashes, and the time after the start.
    pub crash: Option<(usize, u64)>,
    /// Requests per second of a client without leases.
    pub direct: u64,
    /// How much longer than the shortest a message can take.
    pub latency: u64,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            limit: "100/s",
            ttl: SECOND,
            demands: UNEVEN,
            nodes: None,
            moves: 20 * SECOND,
            shift: 3,
            pattern: Pattern::Even,
            starts_within: 100 * MILLI,
            lasts: 60 * SECOND,
            seed: 0,
            crash: None,
            direct: 0,
            latency: 1_500_000,
        }
    }
}

pub const UNEVEN: &[u64] = &[150, 100, 60, 30, 20, 10, 5, 5, 2, 1];
pub const MOSTLY_MET: &[u64] = &[60, 40, 20, 10, 5, 5, 2, 1, 1, 1];
pub const ONE_HOT: &[u64] = &[2000, 10, 10, 10, 5, 5, 5, 2, 1, 1];
pub const EQUAL: &[u64] = &[20; 10];
pub const BUSY: &[u64] = &[60; 10];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    /// A node does what its slice needs.
    Tick(usize),
    /// A node's request for a slice reaches the bucket.
    Request(usize, usize),
    /// The bucket's grant reaches the node.
    Grant(usize, usize),
    /// A check that a slice does not answer reaches the bucket.
    Check(usize),
    /// The answer to such a check reaches the node.
    Checked(usize, bool),
    /// The client without leases makes a check.
    Direct,
}

pub struct Fleet {
    pub scene: Scene,
    random: Random,
    pub limits: [Limit; 1],
    pub terms: LeaseTerms,
    cells: Cells,
    records: BTreeMap<usize, (u64, NodeRecord)>,
    slices: Vec<Slice>,
    requests: Vec<LeaseAsk>,
    grants: Vec<Grant>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    /// The time and the node of each admission; `usize::MAX` is the client without leases.
    pub admitted: Vec<(u64, usize)>,
    /// The times of the admissions by slices.
    leased: Vec<u64>,
    pub offered: u64,
    pub round_trips: u64,
}

impl Fleet {
    pub fn run(scene: Scene) -> Self {
        let limits = [Limit::parse(scene.limit).unwrap()];
        let terms = LeaseTerms::new(&limits, scene.ttl, 1_000).unwrap();
        let mut fleet = Self {
            random: Random(scene.seed),
            limits,
            terms,
            cells: Cells::default(),
            records: BTreeMap::new(),
            slices: vec![Slice::new(terms, START); scene.nodes.unwrap_or(scene.demands.len())],
            requests: Vec::new(),
            grants: Vec::new(),
            events: BinaryHeap::new(),
            count: 0,
            admitted: Vec::new(),
            leased: Vec::new(),
            offered: 0,
            round_trips: 0,
            scene,
        };
        for node in 0..fleet.slices.len() {
            let at = START + fleet.random.below(fleet.scene.starts_within);
            fleet.slices[node] = Slice::new(terms, at);
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
            Event::Arrival(node)
            | Event::Tick(node)
            | Event::Grant(node, _)
            | Event::Checked(node, _)
                if crashed(node) => {}
            Event::Arrival(node) => self.arrive(now, node),
            Event::Tick(node) => {
                self.act(now, node);
                let late = self.random.below(10 * MILLI);
                self.put(now + self.terms.ttl() / 16 + late, Event::Tick(node));
            }
            Event::Grant(node, answer) => {
                let grant = self.grants[answer];
                self.slices[node].granted(now, &grant);
            }
            Event::Request(node, request) => {
                let ask = self.requests[request];
                let grant = self.ask(now, node, ask);
                self.grants.push(grant);
                let at = now + self.latency();
                if ask.want > 0 {
                    self.put(at, Event::Grant(node, self.grants.len() - 1));
                }
            }
            Event::Check(node) => {
                let allowed = decide_tiers(&self.limits, &mut self.cells, now, 1).unwrap().allowed;
                if allowed {
                    self.admitted.push((now, node));
                }
                let at = now + self.latency();
                self.put(at, Event::Checked(node, allowed));
            }
            Event::Checked(node, allowed) => self.slices[node].answered_directly(now, 1, allowed),
            Event::Direct => {
                let decision = decide_tiers(&self.limits, &mut self.cells, now, 1).unwrap();
                if decision.allowed {
                    self.admitted.push((now, usize::MAX));
                }
                self.put(now + SECOND / self.scene.direct, Event::Direct);
            }
        }
    }

    pub fn demand(&self, now: u64, node: usize) -> u64 {
        let moved = usize::try_from((now - START) / self.scene.moves).unwrap();
        let demands = self.scene.demands;
        demands[(node + moved * self.scene.shift) % demands.len()]
    }

    fn arrive(&mut self, now: u64, node: usize) {
        let mean = SECOND / self.demand(now, node);
        let next = now + self.scene.pattern.gap(mean, &mut self.random);
        // A gap of the old demand ends where demand shifts.
        let moves = START + ((now - START) / self.scene.moves + 1) * self.scene.moves;
        let soon = mean.min(50 * MILLI) + 1;
        let next = if next > moves { moves + self.random.below(soon) } else { next };
        self.put(next, Event::Arrival(node));
        for _ in 0..self.scene.pattern.at_once() {
            self.request(now, node);
        }
    }

    fn request(&mut self, now: u64, node: usize) {
        self.offered += 1;
        match self.slices[node].spend(now, 1) {
            SpendResult::Allowed { .. } => {
                self.admitted.push((now, node));
                self.leased.push(now);
            }
            SpendResult::Refused { retry_after, .. } => {
                assert!(retry_after > 0);
                self.act_if_urgent(now, node);
            }
            SpendResult::Outside => {
                self.round_trips += 1;
                let at = now + self.latency();
                self.put(at, Event::Check(node));
                self.act_if_urgent(now, node);
            }
        }
    }

    /// Does what the slice needs at once, if it is urgent.
    fn act_if_urgent(&mut self, now: u64, node: usize) {
        if self.slices[node].is_urgent(now) {
            self.act(now, node);
        }
    }

    fn act(&mut self, now: u64, node: usize) {
        match self.slices[node].next(now) {
            Next::Nothing => {}
            Next::Forget => self.slices[node] = Slice::new(self.terms, now),
            Next::Leave => {
                let returned = self.slices[node].leave(now);
                self.send(now, node, LeaseAsk { returned, ..LeaseAsk::default() });
            }
            Next::Ask => {
                let ask = self.slices[node].ask(now);
                self.send(now, node, ask);
            }
        }
    }

    fn send(&mut self, now: u64, node: usize, ask: LeaseAsk) {
        self.requests.push(ask);
        let at = now + self.latency();
        self.put(at, Event::Request(node, self.requests.len() - 1));
    }

    /// How long a message takes, one way.
    fn latency(&mut self) -> u64 {
        150_000 + self.random.below(self.scene.latency)
    }

    fn ask(&mut self, now: u64, node: usize, ask: LeaseAsk) -> Grant {
        self.round_trips += 1;
        self.records.retain(|_, (until, _)| *until > now);
        self.records.remove(&node);
        let others: Vec<NodeRecord> = self.records.values().map(|(_, record)| *record).collect();
        let taken: u64 = others.iter().map(|other| other.taken).sum();
        let bucket = LeasedBucket { limits: &self.limits, cells: &mut self.cells, others: &others };
        let (grant, record) = grant_lease(bucket, &self.terms, now, &ask).unwrap();
        assert!(taken.max(self.terms.rate()) >= taken + record.taken, "more than the rate is out");
        if ask.want > 0 {
            self.records.insert(node, (now + self.terms.ttl(), record));
        }
        grant
    }

    /// The most admissions in any second.
    pub fn most_in_a_second(&self) -> usize {
        most_in_a_second(self.admitted.iter().map(|(at, _)| *at))
    }

    /// The most that slices admitted in any second.
    pub fn most_leased_in_a_second(&self) -> usize {
        most_in_a_second(self.leased.iter().copied())
    }

    /// The part of the limit that was used between two times after the start.
    pub fn used(&self, from: u64, to: u64) -> f64 {
        let within = |at: u64| (START + from..START + to).contains(&at);
        let admitted = self.admitted.iter().filter(|(at, _)| within(*at)).count();
        admitted as f64 / (to - from) as f64 * SECOND as f64 / self.limits[0].tokens() as f64
    }

    /// The admissions of each node between two times after the start.
    pub fn by_node(&self, from: u64, to: u64) -> Vec<usize> {
        let mut got = vec![0; self.slices.len()];
        for (at, node) in &self.admitted {
            if (START + from..START + to).contains(at) && *node < got.len() {
                got[*node] += 1;
            }
        }
        got
    }
}

fn most_in_a_second(times: impl Iterator<Item = u64>) -> usize {
    let mut within = VecDeque::new();
    let mut most = 0;
    for at in times {
        within.push_back(at);
        while within.front().is_some_and(|first| at - first >= SECOND) {
            within.pop_front();
        }
        most = most.max(within.len());
    }
    most
}
