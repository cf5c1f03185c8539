//! The table with slots in states that another thread leaves behind for a moment, or when it dies.
//! The tests write the words themselves, so that one thread meets states that only a race produces.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use core::cell::Cell;
use core::sync::atomic::Ordering::SeqCst;

use tidegate_core::{
    Clock, Error, Limit, ManualClock, OnFull, Operation, Outcome, Reserved, Segments, Slot, Table,
    TableFull, TierDecision, TieredDecision, apply_tables, check_each_table, check_table,
    check_tables,
};

const KEY: u64 = 0xA11CE;
const OTHER: u64 = 0xB0B;
const VACANT: u64 = 0;
const PROVISIONAL: u64 = 1;
const LIVE: u64 = 2;
const LEAVING: u64 = 3;
/// The buckets have three tokens and gain one each millisecond, so positions are milliseconds.
const MILLI: u64 = 1_000_000;

fn limit() -> Limit {
    Limit::stepped(1, MILLI, 3).unwrap()
}

fn put(slot: &Slot, state: u64, key: u64, cell: u64) {
    slot[0].store(state << 62 | 7 << 48 | key, SeqCst);
    slot[1].store(cell, SeqCst);
}

fn state_of(slot: &Slot) -> u64 {
    slot[0].load(SeqCst) >> 62
}

/// One slot in which another thread has left the key in this state.
fn left(state: u64, cell: u64) -> [Slot; 1] {
    let slots: [Slot; 1] = Default::default();
    put(&slots[0], state, KEY, cell);
    slots
}

fn check(slots: &[Slot], key: u64, position: u64) -> Option<u64> {
    let table = Table::new(slots).on_full(OnFull::Deny);
    let decision = check_table(&table, &limit(), key, position * MILLI, 1).unwrap();
    decision.allowed.then_some(decision.remaining)
}

#[test]
fn a_dead_insertion_is_withdrawn() {
    let slots = left(PROVISIONAL, 0);
    assert_eq!(Table::new(&slots[..]).cell(KEY), 0);
    assert_eq!(check(&slots, KEY, 10), Some(2));
    assert_eq!(state_of(&slots[0]), LIVE, "by an insertion of its own");
    let slots = left(PROVISIONAL, 0);
    assert_eq!(check(&slots, OTHER, 10), Some(2), "its slot is another key's");
}

#[test]
fn a_leaving_bucket_is_seen_and_put_back() {
    let slots = left(LEAVING, 12);
    assert_eq!(Table::new(&slots[..]).cell(KEY), 12);
    assert_eq!(state_of(&slots[0]), LEAVING, "reading changes nothing");
    assert_eq!(check(&slots, KEY, 10), Some(0));
    assert_eq!((state_of(&slots[0]), Table::new(&slots[..]).cell(KEY)), (LIVE, 13));
    assert_eq!(check(&slots, KEY, 10), None);
}

#[test]
fn a_removal_is_completed() {
    for state in [LIVE, LEAVING] {
        let slots = left(state, 9);
        assert_eq!(check(&slots, OTHER, 10), Some(2));
        let table = Table::new(&slots[..]);
        assert_eq!((table.cell(KEY), table.cell(OTHER)), (0, 11));
    }
    let slots = left(LEAVING, 10);
    assert_eq!(
        check(&slots, OTHER, 10),
        None,
        "only just full: it could not be changed and stay so"
    );
    assert_eq!(state_of(&slots[0]), LEAVING);
}

#[test]
fn tiers_see_and_put_back_leaving_buckets() {
    let (one, two) = (left(LEAVING, 12), left(LEAVING, 11));
    let tables = [&one, &two].map(|slots| Table::new(&slots[..]).on_full(OnFull::Deny));
    let limits = [limit(); 2];
    let clock = ManualClock::new(10 * MILLI);
    let check = |cost| check_tables(&tables, &limits, &[KEY; 2], &clock, cost).unwrap();
    assert_eq!((check(0).allowed, check(0).remaining, check(0).tier), (true, 1, 0));
    assert_eq!((check(2).allowed, check(2).tier, check(2).retry_after), (false, 0, MILLI));
    assert_eq!([&one, &two].map(|slots| state_of(&slots[0])), [LEAVING; 2]);
    assert_eq!((check(1).allowed, check(1).allowed), (true, false));
    assert_eq!([&one, &two].map(|slots| slots[0][1].load(SeqCst)), [13, 12]);
}

