//! A simulated fleet of nodes that lease one bucket: how much it admits in every sliding second,
//! how much of the limit it uses, which nodes get it, and what a crash costs.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod fleet;

use fleet::{
    BUSY, EQUAL, Fleet, MILLI, MOSTLY_MET, ONE_HOT, Pattern, Random, SECOND, START, Scene, UNEVEN,
};

const SEEDS: core::ops::Range<u64> = 0..8;
const NODES: usize = 6;
const PERIODS: usize = 30;

/// The seeds, each with the time within which the nodes begin.
fn seeds() -> impl Iterator<Item = (u64, u64)> {
    SEEDS.zip([MILLI, 100 * MILLI].into_iter().cycle())
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
    for demands in [UNEVEN, MOSTLY_MET, ONE_HOT, EQUAL, BUSY] {
        for (seed, starts_within) in seeds() {
            let fleet = Fleet::run(Scene { demands, seed, starts_within, ..Scene::default() });
            let (most, used) = (fleet.most_in_a_second(), fleet.used(0, fleet.scene.lasts));
            assert!(most <= 105, "{most} in a second: {:?}", fleet.scene);
            assert!(used >= 0.97, "{used:.3} of the limit: {:?}", fleet.scene);
        }
    }
}

/// Requests that come up to half a gap too early or too late.
#[test]
fn admits_the_limit_of_uneven_requests() {
    for (demands, least) in [(UNEVEN, 0.96), (EQUAL, 0.98), (BUSY, 0.99)] {
        for (seed, starts_within) in seeds() {
            let pattern = Pattern::Uneven;
            let scene = Scene { demands, pattern, seed, starts_within, ..Scene::default() };
            let fleet = Fleet::run(scene);
            let (most, used) = (fleet.most_in_a_second(), fleet.used(0, fleet.scene.lasts));
            assert!(most <= 105, "{most} in a second: {:?}", fleet.scene);
            assert!(used >= least, "{used:.3} of the limit: {:?}", fleet.scene);
        }
    }
}

/// However requests come, slices admit at most 4 % more than the rate in any second, also in the
/// first and after demand has shifted.
#[test]
fn slices_never_give_out_more_in_any_second() {
    for (limit, most) in [("100/s", 104), ("1000/s", 1_040), ("50/s burst 10", 52)] {
        for (demands, pattern) in [UNEVEN, MOSTLY_MET, ONE_HOT, EQUAL, BUSY]
            .iter()
            .flat_map(|it| Pattern::ALL.map(|p| (*it, p)))
        {
            for (seed, starts_within) in seeds() {
                let (moves, lasts) = (3 * SECOND, 10 * SECOND);
                let latency = [MILLI, 40 * MILLI][usize::from(seed % 4 > 1)];
                let scene = Scene {
                    limit,
                    demands,
                    pattern,
                    seed,
                    starts_within,
                    moves,
                    lasts,
                    latency,
                    ..Scene::default()
                };
                let fleet = Fleet::run(scene);
                let found = fleet.most_leased_in_a_second();
                assert!(found <= most, "{found} in a second: {:?}", fleet.scene);
            }
        }
    }
}

/// Demands of six nodes, which move every `MOVES` and are `least` to `most` together.
fn moving_demands(seed: u64, least: u64, most: u64) -> &'static [u64] {
    let mut random = Random(seed);
    let mut demands = Vec::new();
    for _ in 0..PERIODS {
        let weights: [u64; NODES] = core::array::from_fn(|_| 1 + random.below(100));
        let sum: u64 = weights.iter().sum();
        let wanted = least + random.below(most - least + 1);
        demands.extend(weights.map(|weight| (weight * wanted / sum).max(1)));
    }
    demands.leak()
}

/// Six nodes whose demand moves, in runs with 30 seeds. Answers the least part of the limit that was
/// used with 1.5 to 3 times the limit wanted, and the greatest part of the calls that was refused with
/// 45 % of it wanted.
fn six_nodes(moves: u64, pattern: Pattern) -> (f64, f64) {
    let run = |seed, least, most| {
        Fleet::run(Scene {
            demands: moving_demands(seed, least, most),
            nodes: Some(NODES),
            shift: NODES,
            moves: moves * SECOND,
            pattern,
            seed,
            ..Scene::default()
        })
    };
    let (mut used, mut refused) = (f64::INFINITY, 0.0_f64);
    for seed in 0..30 {
        let busy = run(seed, 150, 300);
        assert!(busy.most_leased_in_a_second() <= 104, "{:?}", busy.scene);
        used = used.min(busy.used(0, busy.scene.lasts));
        let calm = run(seed, 45, 45);
        let missed = calm.offered - calm.admitted.len() as u64;
        refused = refused.max(missed as f64 / calm.offered as f64);
    }
    println!("moves every {moves} s, {pattern:?}: {used:.4} used, {refused:.4} refused");
    (used, refused)
}

/// The figures are those of `docs/leases.md`, which says why they are no better.
#[test]
fn six_nodes_use_the_limit_while_even_demand_moves() {
    for (moves, least, most) in [(10, 0.985, 0.008), (5, 0.98, 0.015), (2, 0.95, 0.03)] {
        let (used, refused) = six_nodes(moves, Pattern::Even);
        assert!(used >= least && refused <= most, "{used:.4} used, {refused:.4} refused");
    }
}

