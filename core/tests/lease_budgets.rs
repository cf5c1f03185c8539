//! Slices of calls that cost a number of tokens of each limit, such as a request and its tokens: one
//! slice by itself, and a simulated fleet.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use tidegate_core::{
    BudgetSlice, Cells, Cost, Grant, LeaseAsk, LeaseTerms, LeasedBucket, Limit, Next, NodeRecord,
    ShareKind, SpendResult, decide_tiers, grant_lease,
};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const START: u64 = 1_764_000_000 * SECOND;

fn limits(texts: [&str; 2]) -> [Limit; 2] {
    texts.map(|text| Limit::parse(text).unwrap())
}

fn terms(limits: &[Limit], ttl: u64) -> LeaseTerms {
    LeaseTerms::new(limits, ttl, 1_000).unwrap().for_budgets(limits).unwrap()
}

fn cost(each: [u64; 2]) -> Cost {
    Cost::each(&each).unwrap()
}

/// A slice with `tokens` of the first limit, and a budget of the second.
fn slice(tokens: u64, budget: u64) -> BudgetSlice {
    let limits = limits(["6000/min", "9000000/min"]);
    let mut slice = BudgetSlice::new(terms(&limits, SECOND), START);
    slice.spend(START, &cost([1, 100]));
    slice.ask(START);
    let share = ShareKind::Whole;
    let budgets = [0, budget, 0, 0];
    let grant = Grant { tokens, pace: 100_000, most: 100, share, budgets, ..Grant::default() };
    slice.granted(START, &grant);
    slice
}

fn is_allowed(spent: SpendResult) -> bool {
    matches!(spent, SpendResult::Allowed { .. })
}

#[test]
fn the_limit_that_sets_the_pace_is_that_of_requests() {
    let tier = |texts: &[&str], ttl| {
        let limits: Vec<_> = texts.iter().map(|text| Limit::parse(text).unwrap()).collect();
        let terms = LeaseTerms::new(&limits, ttl, 500).unwrap().for_budgets(&limits)?;
        assert_eq!((terms.ttl(), terms.max_rate()), (ttl, terms.rate() / 2));
        Some((terms.tier(), terms.rate()))
    };
    assert_eq!(tier(&["600/min", "900000/min"], SECOND), Some((0, 10_000)));
    assert_eq!(tier(&["900000/min", "600/min", "10000/d"], SECOND), Some((1, 10_000)));
    // Six requests in a ttl are too few to slice; sixty are not.
    assert_eq!(tier(&["60/min", "900000/min"], 6 * SECOND), Some((1, 14_999_925)));
    assert_eq!(tier(&["60/min", "900000/min"], 60 * SECOND), Some((0, 1_000)));
    assert_eq!(tier(&["600/min"], SECOND), None);
}

/// A call is paid by every budget or by none, and one that a budget is too small for goes to the
/// bucket, with nothing spent.
#[test]
fn spends_all_budgets_or_none() {
    let mut slice = slice(10, 1_000);
    assert!(is_allowed(slice.spend(START, &cost([1, 400]))));
    let now = START + 20 * MILLI;
    assert!(is_allowed(slice.peek(now, &cost([1, 600]))));
    assert_eq!(slice.peek(now, &cost([1, 601])), SpendResult::Outside);
    assert_eq!(slice.spend(now, &cost([1, 601])), SpendResult::Outside);
    assert!(slice.is_urgent(START + 60 * MILLI), "it has too little, and asks for more");
    // More requests than the pace allows at once are refused, and take no tokens of the other limit.
    while is_allowed(slice.spend(now, &cost([1, 0]))) {}
    assert!(matches!(slice.spend(now, &cost([1, 600])), SpendResult::Refused { .. }));
    let later = now + 200 * MILLI;
    assert!(is_allowed(slice.spend(later, &cost([1, 600]))));
    assert_eq!(slice.spend(later, &cost([1, 1])), SpendResult::Outside);
    // What costs nothing of the limit that sets the pace is the bucket's.
    assert_eq!(slice.spend(later, &cost([0, 0])), SpendResult::Outside);
}