#[test]
fn charged_tiers_get_their_tokens_back_when_a_later_one_has_no_slot() {
    let (one, two) = (left(LIVE, 11), left(LIVE, 12));
    let tables = [&one, &two].map(|slots| Table::new(&slots[..]).on_full(OnFull::Deny));
    let clock = ManualClock::new(10 * MILLI);
    // The second tier's only slot belongs to another key.
    let decision = check_tables(&tables, &[limit(); 2], &[KEY, OTHER], &clock, 1).unwrap();
    assert_eq!((decision.allowed, decision.tier, decision.remaining), (false, 1, 0));
    assert_eq!((decision.retry_after, decision.reset_after), (3 * MILLI, 3 * MILLI));
    assert_eq!([&one, &two].map(|slots| slots[0][1].load(SeqCst)), [11, 12]);
}

/// A table to which something may happen whenever it is asked for its slots. `interrupt` is given
/// the number of the call, from 1 on.
struct Interrupted<'s> {
    slots: &'s [Slot],
    calls: Cell<u32>,
    interrupt: &'s dyn Fn(u32),
}

impl Segments for Interrupted<'_> {
    fn count(&self) -> usize {
        self.calls.set(self.calls.get() + 1);
        (self.interrupt)(self.calls.get());
        1
    }

    fn segment(&self, index: usize) -> &[Slot] {
        if index == 0 { self.slots } else { &[] }
    }
}

/// Another thread inserts the key at any point while this one is about to insert it. There is one
/// bucket, and both calls are charged to it.
#[test]
fn a_key_inserted_meanwhile_is_charged_where_it_is() {
    let mut met = 0;
    for at in 1..12 {
        for occupied in [false, true] {
            let slots: [Slot; 2] = Default::default();
            if occupied {
                put(&slots[0], LIVE, OTHER, 14);
            }
            let insert = |call| {
                if call == at {
                    assert_eq!(check(&slots, KEY, 10), Some(2));
                }
            };
            let interrupted =
                Interrupted { slots: &slots, calls: Cell::new(0), interrupt: &insert };
            let table = Table::new(&interrupted).on_full(OnFull::Deny);
            let decision = check_table(&table, &limit(), KEY, 10 * MILLI, 1).unwrap();
            assert!(decision.allowed);
            let live = slots.iter().filter(|slot| slot[0].load(SeqCst) << 16 == KEY << 16);
            assert_eq!(live.count(), 1, "at {at}");
            let expected = if interrupted.calls.get() >= at { 12 } else { 11 };
            met += expected - 11;
            assert_eq!(Table::new(&slots[..]).cell(KEY), expected, "at {at}");
        }
    }
    assert!(met > 2, "it happened in time {met} times");
}

/// Another call changes the cell after this one has read it and before it charges.
#[test]
fn a_charge_starts_over_on_a_cell_that_changed() {
    let slots = left(LIVE, 11);
    let table = Table::new(&slots[..]);
    let mut seen = Vec::new();
    let before = table.update(KEY, 10, |cell| {
        seen.push(cell);
        if seen.len() < 3 {
            slots[0][1].fetch_add(1, SeqCst);
        }
        Some(cell + 1)
    });
    assert_eq!((before, seen), (Ok(13), vec![11, 12, 13]));
    assert_eq!(table.cell(KEY), 14);
}

/// Another thread marks the slot as leaving and puts it back between the read and the charge.
#[test]
fn a_charge_of_a_slot_that_was_leaving_meanwhile_counts_once() {
    let slots = left(LIVE, 11);
    let table = Table::new(&slots[..]);
    let before = table.update(KEY, 10, |cell| {
        if cell == 11 {
            slots[0][0].store(LIVE << 62 | 9 << 48 | KEY, SeqCst);
        }
        Some(cell + 1)
    });
    assert_eq!((before, table.cell(KEY)), (Ok(11), 12));
}