#[test]
fn six_nodes_use_the_limit_while_random_demand_moves() {
    for (moves, least, most) in [(10, 0.92, 0.06), (5, 0.92, 0.06), (2, 0.91, 0.075)] {
        let (used, refused) = six_nodes(moves, Pattern::Random);
        assert!(used >= least && refused <= most, "{used:.4} used, {refused:.4} refused");
    }
}

/// The runs are so short that their beginning counts.
#[test]
fn uses_the_limit_soon() {
    for (demands, least) in [(UNEVEN, 0.965), (EQUAL, 0.97), (BUSY, 0.98)] {
        for (seed, starts_within) in seeds() {
            let (moves, lasts) = (10 * SECOND, 20 * SECOND);
            let fleet = Fleet::run(Scene {
                demands,
                seed,
                starts_within,
                moves,
                lasts,
                ..Scene::default()
            });
            let used = fleet.used(0, lasts);
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
fn needs_few_round_trips() {
    const THOUSAND: &[u64] = &[300, 200, 150, 100, 90, 60, 40, 30, 20, 10];
    for seed in SEEDS {
        let limit = "1000/s";
        let fleet = Fleet::run(Scene { limit, demands: THOUSAND, seed, ..Scene::default() });
        let round_trips = fleet.round_trips as f64 / fleet.offered as f64;
        assert!(round_trips <= 0.05, "{round_trips:.3} round_round trips per request");
    }
}

#[test]
fn never_admits_more_than_was_debited() {
    for limit in ["100/s", "100/s burst 10", "1000/s burst 200", "600/min burst 100"] {
        for (seed, direct) in SEEDS.zip([0, 30, 0, 500, 0, 100, 0, 10]) {
            let (crash, moves) = (Some((1, 5 * SECOND)), 3 * SECOND);
            let fleet = Fleet::run(Scene { limit, seed, direct, crash, moves, ..Scene::default() });
            let [limit] = fleet.limits;
            // A bucket with a small burst is taken ahead by at most a ttl.
            let ahead = limit.span().max(fleet.terms.ttl());
            for (count, (at, _)) in (1u64..).zip(&fleet.admitted) {
                let bound = (ahead + at - START) / limit.timeline().width();
                assert!(count <= bound, "{count} by then: {:?}", fleet.scene);
            }
        }
    }
}

#[test]
fn a_crash_costs_its_slice_for_a_ttl() {
    for seed in SEEDS {
        let crash_at = 15 * SECOND;
        // After demand has shifted once, node 8 wants 100 of the 100 tokens per second.
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

/// A client without leases is served beside slices that want all tokens, if the burst holds the
/// tokens of a ttl. It makes one call for each token and does not repeat a refused one.
#[test]
fn a_direct_client_gets_a_good_part_of_its_fair_share() {
    for limit in ["100/s", "100/s burst 300"] {
        for (seed, direct) in SEEDS.zip([3, 5, 7, 9].into_iter().cycle()) {
            let (demands, lasts) = (BUSY, 25 * SECOND);
            let fleet =
                Fleet::run(Scene { limit, demands, direct, seed, lasts, ..Scene::default() });
            let from = START + 5 * SECOND;
            let (own, all) = fleet
                .admitted
                .iter()
                .filter(|(at, _)| *at >= from)
                .fold((0, 0), |(own, all), (_, node)| {
                    (own + u64::from(*node == usize::MAX), all + 1)
                });
            assert!(own >= direct * 20 / 2, "{own} of {}: {:?}", direct * 20, fleet.scene);
            assert!(all >= 1_900, "{all} in 20 seconds: {:?}", fleet.scene);
        }
    }
}

/// If the nodes use little of the limit, demand may rise to many times its size and hardly a call
/// is refused.
#[test]
fn a_rise_on_a_large_limit_is_met_at_once() {
    for pattern in [Pattern::Even, Pattern::Uneven, Pattern::Random] {
        let (limit, demands) = ("1000000/s", [100, 5_000, 100, 5_000].as_slice());
        let (moves, lasts) = (2 * SECOND, 8 * SECOND);
        let fleet = Fleet::run(Scene { limit, demands, moves, lasts, pattern, ..Scene::default() });
        let refused = fleet.offered - fleet.admitted.len() as u64;
        assert!(refused <= 20, "{refused} refused: {:?}", fleet.scene);
    }
}

/// If the nodes use little of the limit, a new slice follows its demand within a tenth of a ttl.
#[test]
fn a_small_demand_on_a_large_limit_is_met_soon() {
    for seed in SEEDS {
        let (limit, demands, lasts) = ("1000000/s", [1_000].as_slice(), 2 * SECOND);
        let fleet = Fleet::run(Scene { limit, demands, lasts, seed, ..Scene::default() });
        let late = START + 300 * MILLI;
        let admitted = fleet.admitted.iter().filter(|(at, _)| *at >= late).count();
        assert!(admitted >= 1_690, "{admitted} of 1700 after the start: {:?}", fleet.scene);
        let begun = fleet.admitted.first().map_or(0, |(at, _)| *at);
        let soon = fleet.admitted.iter().filter(|(at, _)| *at < begun + 200 * MILLI).count();
        assert!(soon >= 180, "{soon} of the first 200: {:?}", fleet.scene);
    }
}
