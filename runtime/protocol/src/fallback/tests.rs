//! Tests of the policies on a store that fails when told to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use std::sync::Arc;

use proptest::prelude::*;
use tidegate_core::{Cells, Decision, Limit, Operation, Outcome, Reserved, Source, apply};

use super::share::LocalShare;
use crate::breaker::Outage;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const START: u64 = 1_764_000_000 * SECOND;

fn limits(texts: &[&str]) -> Arc<[Limit]> {
    texts.iter().map(|text| Limit::parse(text).unwrap()).collect()
}

fn outage(began: u64, now: u64) -> Outage {
    Outage { began, now, retry_in: 77 }
}

fn check(share: &LocalShare, key: &str, cost: u64, outage: Outage) -> Decision {
    match share.run(&[key.into()], Operation::Check { cost: cost.into() }, outage) {
        Outcome::Decision(decision) => Decision::from(decision),
        other => panic!("{other:?}"),
    }
}

/// A fleet on one bucket, whose store fails and returns.
struct Fleet {
    limit: Limit,
    limits: Arc<[Limit]>,
    store: Cells,
    members: Vec<LocalShare>,
    /// When and how much.
    admitted: Vec<(u64, u64)>,
}

impl Fleet {
    fn new(limit: Limit, peers: u32) -> Self {
        let limits: Arc<[Limit]> = Arc::new([limit]);
        let members = (0..peers).map(|_| LocalShare::new(&limits, peers, || 0).unwrap()).collect();
        Self { limit, limits, store: Cells::default(), members, admitted: Vec::new() }
    }

    fn asks_store(&mut self, member: usize, cost: u64, now: u64) {
        for post in self.members[member].take_deferred(&["k".into()], &self.limits, now) {
            let charge = Operation::Settle { charged: 0.into(), actual: post.tokens };
            apply(&self.limits, &mut self.store, now, charge).unwrap();
        }
        let outcome =
            apply(&self.limits, &mut self.store, now, Operation::Check { cost: cost.into() })
                .unwrap();
        if matches!(outcome, Outcome::Decision(decision) if decision.allowed) {
            self.admitted.push((now, cost));
        }
    }

    fn asks_share(&mut self, member: usize, cost: u64, outage: Outage) {
        if check(&self.members[member], "k", cost, outage).allowed {
            self.admitted.push((outage.now, cost));
        }
    }