/// The slot is given to another key between the read and the charge, and its cell comes to the very
/// value that was read.
#[test]
fn a_charge_of_a_slot_given_to_another_key_does_not_count() {
    let slots = left(LIVE, 11);
    let table = Table::new(&slots[..]).on_full(OnFull::Deny);
    let mut calls = 0;
    let charged = table.update(KEY, 10, |cell| {
        calls += 1;
        if calls == 1 {
            slots[0][0].store(LIVE << 62 | 12 << 48 | OTHER, SeqCst);
        }
        Some(cell.max(10) + 1)
    });
    assert_eq!(charged.unwrap_err(), TableFull { cell: 12 });
}

/// A check charges the first tier and finds no bucket in the second. Just then other calls charge
/// both, so that the second refuses: the charge of the first is given back at a later time.
fn first_tier_given_back(meanwhile: &dyn Fn(&Slot), elapsed: u64) -> [Slot; 1] {
    let (first, second) = (left(LIVE, 11), <[Slot; 1]>::default());
    let clock = ManualClock::new(10 * MILLI);
    let is_charged = || first[0][1].load(SeqCst) == 13 && state_of(&second[0]) == VACANT;
    let refuse = |_| {
        if is_charged() {
            put(&second[0], LIVE, KEY, 13);
            clock.advance(elapsed * MILLI);
            meanwhile(&first[0]);
        }
    };
    let interrupted = Interrupted { slots: &second, calls: Cell::new(0), interrupt: &refuse };
    let decision = {
        let nothing = |_| ();
        let first = Interrupted { slots: &first, calls: Cell::new(0), interrupt: &nothing };
        let tables = [&first, &interrupted].map(|it| Table::new(it).on_full(OnFull::Deny));
        check_tables(&tables, &[limit(); 2], &[KEY; 2], &clock, 2).unwrap()
    };
    assert!(!decision.allowed, "{decision:?}");
    assert_eq!(second[0][1].load(SeqCst), 13, "the second tier is not charged");
    first
}

#[test]
fn a_charge_is_given_back_exactly_or_less_what_time_has_paid() {
    let cell_after = |charged_since: u64, elapsed| {
        let charge = |slot: &Slot| _ = slot[1].fetch_add(charged_since, SeqCst);
        first_tier_given_back(&charge, elapsed)[0][1].load(SeqCst)
    };
    assert_eq!(cell_after(0, 0), 11);
    assert_eq!(cell_after(0, 1), 11, "exactly, because no other call came since");
    assert_eq!(cell_after(3, 0), 14);
    assert_eq!(cell_after(3, 1), 15);
    assert_eq!([cell_after(3, 2), cell_after(3, 99)], [16, 16]);
}

#[test]
fn nothing_goes_back_to_the_next_key() {
    let take = |slot: &Slot| put(slot, LIVE, OTHER, 13);
    assert_eq!(Table::new(&first_tier_given_back(&take, 0)[..]).cell(OTHER), 13);
}

/// A new key takes its home slot if it is vacant, then another vacant slot, then the slot whose
/// bucket has been full for longest.
#[test]
fn a_new_key_takes_a_vacant_slot_then_the_longest_full() {
    let slots: [Slot; 8] = Default::default();
    for (number, slot) in (0..).zip(&slots) {
        put(slot, LIVE, 0x100 + number, 20 + number);
    }
    let home = (KEY % 8) as usize;
    let taken_by = |position| {
        check(&slots, KEY, position).unwrap();
        let place = slots.iter().position(|slot| slot[0].load(SeqCst) << 16 == KEY << 16);
        let place = place.unwrap();
        put(&slots[place], LIVE, 0x200, 90);
        place
    };
    put(&slots[3], LIVE, 0x103, 5);
    put(&slots[6], LIVE, 0x106, 4);
    assert_eq!(taken_by(10), 6, "the longest full");
    assert_eq!(taken_by(10), 3);
    put(&slots[2], VACANT, 0, 0);
    put(&slots[1], LIVE, 0x101, 4);
    assert_eq!(taken_by(10), 2, "vacant before full");
    put(&slots[home], VACANT, 0, 0);
    put(&slots[0], VACANT, 0, 0);
    assert_eq!(taken_by(10), home, "home before all");
}

