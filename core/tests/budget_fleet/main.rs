//! A simulated fleet whose calls cost a number of tokens of each limit: with budgets it keeps the bound
//! and uses as much of the limit as without, starves no node, and hardly needs round trips while the
//! bucket is not scarce.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod fleet;

use fleet::{FOUR, Fleet, MILLI, SECOND, START, Scene, TEN};

/// The number of the first seed. A longer run takes others: `LEASE_SEED=7 cargo test`.
fn seed() -> u64 {
    std::env::var("LEASE_SEED").map_or(0, |seed| seed.parse().unwrap())
}

/// Limits and the ttl. Every limit holds at least a ttl's tokens, and each process makes a few
/// hundred calls in a ttl.
const ROOMY: [(&[&str], u64); 3] = [
    (&["1000000/s", "90000000/min"], SECOND),
    (&["60000000/min", "2000000/s"], SECOND / 2),
    (&["200000/s burst 1000000", "12000000/min window", "900000000/h"], 5 * SECOND),
];

/// Limits with bursts that are smaller than a ttl's tokens.
const TIGHT: [(&[&str], u64); 3] = [
    (&["1000000/s burst 20000", "2000000/s"], SECOND),
    (&["1000000/s burst 300000", "90000000/min"], SECOND),
    (&["100000/s", "6000000/min"], 5 * SECOND),
];