    /// By how many tokens the fullest window is above the rate.
    fn above_rate(&self) -> u64 {
        let width = self.limit.timeline().width();
        let mut most = 0;
        for (index, &(from, _)) in self.admitted.iter().enumerate() {
            let mut sum = 0;
            for &(at, cost) in &self.admitted[index..] {
                sum += cost;
                most = most.max(sum.saturating_sub((at - from) / width));
            }
        }
        most
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Over any window the fleet admits what the limit does, and beside it the tokens that do
    /// not divide among the peers; and for as long as members return apart, one burst more.
    #[test]
    fn the_fleet_keeps_the_limit_while_its_store_fails_and_when_it_returns(
        burst in 1..60u64,
        peers in 1..8u32,
        calls in prop::collection::vec((0..8usize, 1..4u64, 0..120u64), 300),
        began in 0..100usize,
        lasts in 1..150usize,
        apart in prop::collection::vec(0..12usize, 8),
        at_once in any::<bool>(),
    ) {
        let mut fleet = Fleet::new(Limit::smooth(60, SECOND, burst).unwrap(), peers);
        let mut now = START;
        let mut noticed = [None; 8];
        for (turn, (member, cost, gap)) in calls.into_iter().enumerate() {
            let (member, cost) = (member % peers as usize, cost.min(burst));
            // Streaks without a pause as well as idleness.
            now += if gap < 100 { 0 } else { gap * MILLI };
            let back = began + lasts + if at_once { 0 } else { apart[member] };
            if (began..back).contains(&turn) {
                let began = *noticed[member].get_or_insert(now);
                fleet.asks_share(member, cost, outage(began, now));
            } else {
                if turn >= back && at_once {
                    // All are back before any spends.
                    (0..peers as usize).for_each(|each| fleet.asks_store(each, 0, now));
                }
                fleet.asks_store(member, cost, now);
            }
        }
        let peers = u64::from(peers);
        let one = burst.max(peers) + (peers - 1);
        let bound = if at_once { one } else { one + burst.max(peers) };
        prop_assert!(fleet.above_rate() <= bound, "{} of {bound}", fleet.above_rate());
    }
}

#[test]
fn a_share_begins_empty_and_fills_at_its_part_of_the_rate() {
    let share = LocalShare::new(&limits(&["60/s", "600/min burst 300"]), 3, || 0).unwrap();
    let at = |millis: u64, cost| check(&share, "k", cost, outage(START, START + millis * MILLI));
    let first = at(0, 1);
    assert!(!first.allowed && first.source == Source::Fallback);
    // A token of the slower limit takes 300 ms in a third.
    assert_eq!((first.remaining, first.retry_after, first.limit), (0, 300 * MILLI, 100));
    assert!(at(300, 1).allowed && !at(300, 1).allowed);
    // Another key, touched late, holds what has come since the failure began.
    let late = check(&share, "late", 10, outage(START, START + 3 * SECOND));
    assert!(late.allowed && late.remaining == 0, "{late:?}");
    // A failure later begins empty again, whatever was left.
    let again = check(&share, "late", 1, outage(START + 60 * SECOND, START + 60 * SECOND));
    assert!(!again.allowed);
}

/// A share that has room for one key refuses a peek at another as it would refuse its check, and
/// neither the peek's key nor its cost is kept.
#[test]
fn a_peek_at_a_share_answers_as_a_check_and_keeps_nothing() {
    let mut share = LocalShare::new(&limits(&["60/s"]), 3, || 0).unwrap();
    share.max_keys = 1;
    let at = |millis: u64| outage(START, START + millis * MILLI);
    let peek = |share: &LocalShare, key: &str, cost| match share.run(
        &[key.into()],
        Operation::Peek { cost },
        at(500),
    ) {
        Outcome::Decision(decision) => Decision::from(decision),
        other => panic!("{other:?}"),
    };
    for _ in 0..3 {
        let peeked = peek(&share, "a", 8.into());
        assert!(peeked.allowed && peeked.remaining == 1, "{peeked:?}");
        assert!(peek(&share, "b", 8.into()).allowed, "no room was taken");
    }
    assert!(!peek(&share, "a", 21.into()).allowed, "above the share's burst");
    let deferred = share.take_deferred(&["a".into()], &limits(&["60/s"]), START + 500 * MILLI);
    assert!(deferred.is_empty());
    assert!(check(&share, "a", 8, at(500)).allowed);
    assert_eq!(peek(&share, "b", 8.into()), check(&share, "b", 8, at(500)));
    assert!(!peek(&share, "b", 8.into()).allowed && peek(&share, "b", 0.into()).allowed);
}

#[test]
fn what_is_never_in_the_share_is_refused_until_the_store_is_asked() {
    let share = LocalShare::new(&limits(&["60/s"]), 7, || 0).unwrap();
    let much_later = outage(START, START + 60 * SECOND);
    let refused = check(&share, "k", 9, much_later);
    assert_eq!((refused.allowed, refused.remaining, refused.retry_after), (false, 8, 77));
    let reserved = share.run(
        &["k".into()],
        Operation::Reserve { cost: 9.into(), max_wait: 5, min_wait: 0 },
        much_later,
    );
    assert!(matches!(reserved, Outcome::Reserved(Reserved::TooFar(_))), "{reserved:?}");
    assert!(check(&share, "k", 8, much_later).allowed);
}

#[test]
fn what_is_charged_later_is_what_is_still_owed() {
    let all = limits(&["100/s burst 60"]);
    let share = LocalShare::new(&all, 3, || 0).unwrap();
    let key = ["k".to_owned().into_bytes()];
    let at = |millis: u64| outage(START, START + millis * MILLI);
    let owed = |millis: u64| {
        let charges = share.take_deferred(&key, &all, START + millis * MILLI);
        charges.iter().map(|post| (post.tokens.of_tier(0), post.hold / MILLI)).collect::<Vec<_>>()
    };
    assert_eq!(owed(0), []);
    assert!(check(&share, "k", 20, at(1_001)).allowed);
    share.run(&key, Operation::Settle { charged: 20.into(), actual: 8.into() }, at(1_001));
    // Three of the eight have come back in 100 ms.
    assert_eq!(owed(1_101), [(5, 0)]);
    assert_eq!(owed(1_101), [], "it is charged once");
    share.run(&key, Operation::Hold { wait: 5 * SECOND }, at(2_000));
    assert!(!check(&share, "k", 1, at(6_999)).allowed);
    assert_eq!(owed(6_999), [(0, 1)]);
    let refused = check(&share, "k", 1, at(6_999));
    assert_eq!((refused.allowed, refused.retry_after), (false, MILLI), "the pause stays here too");
}

#[test]
fn a_slot_of_the_share_can_be_given_back_until_it_is_charged() {
    let all = limits(&["60/s", "1000/h"]);
    let share = LocalShare::new(&all, 3, || 0).unwrap();
    let keys = ["user".to_owned().into_bytes(), "org".to_owned().into_bytes()];
    let now = START + 60 * SECOND;
    let reserve = || match share.run(
        &keys,
        Operation::Reserve { cost: 2.into(), max_wait: u64::MAX, min_wait: 0 },
        outage(START, now),
    ) {
        Outcome::Reserved(Reserved::Slot(slot)) => slot,
        other => panic!("{other:?}"),
    };
    let (first, second) = (reserve(), reserve());
    assert!(share.cancel(&keys, &second.charge, now));
    let charges = share.take_deferred(&keys, &all, now);
    let charges: Vec<_> = charges
        .into_iter()
        .map(|charge| (charge.key, charge.limits.to_vec(), charge.tokens.of_tier(0)))
        .collect();
    assert_eq!(charges, [(keys[0].clone(), vec![all[0]], 2), (keys[1].clone(), vec![all[1]], 2)]);
    assert!(!share.cancel(&keys, &first.charge, now), "the store has been charged");
}

#[test]
fn keys_beyond_the_room_are_refused_and_full_ones_make_room() {
    let mut share = LocalShare::new(&limits(&["100/s burst 60"]), 3, || 0).unwrap();
    share.max_keys = 10;
    let fill = |from: u32, now: u64| {
        (from..from + 20)
            .filter(|key| check(&share, &key.to_string(), 5, outage(START, now)).allowed)
            .count()
    };
    assert_eq!(fill(0, START + SECOND), 10);
    let refused = check(&share, "another", 5, outage(START, START + SECOND));
    assert_eq!((refused.remaining, refused.retry_after), (20, 77));
    assert!(check(&share, "3", 5, outage(START, START + SECOND)).allowed, "it has room");
    assert_eq!(fill(100, START + 2 * SECOND), 10, "the others are full again");
}