/// The bucket that would be full soonest is evicted and counted, and its key then has none.
#[test]
fn pressure_is_reported_and_denied_keys_learn_when_to_retry() {
    struct Counting([Slot; 8], Cell<u32>, Cell<u32>);
    impl Segments for Counting {
        fn count(&self) -> usize {
            1
        }
        fn segment(&self, index: usize) -> &[Slot] {
            if index == 0 { &self.0 } else { &[] }
        }
        fn owed_bucket_evicted(&self) {
            self.1.set(self.1.get() + 1);
        }
        fn new_key_denied(&self) {
            self.2.set(self.2.get() + 1);
        }
    }
    let counting = Counting(Default::default(), Cell::new(0), Cell::new(0));
    for (number, slot) in (0..).zip(&counting.0) {
        put(slot, LIVE, 0x100 + number, 11 + (number + 5) % 8);
    }
    let table = Table::new(&counting).on_full(OnFull::Deny);
    let peek = |table, cost| {
        let (clock, peek) = (ManualClock::new(10 * MILLI), Operation::Peek { cost });
        apply_tables(&[table], &[limit()], &[KEY], &clock, peek).unwrap()
    };
    let peeked = peek(table, 1.into());
    assert_eq!(counting.2.get(), 0, "a peek is no new key");
    let decision = check_table(&table, &limit(), KEY, 10 * MILLI, 1).unwrap();
    assert_eq!((decision.allowed, decision.retry_after), (false, 2 * MILLI));
    assert_eq!((counting.1.get(), counting.2.get()), (0, 1));
    assert_eq!(peeked, Outcome::Decision(decision.into()));
    let Outcome::Decision(nothing) = peek(table, 0.into()) else { panic!() };
    assert!(nothing.allowed, "a cost of 0 needs no room");
    let table = table.on_full(OnFull::EvictIdlest);
    let Outcome::Decision(evicting) = peek(table, 1.into()) else { panic!() };
    assert!(evicting.allowed && counting.1.get() == 0, "a peek drops no bucket");
    assert!(check_table(&table, &limit(), KEY, 10 * MILLI, 1).unwrap().allowed);
    assert_eq!((counting.1.get(), counting.2.get()), (1, 1));
    assert_eq!((table.cell(0x103), table.cell(KEY)), (0, 11));
    // A bucket that has just become full is frozen to a value below the position, because the cell
    // must change.
    for (cell, frozen) in [(10, 9), (14, 10)] {
        let slots = left(LIVE, cell);
        let table = Table::new(&slots[..]);
        let inserted =
            table.update(OTHER, 10, |before| (before == frozen || before == 0).then_some(11));
        assert_eq!(inserted, Ok(frozen));
    }
    let slots = left(LIVE, 0);
    let inserted = Table::new(&slots[..]).update(OTHER, 0, |before| (before <= 1).then_some(2));
    assert_eq!(inserted, Ok(1), "position 0 has none below it");
}

#[test]
fn operations_answer_for_the_tier_that_binds() {
    let (one, two) = (left(LIVE, 11), left(LIVE, 12));
    let tables = [&one, &two].map(|slots| Table::new(&slots[..]).on_full(OnFull::Deny));
    let clock = ManualClock::new(10 * MILLI);
    let run = |keys: [u64; 2], operation| match apply_tables(
        &tables,
        &[limit(); 2],
        &keys,
        &clock,
        operation,
    )
    .unwrap()
    {
        Outcome::Decision(decision) => (decision.allowed, decision.remaining, decision.tier),
        unexpected => panic!("{unexpected:?}"),
    };
    assert_eq!(run([KEY; 2], Operation::Credit { tokens: 1.into() }), (true, 2, 1));
    assert_eq!(
        run([KEY; 2], Operation::Settle { charged: 0.into(), actual: 1.into() }),
        (true, 1, 1)
    );
    assert_eq!(run([KEY, OTHER], Operation::Hold { wait: 0 }), (false, 0, 1));
    assert_eq!(clock.now(), 10 * MILLI);
}

#[test]
fn a_reservation_of_nothing_takes_no_slot() {
    let slots: [Slot; 1] = Default::default();
    let table = Table::new(&slots[..]);
    let nothing = Operation::Reserve { cost: 0.into(), max_wait: 0, min_wait: 0 };
    let answer = apply_tables(&[table], &[limit()], &[KEY], &ManualClock::new(10 * MILLI), nothing);
    assert!(matches!(answer.unwrap(), Outcome::Reserved(Reserved::Slot(_))));
    assert_eq!(state_of(&slots[0]), VACANT);
}