#[test]
fn a_slice_that_has_lapsed_or_is_paused_or_left_spends_nothing() {
    let mut lapsed = slice(10, 1_000);
    assert_eq!(lapsed.spend(START + SECOND, &cost([1, 1])), SpendResult::Outside);
    let ask = lapsed.ask(START + SECOND);
    assert_eq!(ask.budgets.unwrap()[1].held, 0);

    let mut paused = slice(10, 1_000);
    paused.ask(START + MILLI);
    paused.granted(START + MILLI, &Grant { hold: SECOND, pace: 1, most: 1, ..Grant::default() });
    assert!(!is_allowed(paused.spend(START + 2 * MILLI, &cost([1, 1]))));
    assert_eq!(paused.ask(START + 60 * MILLI).budgets.unwrap()[1].held, 0);

    let mut left = slice(10, 1_000);
    assert!(is_allowed(left.spend(START, &cost([1, 300]))));
    let ask = left.leave(START);
    assert_eq!((ask.want, ask.returned), (0, 9));
    assert_eq!(ask.budgets.unwrap()[1].returned, 700);
    assert_eq!(left.spend(START, &cost([1, 1])), SpendResult::Outside);
    assert_eq!(slice(10, 1_000).leave(START + SECOND).budgets.unwrap()[1].returned, 0);
}

/// The slice asks for what its calls cost on average, and gives back what it does not need.
#[test]
fn asks_for_the_tokens_of_its_calls() {
    let mut slice = slice(10, 100_000);
    for call in 0..10 {
        assert!(is_allowed(slice.spend(START + call * 20 * MILLI, &cost([1, 1_000 + call]))));
    }
    let asked = slice.ask(START + 200 * MILLI).budgets.unwrap();
    // Eleven calls of 10,145 tokens, the first of 100.
    assert_eq!(asked[1].ratio, 10_145_000_u64.div_ceil(11));
    assert_eq!(asked[1].held + asked[1].returned, 100_000 - 10_045);
    assert!(asked[1].returned > 0);
    assert_eq!(asked[0], Default::default());
}

