//! The table against a map that is easy to read, and under threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::collections::HashMap;
use std::sync::{Barrier, OnceLock};
use std::thread;

use proptest::prelude::*;
use tidegate_core::{
    Cells, Clock as _, Limit, MAX_TIERS, ManualClock, OnFull, Operation, Outcome, Reservation,
    Reserved, Segments, Slot, Table, TableFull, apply, apply_tables, check_tables, decide,
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
    /// While there is room, the table answers as a map that never forgets.
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

/// A call: an operation, or a cancel of one of the reservations that there are by then.
#[derive(Clone, Copy, Debug)]
enum Call {
    Operation(Operation),
    Cancel { which: usize },
}

fn call() -> impl Strategy<Value = Call> {
    let operation = prop_oneof![
        6 => (0..5u64).prop_map(|cost| Operation::Check { cost: cost.into() }),
        2 => (0..5u64).prop_map(|cost| Operation::Peek { cost: cost.into() }),
        3 => (0..4u64, 0..4 * SECOND)
            .prop_map(|(cost, max_wait)| Operation::Reserve { cost: cost.into(), max_wait, min_wait: 0 }),
        2 => (0..4u64, 0..9u64).prop_map(|(charged, actual)| Operation::Settle { charged: charged.into(), actual: actual.into() }),
        2 => (0..6u64).prop_map(|tokens| Operation::Credit { tokens: tokens.into() }),
        1 => (0..3 * SECOND).prop_map(|wait| Operation::Hold { wait }),
        1 => Just(Operation::Reset),
    ];
    prop_oneof![
        15 => operation.prop_map(Call::Operation),
        3 => any::<usize>().prop_map(|which| Call::Cancel { which }),
    ]
}

/// Buckets that are never forgotten, in a map for each limit.
#[derive(Default)]
struct Map([HashMap<u64, u64>; MAX_TIERS]);

impl Map {
    fn apply(
        &mut self,
        limits: &[Limit],
        keys: &[u64],
        now: u64,
        operation: Operation,
    ) -> Result<Outcome, tidegate_core::Error> {
        let mut cells = Cells::default();
        for ((cell, buckets), key) in cells.iter_mut().zip(&self.0).zip(keys) {
            *cell = buckets.get(key).copied().unwrap_or(0);
        }
        let outcome = apply(limits, &mut cells, now, operation);
        for ((cell, buckets), key) in cells.iter().zip(&mut self.0).zip(keys) {
            buckets.insert(*key, *cell);
        }
        outcome
    }
}

/// The keys of a reservation, and the reservation as the table and the map have it.
type Held = (Vec<u64>, Reservation, Reservation);

/// Checks that the answers are equal but for the cells of a reservation, because all cells up to
/// the position are the same full bucket. Keeps the reservation.
fn assert_alike(
    table: Result<Outcome, tidegate_core::Error>,
    map: Result<Outcome, tidegate_core::Error>,
    keys: &[u64],
    held: &mut Vec<Held>,
) -> Result<(), TestCaseError> {
    match (table, map) {
        (
            Ok(Outcome::Reserved(Reserved::Slot(table))),
            Ok(Outcome::Reserved(Reserved::Slot(map))),
        ) => {
            prop_assert_eq!(
                (table.delay, table.decision, table.charge.cost),
                (map.delay, map.decision, map.charge.cost)
            );
            held.push((keys.to_vec(), table, map));
        }
        (table, map) => prop_assert_eq!(table, map),
    }
    Ok(())
}

proptest! {
    /// While there is room, every operation answers as on a map that never forgets. A peek answers
    /// what the check after it answers.
    #[test]
    fn operations_answer_as_on_a_map_that_never_forgets(
        calls in prop::collection::vec(([0..12u64, 0..5, 0..2], 0..3 * SECOND, call()), 1..150),
        tiers in 1..4usize,
        stepped: bool,
    ) {
        let texts = [if stepped { "3/s window" } else { "3/s" }, "20/min burst 7", "30/min burst 9"];
        let limits = &texts.map(|text| Limit::parse(text).unwrap())[..tiers];
        let stores: Vec<_> = limits.iter().map(|_| slots(64)).collect();
        let tables: Vec<_> =
            stores.iter().map(|slots| Table::new(&slots[..]).on_full(OnFull::Deny)).collect();
        let mut map = Map::default();
        let mut held: Vec<Held> = Vec::new();
        let clock = ManualClock::new(1_764_000_000 * SECOND);
        for (keys, gap, call) in calls {
            clock.advance(if gap.is_multiple_of(3) { 0 } else { gap / 10 });
            let mut keys = keys[..tiers].to_vec();
            let (for_table, for_map) = match call {
                Call::Operation(operation) => (operation, operation),
                Call::Cancel { .. } if held.is_empty() => continue,
                Call::Cancel { which } => {
                    let (charged_keys, table, map) = held.swap_remove(which % held.len());
                    keys = charged_keys;
                    (Operation::Cancel(table.charge), Operation::Cancel(map.charge))
                }
            };
            let fingerprints: Vec<_> = keys.iter().map(|key| fingerprint(*key)).collect();
            let peeked = match for_table {
                Operation::Check { cost } => Some(Operation::Peek { cost }),
                _ => None,
            };
            let peeked =
                peeked.map(|peek| apply_tables(&tables, limits, &fingerprints, &clock, peek));
            let answer = apply_tables(&tables, limits, &fingerprints, &clock, for_table);
            prop_assert_eq!(peeked.unwrap_or(answer), answer);
            let expected = map.apply(limits, &keys, clock.now(), for_map);
            assert_alike(answer, expected, &keys, &mut held)?;
            let look = Operation::Check { cost: 0.into() };
            let left = apply_tables(&tables, limits, &fingerprints, &clock, look);
            prop_assert_eq!(left, map.apply(limits, &keys, clock.now(), look));
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
fn a_call_that_costs_nothing_takes_no_slot() {
    let limit = Limit::parse("10/s").unwrap();
    let slots = slots(8);
    let tables = [Table::new(&slots[..])];
    for operation in [
        Operation::Check { cost: 0.into() },
        Operation::Peek { cost: 10.into() },
        Operation::Credit { tokens: 1.into() },
    ] {
        let clock = ManualClock::new(7 * SECOND);
        apply_tables(&tables, &[limit], &[fingerprint(1)], &clock, operation).unwrap();
        assert!(slots.iter().all(|slot| slot[0].load(Ordering::Acquire) == 0));
    }
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

/// With four threads, too few slots and a running clock, each key is admitted within its bound, and
/// no bucket is forgotten.
#[test]
fn threads_together_stay_within_the_bound() {
    const KEYS: u64 = 24;
    let limit = Limit::parse("1000/s burst 2").unwrap();
    let slots = slots(16);
    let start = 1_764_000_000 * SECOND;
    let clock = AtomicU64::new(start);
    let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|threads| {
        for thread in 0..4u64 {
            let (slots, clock, admitted) = (&slots, &clock, &admitted);
            threads.spawn(move || {
                let table = Table::new(&slots[..]).on_full(OnFull::Deny);
                for turn in 0..200_000u64 {
                    // Two threads work on each key for a while; then it rests and makes room.
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

/// Segments that are added when needed, each four times as large as the one before.
struct Growing {
    segments: [OnceLock<Box<[Slot]>>; 6],
    count: AtomicUsize,
}

impl Growing {
    fn new() -> Self {
        let growing = Self { segments: Default::default(), count: AtomicUsize::new(0) };
        growing.grow(0);
        growing
    }
}

impl Segments for Growing {
    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn segment(&self, index: usize) -> &[Slot] {
        self.segments.get(index).and_then(OnceLock::get).map_or(&[], |slots| slots)
    }

    fn grow(&self, count: usize) -> bool {
        let Some(segment) = self.segments.get(count) else { return false };
        segment.get_or_init(|| slots(16 << (2 * count)));
        self.count.compare_exchange(count, count + 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn can_grow(&self, count: usize) -> bool {
        count < self.segments.len()
    }
}

/// The number of slots that hold a bucket, by key.
fn buckets_by_key<S: Segments + ?Sized>(segments: &S) -> HashMap<u64, usize> {
    let mut buckets = HashMap::new();
    for slot in (0..segments.count()).flat_map(|index| segments.segment(index)) {
        let word = slot[0].load(Ordering::Acquire);
        if word >> 62 >= 2 {
            *buckets.entry(word << 16 >> 16).or_default() += 1;
        }
    }
    buckets
}

fn assert_one_bucket_each<S: Segments + ?Sized>(segments: &S) {
    let twice: Vec<_> =
        buckets_by_key(segments).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "keys with several buckets: {twice:x?}");
}

/// Runs the body in four threads that begin together, and answers what they returned.
fn in_four_threads<R: Send>(body: impl Fn(u64) -> R + Sync) -> Vec<R> {
    let start = Barrier::new(4);
    thread::scope(|threads| {
        let started: Vec<_> = (0..4)
            .map(|thread| {
                let (start, body) = (&start, &body);
                threads.spawn(move || {
                    start.wait();
                    body(thread)
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// All four threads meet each new key at about the same time, while segments are added.
#[test]
fn a_growing_table_admits_each_key_its_burst() {
    const KEYS: u64 = 4_000;
    let limit = Limit::parse("1/h burst 2").unwrap();
    for round in 0..10 {
        let segments = Growing::new();
        let key = |number: u64| round * KEYS + number;
        let admitted = in_four_threads(|_| {
            let table = Table::new(&segments).on_full(OnFull::Deny);
            let admits = |number| spend(&table, &limit, key(number), 7 * SECOND).unwrap();
            (0..KEYS).map(|number| u32::from(admits(number))).collect::<Vec<_>>()
        });
        assert!(segments.count() > 3, "it has grown to {} segments", segments.count());
        assert_eq!(buckets_by_key(&segments).len(), 4_000);
        assert_one_bucket_each(&segments);
        for number in 0..4_000 {
            let sum: u32 = admitted.iter().map(|thread| thread[number]).sum();
            assert_eq!(sum, 2, "of key {number}, of which two tokens exist");
        }
    }
}

/// Where the next new key would make a table grow, a peek at one is allowed, and the table stays
/// as it is.
#[test]
fn a_peek_grows_no_table() {
    let limit = Limit::parse("1/h").unwrap();
    let (segments, clock) = (Growing::new(), ManualClock::new(7 * SECOND));
    let table = Table::new(&segments).on_full(OnFull::Deny);
    let peek = |key| match apply_tables(
        &[table],
        &[limit],
        &[fingerprint(key)],
        &clock,
        Operation::Peek { cost: 1.into() },
    ) {
        Ok(Outcome::Decision(decision)) => decision.allowed,
        unexpected => panic!("{unexpected:?}"),
    };
    for count in 1..=6 {
        // The keys that are peeked at are never inserted.
        let mut peeked = (1 << 40..).take(64).map(|key| (peek(key), key)).collect::<Vec<_>>();
        assert_eq!(segments.count(), count);
        assert!(peeked.iter().all(|(allowed, _)| *allowed), "of {count} segments");
        let mut key = (count as u64) << 32;
        while segments.count() == count && spend(&table, &limit, key, 7 * SECOND).is_ok() {
            key += 1;
        }
        // The last segment takes new keys until one of them finds no room; others still may.
        if count == 6 {
            peeked = (1 << 40..).take(4_096).map(|key| (peek(key), key)).collect();
            let refused = peeked.iter().filter(|(allowed, _)| !allowed);
            for (_, key) in refused.clone() {
                assert!(spend(&table, &limit, *key, 7 * SECOND).is_err(), "{key}");
            }
            assert!(refused.count() > 0, "the table is full for some keys");
        }
    }
}

/// In a table that cannot grow, the slots of all segments serve new keys once their buckets are full
/// again, and not those of the newest segment only.
#[test]
fn a_table_that_has_grown_keeps_its_room() {
    let limit = Limit::parse("1/s").unwrap();
    let segments = Growing::new();
    let table = Table::new(&segments).on_full(OnFull::Deny);
    let mut keys = 0..;
    while spend(&table, &limit, keys.next().unwrap(), 7 * SECOND).is_ok() {}
    assert_eq!(segments.count(), 6);
    let slots: usize = (0..6).map(|index| segments.segment(index).len()).sum();
    for round in 0..3 {
        for key in keys.by_ref().take(slots * 7 / 10) {
            assert_eq!(spend(&table, &limit, key, (9 + 2 * round) * SECOND), Ok(true), "{key}");
        }
    }
    assert_one_bucket_each(&segments);
}

/// There are more keys than slots, and all four threads meet each new key at about the same time.
/// Each call ends with an answer, no key has two buckets, and afterwards the table counts as
/// before.
#[test]
fn dropping_buckets_under_threads_keeps_the_table_sound() {
    const SLOTS: usize = 512;
    let limit = Limit::parse("1/h burst 3").unwrap();
    for round in 0..100 {
        let slots = slots(SLOTS);
        let table = || Table::new(&slots[..]).on_full(OnFull::EvictIdlest);
        in_four_threads(|_| {
            for key in 0..700 {
                spend(&table(), &limit, round << 32 | key, 7 * SECOND).unwrap();
            }
        });
        assert_one_bucket_each(&slots[..]);
        let half_taken = |slot: &&Slot| !matches!(slot[0].load(Ordering::Acquire) >> 62, 0 | 2);
        assert_eq!(slots.iter().filter(half_taken).count(), 0, "slots that nobody has");
        let admitted =
            (0..9).filter(|_| spend(&table(), &limit, u64::MAX, 7 * SECOND).unwrap()).count();
        assert_eq!(admitted, 3);
    }
}