/// The limit, what remains of it, and its wait.
fn tiers_of(tiers: &[TierDecision]) -> Vec<(u8, u64, u64)> {
    tiers.iter().map(|tier| (tier.tier, tier.remaining, tier.retry_after)).collect()
}

#[test]
fn a_reservation_names_the_tier_that_has_no_room_for_its_key() {
    let (one, two) = (left(LIVE, 0), left(LIVE, 12));
    let tables = [&one, &two].map(|slots| Table::new(&slots[..]).on_full(OnFull::Deny));
    let clock = ManualClock::new(10 * MILLI);
    let reserve = Operation::Reserve { cost: 1.into(), max_wait: 0, min_wait: 0 };
    let answer = apply_tables(&tables, &[limit(); 2], &[KEY, OTHER], &clock, reserve);
    let Outcome::Reserved(Reserved::TooFar(refused)) = answer.unwrap() else { panic!() };
    assert_eq!((refused.allowed, refused.tier), (false, 1));
    let said = |tiered: &TieredDecision| tiers_of(tiered.tiers());
    assert_eq!(said(&refused), [(0, 3, 0), (1, 0, 3 * MILLI)]);
    assert_eq!(one[0][1].load(SeqCst), 0, "given back");
    let checked = check_each_table(&tables, &[limit(); 2], &[KEY, OTHER], &clock, 1).unwrap();
    assert_eq!((said(&checked), *checked), (said(&refused), *refused));
    let peek = Operation::Peek { cost: 1.into() };
    let peeked = apply_tables(&tables, &[limit(); 2], &[KEY, OTHER], &clock, peek);
    assert_eq!(peeked, Ok(Outcome::Decision(checked)));
}

/// Another thread charges the same bucket meanwhile, in one tier or the other. Both charges are
/// there in the end.
#[test]
fn a_reservation_starts_over_on_a_cell_that_changed() {
    let (mut met, clock) = ([0; 2], ManualClock::new(10 * MILLI));
    for at in 1..12 {
        for (tier, met) in met.iter_mut().enumerate() {
            let buckets = [left(LIVE, 10), left(LIVE, 10)];
            let charged = Cell::new(false);
            let charge = |call| {
                if call == at {
                    charged.set(true);
                    buckets[tier][0][1].fetch_add(1, SeqCst);
                }
            };
            let nothing: &dyn Fn(u32) = &|_| ();
            let interrupted: [Interrupted<'_>; 2] = core::array::from_fn(|index| Interrupted {
                slots: &buckets[index],
                calls: Cell::new(0),
                interrupt: if index == tier { &charge } else { nothing },
            });
            let tables = interrupted.each_ref().map(Table::new);
            let reserve = Operation::Reserve { cost: 1.into(), max_wait: 0, min_wait: 0 };
            let answer = apply_tables(&tables, &[limit(); 2], &[KEY; 2], &clock, reserve);
            assert!(matches!(answer.unwrap(), Outcome::Reserved(Reserved::Slot(_))), "{at}");
            let cells = buckets.each_ref().map(|slots| slots[0][1].load(SeqCst));
            let expected = [0, 1].map(|index| 11 + u64::from(index == tier && charged.get()));
            assert_eq!(cells, expected, "the other charge came at {at}");
            *met += u32::from(charged.get());
        }
    }
    assert!(met.iter().all(|met| *met > 1), "{met:?}");
}

#[test]
fn four_tiers_are_the_most_and_there_is_a_table_for_each() {
    let buckets = [10, 10, 10, 12].map(|cell| left(LIVE, cell));
    let tables = buckets.each_ref().map(|slots| Table::new(&slots[..]));
    let clock = ManualClock::new(10 * MILLI);
    let check = |tables: &[Table<'_>]| check_tables(tables, &[limit(); 4], &[KEY; 4], &clock, 1);
    let decision = check(&tables).unwrap();
    assert_eq!((decision.allowed, decision.remaining, decision.tier), (true, 0, 3));
    assert_eq!(buckets.each_ref().map(|slots| slots[0][1].load(SeqCst)), [11, 11, 11, 13]);
    assert_eq!(check(&tables[..3]), Err(Error::TierCount { count: 3 }));
}