enum Message {
    Request(usize, LeaseAsk),
    Grant(usize, Grant),
    Check(usize, Cost),
    Checked(usize, Cost, bool),
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// What a fleet has done.
#[derive(Default)]
struct Run {
    offered: u64,
    refused: u64,
    round_trips: u64,
    /// Calls that slices have decided.
    leased: u64,
    /// The tokens that were spent of each limit.
    spent: [u64; 2],
    most_leased_in_a_second: usize,
}

/// Runs nodes with these demands in requests per second for 20 seconds. A request costs 1 and, evenly
/// spread, `tokens`. At every moment, no node has spent more of a limit than was debited for it.
fn run(limits: [Limit; 2], demands: &[u64], tokens: core::ops::Range<u64>, seed: u64) -> Run {
    let terms = terms(&limits, SECOND);
    let (mut random, mut run) = (Random(seed), Run::default());
    let mut cells = Cells::default();
    let mut records: BTreeMap<usize, (u64, NodeRecord)> = BTreeMap::new();
    let mut slices = vec![BudgetSlice::new(terms, START); demands.len()];
    // What was debited for each node's slice, and it has not spent or given back.
    let mut owned = vec![[0_i128; 2]; demands.len()];
    let mut messages: BTreeMap<(u64, u64), Message> = BTreeMap::new();
    let (mut sent, mut second) = (0, VecDeque::new());
    for step in 0..20_000 {
        let now = START + step * MILLI;
        let mut send = |random: &mut Random, message| {
            sent += 1;
            messages.insert((now + (1 + random.below(4)) * MILLI, sent), message);
        };
        let act = |random: &mut Random,
                   slice: &mut BudgetSlice,
                   owned: &mut [i128; 2],
                   node,
                   send: &mut dyn FnMut(&mut Random, Message)| {
            let ask = match slice.next(now) {
                Next::Ask => slice.ask(now),
                Next::Leave => slice.leave(now),
                Next::Nothing | Next::Forget => return,
            };
            owned[0] -= i128::from(ask.returned);
            owned[1] -= i128::from(ask.budgets.unwrap()[1].returned);
            send(random, Message::Request(node, ask));
        };
        for (node, demand) in demands.iter().enumerate() {
            if step % 60 == node as u64 {
                act(&mut random, &mut slices[node], &mut owned[node], node, &mut send);
            }
            if random.below(1_000) >= *demand {
                continue;
            }
            run.offered += 1;
            let each = [1, tokens.start + random.below(tokens.end - tokens.start)];
            match slices[node].spend(now, &cost(each)) {
                SpendResult::Allowed { .. } => {
                    run.leased += 1;
                    second.push_back(now);
                    for tier in 0..2 {
                        run.spent[tier] += each[tier];
                        owned[node][tier] -= i128::from(each[tier]);
                        assert!(owned[node][tier] >= 0, "node {node} overspends limit {tier}");
                    }
                }
                SpendResult::Refused { .. } => {
                    (run.leased, run.refused) = (run.leased + 1, run.refused + 1)
                }
                SpendResult::Outside => {
                    run.round_trips += 1;
                    send(&mut random, Message::Check(node, cost(each)));
                }
            }
            if slices[node].is_urgent(now) {
                act(&mut random, &mut slices[node], &mut owned[node], node, &mut send);
            }
        }
        while second.front().is_some_and(|first| now - first >= SECOND) {
            second.pop_front();
        }
        run.most_leased_in_a_second = run.most_leased_in_a_second.max(second.len());
        let later = messages.split_off(&(now + 1, 0));
        for (_, message) in core::mem::replace(&mut messages, later) {
            let mut answer = |random: &mut Random, message| {
                sent += 1;
                messages.insert((now + (1 + random.below(4)) * MILLI, sent), message);
            };
            match message {
                Message::Request(node, ask) => {
                    run.round_trips += 1;
                    records.retain(|_, (until, _)| *until > now);
                    records.remove(&node);
                    let others: Vec<_> = records.values().map(|(_, record)| *record).collect();
                    let bucket =
                        LeasedBucket { limits: &limits, cells: &mut cells, others: &others };
                    let (grant, record) = grant_lease(bucket, &terms, now, &ask).unwrap();
                    owned[node][0] += i128::from(grant.tokens);
                    owned[node][1] += i128::from(grant.budgets[1]);
                    if ask.want > 0 {
                        records.insert(node, (now + terms.ttl(), record));
                        answer(&mut random, Message::Grant(node, grant));
                    }
                }
                Message::Grant(node, grant) => slices[node].granted(now, &grant),
                Message::Check(node, cost) => {
                    let allowed = decide_tiers(&limits, &mut cells, now, cost).unwrap().allowed;
                    run.refused += u64::from(!allowed);
                    for tier in 0..2 {
                        run.spent[tier] += u64::from(allowed) * cost.of_tier(tier);
                    }
                    answer(&mut random, Message::Checked(node, cost, allowed));
                }
                Message::Checked(node, cost, allowed) => {
                    slices[node].answered_directly(now, &cost, allowed);
                }
            }
        }
        for (tier, limit) in limits.iter().enumerate() {
            let bound = (limit.span().max(terms.ttl()) + now - START) / limit.timeline().width();
            assert!(run.spent[tier] <= bound, "limit {tier} is overspent");
        }
    }
    run
}

/// A fleet that asks for two thirds of both limits is hardly refused and makes few round trips.
#[test]
fn a_fleet_within_its_limits_needs_few_round_trips() {
    for seed in 0..4 {
        let limits = limits(["60000/min", "90000000/min"]);
        let run = run(limits, &[300, 200, 100, 50, 20], 500..2_500, seed);
        let (offered, trips) = (run.offered as f64, run.round_trips as f64);
        assert!(trips / offered <= 0.1, "{trips} round trips for {offered} calls");
        assert!(run.refused as f64 / offered <= 0.02, "{} of {offered} refused", run.refused);
    }
}

/// Where requests are scarce, slices give out at most 4 % more than the limit in any second.
#[test]
fn a_fleet_keeps_a_limit_of_requests_in_every_second() {
    for seed in 0..4 {
        let limits = limits(["6000/min burst 100", "90000000/min"]);
        let run = run(limits, &[150, 100, 50, 20, 5], 500..2_500, seed);
        assert!(run.most_leased_in_a_second <= 104);
        assert!(run.spent[0] >= 1_850, "{} of 2000 requests", run.spent[0]);
    }
}

/// Where tokens are scarce, the bucket decides what slices have no tokens for: all tokens are used.
#[test]
fn a_fleet_uses_up_a_limit_of_tokens() {
    for seed in 0..4 {
        let limits = limits(["60000/min", "9000000/min burst 150000"]);
        let run = run(limits, &[150, 100, 50, 20, 5], 500..2_500, seed);
        assert!(run.spent[1] >= 20 * 150_000 * 95 / 100, "{} of 3000000 tokens", run.spent[1]);
    }
}
