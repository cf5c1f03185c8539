//! A simulated fleet whose calls cost a number of tokens of each limit of one bucket, with budgets or
//! without, and the scenes that it is put through.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tidegate_core::{
    Budget, Cells, Cost, Grant, LeaseAsk, LeaseTerms, LeasedBucket, Limit, Next, NodeRecord,
    Operation, Outcome, Slice, SpendResult, TieredDecision, Timeline, apply, decide_each_tier,
    grant_lease,
};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLI: u64 = 1_000_000;
pub const START: u64 = 1_764_000_000 * SECOND;

/// A refusal is kept for this long, as by default.
const DENY_CACHE: u64 = 100 * MILLI;

/// A random number generator: SplitMix64.
#[derive(Clone)]
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

/// What the nodes are asked for, and what happens to them.
#[derive(Clone, Debug)]
pub struct Scene {
    pub limits: &'static [&'static str],
    pub ttl: u64,
    pub has_budgets: bool,
    /// The part of the demand of each node.
    pub parts: &'static [u64],
    /// The demand in percent of the limit that refills slowest; the next one holds from each
    /// `moves` on, and the parts then move on by one node.
    pub loads: &'static [u64],
    pub moves: u64,
    /// How many of a hundred calls have one cost for all limits.
    pub one_cost: u64,
    /// The first nodes make only calls with one cost.
    pub only_one_cost: usize,
    /// The largest cost: each number is drawn from 1 to it.
    pub costs: u64,
    /// The calls that come at once.
    pub bunch: u64,
    pub lasts: u64,
    pub seed: u64,
    /// Nodes that crash, and the time after the start.
    pub crashes: &'static [(usize, u64)],
    /// Holds: the time after the start, and how long.
    pub holds: &'static [(u64, u64)],
    /// Resets: the time after the start.
    pub resets: &'static [u64],
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            limits: &["1000000/s", "90000000/min"],
            ttl: SECOND,
            has_budgets: true,
            parts: FOUR,
            loads: &[45],
            moves: 20 * SECOND,
            one_cost: 30,
            only_one_cost: 0,
            costs: 1_000,
            bunch: 1,
            lasts: 20 * SECOND,
            seed: 0,
            crashes: &[],
            holds: &[],
            resets: &[],
        }
    }
}

pub const FOUR: &[u64] = &[1; 4];
pub const TEN: &[u64] = &[1; 10];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A number into `Fleet::messages`, for what has contents.
    Message(usize),
    Arrival(usize),
    Tick(usize),
    Hold(u64),
    Reset,
}

/// What is under way between a node and the bucket.
#[derive(Clone, Debug)]
enum Message {
    Check(usize, Cost),
    Checked(usize, Cost, TieredDecision),
    Request(usize, Operation),
    Answer(usize, TieredDecision),
    Credit(Cost),
    LeaseAsk(usize, LeaseAsk),
    Grant(usize, Grant),
}

struct Node {
    budget: Option<Budget>,
    slice: Slice,
    /// The bucket's cells at the last refusal, its clock then, and when the answer came.
    refused: Option<(Cells, u64, u64)>,
    arrivals: Random,
}

/// A call that was allowed.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    pub at: u64,
    pub node: usize,
    pub cost: Cost,
}

pub struct Fleet {
    pub scene: Scene,
    random: Random,
    pub limits: Vec<Limit>,
    pub terms: LeaseTerms,
    cells: Cells,
    records: BTreeMap<usize, (u64, NodeRecord)>,
    nodes: Vec<Node>,
    messages: Vec<Option<Message>>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    pub admitted: Vec<Admission>,
    /// The debt that resets forgave: when, and tokens of each limit.
    pub forgiven: Vec<(u64, Vec<u64>)>,
    pub offered: u64,
    pub leased: u64,
    pub round_trips: u64,
    pub credits: u64,
    pub takes: u64,
    pub takes_refused: u64,
    /// The refused calls: when, and of which node.
    pub refused: Vec<(u64, usize)>,
    /// The times of all calls.
    pub calls: Vec<u64>,
}