fn scenes(sets: &'static [(&'static [&'static str], u64)]) -> impl Iterator<Item = Scene> {
    sets.iter().flat_map(|&(limits, ttl)| {
        [FOUR, TEN].into_iter().flat_map(move |parts| {
            let seed = seed() + parts.len() as u64;
            [Scene { limits, ttl, parts, seed, ..Scene::default() }]
        })
    })
}

fn without(scene: &Scene) -> Fleet {
    Fleet::run(Scene { has_budgets: false, ..scene.clone() })
}

fn assert_bound(fleet: &Fleet) {
    for tier in 0..fleet.limits.len() {
        let beyond = fleet.beyond_the_bound(tier);
        assert!(beyond <= 0, "{beyond} tokens beyond the bound of limit {tier}: {:?}", fleet.scene);
    }
}

/// The use of the limit is at least that without budgets, minus 1 %, from a ttl after the start on: before a
/// key has had a call with a cost per limit, slices pay for the others.
fn assert_use(with: &Fleet, without: &Fleet) {
    let (from, to) = (with.scene.ttl, with.scene.lasts);
    let spent = |fleet: &Fleet| fleet.spent_by_node(0, from, to).iter().sum::<u64>();
    let (own, other) = (spent(with), spent(without));
    assert!(own * 100 >= other * 99, "{own} of {other} tokens: {:?}", with.scene);
}

/// Each node gets at least half its fair share in every 5 s: the nodes are asked for the same.
fn assert_fair(fleet: &Fleet) {
    for from in (0..fleet.scene.lasts / SECOND - 4).map(|second| second * SECOND) {
        let got = fleet.spent_by_node(0, from, from + 5 * SECOND);
        let fair = got.iter().sum::<u64>() / got.len() as u64;
        assert!(got.iter().all(|got| *got >= fair / 2), "{got:?} from {from}: {:?}", fleet.scene);
    }
}

#[test]
fn needs_few_round_trips_and_refuses_nobody_while_the_bucket_is_not_scarce() {
    for load in [45, 70, 90] {
        let mut worst = (0.0_f64, 0.0_f64);
        for scene in scenes(&ROOMY) {
            let loads = match load {
                45 => &[45][..],
                70 => &[70],
                _ => &[90],
            };
            let with = Fleet::run(Scene { loads, ..scene });
            let without = without(&with.scene);
            assert_bound(&with);
            assert_use(&with, &without);
            let trips = with.round_trips_per_call();
            assert!(trips <= 0.1, "{trips:.3} round trips per call: {:?}", with.scene);
            // Before a key has had a call with a cost per limit, slices pay for the others.
            let from = with.scene.ttl;
            let more = with.refused_from(from) - without.refused_from(from);
            assert!(load > 45 || more <= 0.001, "{more:.4} more are refused: {:?}", with.scene);
            worst = (worst.0.max(trips), worst.1.max(more));
        }
        println!(
            "{load} %: at most {:.3} round trips per call, {:.5} more refused",
            worst.0, worst.1
        );
    }
}

#[test]
fn starves_nobody_at_overload() {
    for loads in [&[150][..], &[300], &[45, 300]] {
        let mut least = 9.0_f64;
        for scene in scenes(&ROOMY).chain(scenes(&TIGHT)) {
            let with = Fleet::run(Scene { loads, moves: 5 * SECOND, lasts: 12 * SECOND, ..scene });
            let without = without(&with.scene);
            assert_bound(&with);
            assert_use(&with, &without);
            assert_fair(&with);
            least = least.min(with.spent(0) as f64 / without.spent(0) as f64);
        }
        println!("{loads:?} %: uses at least {least:.4} of what is used without");
    }
}

#[test]
fn keeps_the_bound_where_the_burst_is_smaller_than_the_tokens_of_a_ttl() {
    for loads in [&[45][..], &[90]] {
        let (mut trips, mut refused) = (0.0_f64, 0.0_f64);
        for scene in scenes(&TIGHT) {
            let with = Fleet::run(Scene { loads, ..scene });
            let without = without(&with.scene);
            assert_bound(&with);
            assert_use(&with, &without);
            let from = with.scene.ttl;
            let more = with.refused_from(from) - without.refused_from(from);
            assert!(more <= 0.001, "{more:.4} more are refused: {:?}", with.scene);
            (trips, refused) = (trips.max(with.round_trips_per_call()), refused.max(more));
        }
        println!("{loads:?} %: at most {trips:.3} round trips per call, {refused:.5} more refused");
    }
}

/// Demand in bunches, and demand that jumps.
#[test]
fn keeps_the_bound_whatever_the_demand() {
    for scene in scenes(&ROOMY).chain(scenes(&TIGHT)) {
        for (bunch, loads) in [(20, &[45, 90][..]), (5, &[10, 400]), (100, &[300, 5])] {
            let with = Fleet::run(Scene { bunch, loads, moves: 700 * MILLI, ..scene.clone() });
            assert_bound(&with);
        }
    }
}

#[test]
fn crashes_lose_no_more_than_budgets() {
    let crashes = &[(0, 5 * SECOND), (1, 9_300 * MILLI), (2, 12_750 * MILLI)];
    for scene in scenes(&ROOMY) {
        for loads in [&[45][..], &[90], &[300]] {
            let with = Fleet::run(Scene { loads, crashes, ..scene.clone() });
            let without = without(&with.scene);
            assert_bound(&with);
            assert_use(&with, &without);
        }
    }
}

#[test]
fn a_hold_reaches_all_and_is_not_shortened() {
    let holds = &[(5 * SECOND, 4 * SECOND), (14_100 * MILLI, 3 * SECOND)];
    for scene in scenes(&ROOMY).chain(scenes(&TIGHT)) {
        for loads in [&[45][..], &[300]] {
            let with = Fleet::run(Scene { loads, holds, ..scene.clone() });
            assert_bound(&with);
            for (at, wait) in holds {
                let during = |it: &&fleet::Admission| {
                    let from = START + at + with.scene.ttl / 2 + 10 * MILLI;
                    it.at >= from && it.at < START + at + wait
                };
                assert_eq!(with.admitted.iter().filter(during).count(), 0, "{:?}", with.scene);
            }
        }
    }
}

#[test]
fn a_reset_adds_no_more_than_it_forgives() {
    let resets = &[4 * SECOND, 4_200 * MILLI, 11 * SECOND];
    for scene in scenes(&ROOMY).chain(scenes(&TIGHT)) {
        for loads in [&[90][..], &[300]] {
            assert_bound(&Fleet::run(Scene { loads, resets, ..scene.clone() }));
        }
    }
}

/// Nodes that make only calls with one cost have slices beside the budgets of the others.
#[test]
fn slices_of_other_nodes_leave_the_calls_their_tokens() {
    for scene in scenes(&ROOMY) {
        let with = Fleet::run(Scene { only_one_cost: 1, ..scene });
        let refused = with.refused_from(with.scene.ttl);
        assert!(refused <= 0.001, "{refused:.4} are refused: {:?}", with.scene);
    }
}
