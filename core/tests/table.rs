//! The table against an oracle that anyone can read, and under threads.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;

use proptest::prelude::*;
use tidegate_core::{
    Cells, Limit, ManualClock, OnFull, Segments, Slot, Table, TableFull, check_tables, decide,
    decide_tiers,
};

const SECOND: u64 = 1_000_000_000;

fn slots(count: usize) -> Box<[Slot]> {
    (0..count).map(|_| Slot::default()).collect()
}

/// Spreads small numbers over all 64 bits, as a hash does.
fn fingerprint(key: u64) -> u64 {
    let mixed = (key ^ key >> 31).wrapping_mul(0x7FB5_D329_728E_A185);
    (mixed ^ mixed >> 27).wrapping_mul(0x81DA_DEF4_BC2D_D44D)
}

fn spend<S: Segments + ?Sized>(
    table: &Table<'_, S>,
    limit: &Limit,
    key: u64,
    now: u64,
) -> Result<bool, TableFull> {
    let step = |cell| {
        let (decision, next) = decide(limit, cell, now, 1).unwrap();
        decision.allowed.then_some(next)
    };
    let cell = table.update(fingerprint(key), limit.timeline().position(now), step)?;
    Ok(step(cell).is_some())
}

proptest! {
    /// A map that never forgets answers the same, as long as there is room.
    #[test]
    fn answers_as_a_map_that_never_forgets(
        calls in prop::collection::vec((0..40u64, 0..3 * SECOND, 0..4u64), 1..300),
        stepped: bool,
    ) {
        let burst = if stepped { "3/s window" } else { "3/s" };
        let limits = [Limit::parse(burst).unwrap(), Limit::parse("20/min burst 7").unwrap()];
        let stores = [slots(64), slots(64)];
        let tables = [Table::new(&stores[0][..]), Table::new(&stores[1][..])]
            .map(|table| table.on_full(OnFull::Deny));
        let mut oracle: HashMap<u64, Cells> = HashMap::new();
        let clock = ManualClock::new(1_764_000_000 * SECOND);
        for (key, gap, cost) in calls {
            clock.advance(if gap.is_multiple_of(3) { 0 } else { gap / 20 });
            let now = tidegate_core::Clock::now(&clock);
            let answer = check_tables(&tables, &limits, &[fingerprint(key); 2], &clock, cost);
            let expected = decide_tiers(&limits, oracle.entry(key).or_default(), now, cost);
            prop_assert_eq!(answer, expected);
        }
    }
}

#[test]
fn a_full_bucket_makes_room_and_an_owed_one_does_not() {
    let limit = Limit::parse("1/s").unwrap();
    let slots = slots(16);
    let table = Table::new(&slots[..]).on_full(OnFull::Deny);
    let now = 1_764_000_000 * SECOND;
    for key in 0..16 {
        assert_eq!(spend(&table, &limit, key, now), Ok(true));
    }
    assert_eq!(spend(&table, &limit, 16, now), Err(TableFull { cell: now + SECOND }));
    assert_eq!(spend(&table, &limit, 3, now), Ok(false));
    for key in 100..116 {
        assert_eq!(spend(&table, &limit, key, now + SECOND + 1), Ok(true));
    }
    assert_eq!(
        spend(&table, &limit, 0, now + SECOND + 1),
        Err(TableFull { cell: now + 2 * SECOND + 1 })
    );
}

#[test]
fn the_idlest_bucket_is_dropped() {
    let limit = Limit::parse("10/s").unwrap();
    let slots = slots(8);
    let table = Table::new(&slots[..]).on_full(OnFull::EvictIdlest);
    let now = 1_764_000_000 * SECOND;
    for key in 0..8 {
        for _ in 0..=key {
            assert_eq!(spend(&table, &limit, key, now), Ok(true));
        }
    }
    assert_eq!(spend(&table, &limit, 8, now), Ok(true));
    assert_eq!(table.cell(fingerprint(0)), 0);
    assert!((1..=8).all(|key| table.cell(fingerprint(key)) > now));
}

#[test]
fn two_thirds_of_the_slots_find_room() {
    let limit = Limit::parse("1/h").unwrap();
    let slots = slots(48 * 1024);
    let table = Table::new(&slots[..]).on_full(OnFull::Deny);
    let denied = (0..32 * 1024).filter(|key| spend(&table, &limit, *key, SECOND).is_err()).count();
    assert_eq!(denied, 0);
}

/// Four threads, too few slots, a clock that runs: what each key was admitted is
/// within its bound, and no bucket was forgotten.
#[test]
fn threads_together_stay_within_the_bound() {
    const KEYS: u64 = 24;
    let limit = Limit::parse("1000/s burst 2").unwrap();
    let slots = slots(16);
    let start = 1_764_000_000 * SECOND;
    let clock = AtomicU64::new(start);
    let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|threads| {
        for thread in 0..4u64 {
            let (slots, clock, admitted) = (&slots, &clock, &admitted);
            threads.spawn(move || {
                let table = Table::new(&slots[..]).on_full(OnFull::Deny);
                for turn in 0..200_000u64 {
                    // Two threads each work on a key for a while, then it rests and makes room.
                    let key = fingerprint(turn / 50 * 2 + thread / 2) % KEYS;
                    let now = clock.fetch_add(20_000 / 4, Ordering::SeqCst);
                    if spend(&table, &limit, key, now) == Ok(true) {
                        admitted[usize::try_from(key).unwrap()].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let elapsed = clock.load(Ordering::SeqCst) - start;
    let bound = 2 + elapsed / 1_000_000;
    for admitted in admitted {
        let admitted = admitted.into_inner();
        assert!(admitted <= bound, "{admitted} of {bound}");
        assert!(admitted > 0, "a key was never admitted");
    }
}