impl Fleet {
    pub fn run(scene: Scene) -> Self {
        let limits: Vec<Limit> =
            scene.limits.iter().map(|text| Limit::parse(text).unwrap()).collect();
        let terms = LeaseTerms::new(&limits, scene.ttl, 1_000).unwrap();
        let nodes = (0..scene.parts.len() as u64).map(|node| Node {
            budget: None,
            slice: Slice::new(terms, START),
            refused: None,
            arrivals: Random(scene.seed * 1_000 + node),
        });
        let mut fleet = Self {
            random: Random(scene.seed + 77),
            limits,
            terms,
            cells: Cells::default(),
            records: BTreeMap::new(),
            nodes: nodes.collect(),
            messages: Vec::new(),
            events: BinaryHeap::new(),
            count: 0,
            admitted: Vec::new(),
            forgiven: Vec::new(),
            offered: 0,
            leased: 0,
            round_trips: 0,
            credits: 0,
            takes: 0,
            takes_refused: 0,
            refused: Vec::new(),
            calls: Vec::new(),
            scene,
        };
        for node in 0..fleet.nodes.len() {
            let at = START + fleet.nodes[node].arrivals.below(100 * MILLI);
            fleet.put(at, Event::Arrival(node));
            fleet.put(at, Event::Tick(node));
        }
        for &(at, wait) in fleet.scene.holds {
            fleet.put(START + at, Event::Hold(wait));
        }
        for &at in fleet.scene.resets {
            fleet.put(START + at, Event::Reset);
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

    fn send(&mut self, now: u64, message: Message) {
        let at = now + 150_000 + self.random.below(1_500_000);
        self.messages.push(Some(message));
        self.put(at, Event::Message(self.messages.len() - 1));
    }

    fn is_crashed(&self, now: u64, node: usize) -> bool {
        self.scene.crashes.iter().any(|&(it, at)| it == node && now >= START + at)
    }

    fn happen(&mut self, now: u64, event: Event) {
        match event {
            Event::Arrival(node) | Event::Tick(node) if self.is_crashed(now, node) => {}
            Event::Arrival(node) => self.arrive(now, node),
            Event::Tick(node) => {
                self.act(now, node);
                let late = self.random.below(2 * MILLI);
                self.put(now + self.terms.tick(node as u64 * 97) + late, Event::Tick(node));
            }
            Event::Hold(wait) => {
                self.apply(now, Operation::Hold { wait });
            }
            Event::Reset => {
                let debts = self.limits.iter().zip(self.cells).map(|(limit, cell)| {
                    cell.saturating_sub(limit.timeline().position(now))
                        .div_ceil(limit.timeline().width())
                });
                let debts = debts.collect();
                self.forgiven.push((now, debts));
                self.apply(now, Operation::Reset);
            }
            Event::Message(number) => {
                if let Some(message) = self.messages[number].take() {
                    self.deliver(now, message);
                }
            }
        }
    }

    fn apply(&mut self, now: u64, operation: Operation) -> TieredDecision {
        match apply(&self.limits, &mut self.cells, now, operation).unwrap() {
            Outcome::Decision(decision) => decision,
            other => panic!("{other:?}"),
        }
    }

    fn deliver(&mut self, now: u64, message: Message) {
        match message {
            Message::Check(node, cost) => {
                let before = self.cells;
                let decision = self.apply(now, Operation::Check { cost });
                if decision.allowed {
                    self.admitted.push(Admission { at: now, node, cost });
                } else {
                    self.refused.push((now, node));
                    self.nodes[node].refused = Some((before, now, now));
                }
                self.send(now, Message::Checked(node, cost, decision));
            }
            Message::Checked(node, ..) | Message::Answer(node, _) | Message::Grant(node, _)
                if self.is_crashed(now, node) => {}
            Message::Checked(node, cost, decision) => {
                let allowed = decision.allowed;
                let node = &mut self.nodes[node];
                if let Some(budget) = &mut node.budget {
                    budget.answered_directly(now, &cost, Some(&decision));
                } else if let Some(tokens) = cost.uniform() {
                    node.slice.answered_directly(now, tokens, allowed);
                }
            }
            Message::Request(node, operation) => {
                let decision = self.apply(now, operation);
                if matches!(operation, Operation::Check { .. }) {
                    self.takes += 1;
                    self.takes_refused += u64::from(!decision.allowed);
                }
                self.send(now, Message::Answer(node, decision));
            }
            Message::Answer(node, decision) => {
                let budget = self.nodes[node].budget.as_mut();
                if let Some(cost) = budget.and_then(|budget| budget.answered(now, Some(&decision)))
                {
                    self.round_trips += 1;
                    self.credits += 1;
                    self.nodes[node].refused = None;
                    self.send(now, Message::Credit(cost));
                }
            }
            Message::Credit(tokens) => {
                self.apply(now, Operation::Credit { tokens });
            }
            Message::LeaseAsk(node, ask) => {
                let grant = self.grant(now, node, ask);
                if ask.want > 0 {
                    self.send(now, Message::Grant(node, grant));
                }
            }
            Message::Grant(node, grant) => {
                self.nodes[node].slice.granted(now, &grant);
                self.act_if_replaced(now, node);
            }
        }
    }

    fn load(&self, now: u64) -> (u64, usize) {
        let moved = ((now - START) / self.scene.moves) as usize;
        (self.scene.loads[moved % self.scene.loads.len()], moved)
    }

    /// The calls of a node in a second, in thousandths.
    fn demand(&self, now: u64, node: usize) -> u64 {
        let (load, moved) = self.load(now);
        let rate = |limit: &Limit| {
            u128::from(limit.tokens()) * 1_000_000_000_000 / u128::from(limit.period())
        };
        let slowest = self.limits.iter().map(rate).min().unwrap() as u64;
        let parts = self.scene.parts;
        let all: u64 = parts.iter().sum();
        let mean = self.scene.costs.div_ceil(2);
        slowest * load / 100 / mean * parts[(node + moved) % parts.len()] / all
    }

    fn arrive(&mut self, now: u64, node: usize) {
        let mean = 1_000 * SECOND / self.demand(now, node).max(1) * self.scene.bunch;
        let random = &mut self.nodes[node].arrivals;
        let chance = (random.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
        let gap = (-chance.ln() * mean as f64) as u64;
        let moves = START + ((now - START) / self.scene.moves + 1) * self.scene.moves;
        let next = now + gap;
        let next = if next > moves { moves + random.below(mean.min(50 * MILLI) + 1) } else { next };
        let mut costs = Vec::new();
        for _ in 0..self.scene.bunch {
            let random = &mut self.nodes[node].arrivals;
            let is_one = random.below(100) < self.scene.one_cost || node < self.scene.only_one_cost;
            let mut draw = || random.below(self.scene.costs) + 1;
            let first = draw();
            let numbers: Vec<u64> = self.limits.iter().map(|_| draw()).collect();
            costs.push(if is_one { Cost::same(first) } else { Cost::each(&numbers).unwrap() });
        }
        self.put(next, Event::Arrival(node));
        for cost in costs {
            self.call(now, node, cost);
        }
    }

    fn call(&mut self, now: u64, node: usize, cost: Cost) {
        self.offered += 1;
        self.calls.push(now);
        if self.scene.has_budgets && self.pays(now, node, cost) {
            self.admitted.push(Admission { at: now, node, cost });
            self.leased += 1;
            return;
        }
        if let Some((mut cells, clock, at)) = self.nodes[node].refused {
            let passed = now - at.min(now);
            let later = decide_each_tier(&self.limits, &mut cells, clock + passed, cost).unwrap();
            if passed < DENY_CACHE && !later.allowed {
                self.refused.push((now, node));
                if let Some(budget) = &mut self.nodes[node].budget {
                    budget.answered_directly(now, &cost, Some(&later));
                }
                return;
            }
        }
        self.round_trips += 1;
        self.send(now, Message::Check(node, cost));
    }

    /// Whether a budget or a slice pays for the call; a refusal by a slice is one of the node.
    fn pays(&mut self, now: u64, node: usize, cost: Cost) -> bool {
        let (terms, limits) = (self.terms, &self.limits);
        let state = &mut self.nodes[node];
        let is_used = state.budget.as_ref().is_some_and(|budget| budget.is_used(now));
        match cost.uniform() {
            Some(tokens) if !is_used => {
                let spent = state.slice.spend(now, tokens);
                if state.slice.is_urgent(now) {
                    self.act(now, node);
                }
                matches!(spent, SpendResult::Allowed { .. })
            }
            _ => {
                let budget = state.budget.get_or_insert_with(|| Budget::new(&terms, limits, now));
                let paid = budget.spend(now, &cost).is_some();
                if budget.is_urgent(now) {
                    self.act(now, node);
                }
                self.act_if_replaced(now, node);
                paid
            }
        }
    }

    /// Gives up the slice of a node that uses a budget.
    fn act_if_replaced(&mut self, now: u64, node: usize) {
        let Node { budget, slice, .. } = &self.nodes[node];
        let is_used = budget.as_ref().is_some_and(|budget| budget.is_used(now));
        if is_used && slice.has_asked() && !slice.is_asking() {
            self.act(now, node);
        }
    }

    /// Does what a node's budget and slice need.
    fn act(&mut self, now: u64, node: usize) {
        let state = &mut self.nodes[node];
        let mut is_used = false;
        if let Some(budget) = &mut state.budget {
            is_used = budget.is_used(now);
            if let Some(operation) = budget.ask(now) {
                self.round_trips += 1;
                self.send(now, Message::Request(node, operation));
            } else if budget.is_over(now) {
                state.budget = None;
            }
        }
        let state = &mut self.nodes[node];
        if is_used {
            if state.slice.has_asked() && !state.slice.is_asking() {
                let returned = state.slice.leave(now);
                self.round_trips += 1;
                self.send(
                    now,
                    Message::LeaseAsk(node, LeaseAsk { returned, ..LeaseAsk::default() }),
                );
            }
            return;
        }
        let ask = match state.slice.next(now) {
            Next::Nothing => return,
            Next::Forget => {
                state.slice = Slice::new(self.terms, now);
                return;
            }
            Next::Leave => LeaseAsk { returned: state.slice.leave(now), ..LeaseAsk::default() },
            Next::Ask => state.slice.ask(now),
        };
        self.round_trips += 1;
        self.send(now, Message::LeaseAsk(node, ask));
    }

    fn grant(&mut self, now: u64, node: usize, ask: LeaseAsk) -> Grant {
        self.records.retain(|_, (until, _)| *until > now);
        self.records.remove(&node);
        let others: Vec<NodeRecord> = self.records.values().map(|(_, record)| *record).collect();
        let bucket = LeasedBucket { limits: &self.limits, cells: &mut self.cells, others: &others };
        let (grant, record) = grant_lease(bucket, &self.terms, now, &ask).unwrap();
        if ask.want > 0 {
            self.records.insert(node, (now + self.terms.ttl(), record));
        }
        grant
    }

    /// By how many tokens the fleet passed `burst + rate * (X + ttl)` of a limit in the worst stretch
    /// `X`; negative if it kept below.
    pub fn beyond_the_bound(&self, tier: usize) -> i128 {
        let limit = &self.limits[tier];
        let (tokens, nanos) = match limit.timeline() {
            Timeline::Smooth { width } => (1, width),
            Timeline::Stepped { tokens, period } => (tokens, period),
        };
        let (tokens, nanos) = (i128::from(tokens), i128::from(nanos));
        // In tokens times `nanos`.
        let allowed = i128::from(limit.burst()) * nanos + tokens * i128::from(self.terms.ttl());
        let spent = self.admitted.iter().map(|it| (it.at, i128::from(it.cost.of_tier(tier))));
        let forgiven = self.forgiven.iter().map(|(at, debts)| (*at, -i128::from(debts[tier])));
        let mut changes: Vec<(u64, i128)> = spent.chain(forgiven).collect();
        changes.sort_unstable();
        let (mut level, mut last, mut worst) = (0, START, i128::MIN);
        for (at, change) in changes {
            level = (level - tokens * i128::from(at - last)).max(0);
            level = (level + change * nanos).max(0);
            worst = worst.max(level - allowed);
            last = at;
        }
        worst.div_euclid(nanos)
    }

    /// The tokens of a limit that were spent between two times after the start, by node.
    pub fn spent_by_node(&self, tier: usize, from: u64, to: u64) -> Vec<u64> {
        let mut spent = vec![0; self.nodes.len()];
        for it in &self.admitted {
            if (START + from..START + to).contains(&it.at) {
                spent[it.node] += it.cost.of_tier(tier);
            }
        }
        spent
    }

    /// All tokens of a limit that were spent.
    pub fn spent(&self, tier: usize) -> u64 {
        self.spent_by_node(tier, 0, self.scene.lasts + 1).iter().sum()
    }

    /// The part of the calls that was refused from `from` after the start on.
    pub fn refused_from(&self, from: u64) -> f64 {
        let refused = self.refused.iter().filter(|(at, _)| *at >= START + from).count();
        let calls = self.calls.iter().filter(|at| **at >= START + from).count();
        refused as f64 / calls as f64
    }

    pub fn round_trips_per_call(&self) -> f64 {
        self.round_trips as f64 / self.offered as f64
    }
}
