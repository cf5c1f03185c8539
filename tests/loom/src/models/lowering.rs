//! Models of the operations that lower a cell: credits, cancels, and charges that are given back.

use loom::sync::Arc;
use loom::thread;

use super::{At, KEY, OTHER, Outcomes, PREEMPTIONS_OF_TWO, Slots, both, in_every_order};
use crate::{Limit, Operation, Outcome, Reservation, Reserved, apply_tables};

/// Runs an operation on a bucket of three tokens that gains one each millisecond, so that positions
/// are milliseconds.
fn apply(slots: &Slots, position: u64, operation: Operation) -> Outcome {
    let limit = Limit::stepped(1, 1_000_000, 3).unwrap();
    apply_tables(&[slots.table()], &[limit], &[KEY], &At(position * 1_000_000), operation).unwrap()
}

fn check(slots: &Slots, position: u64) -> bool {
    match apply(slots, position, Operation::Check { cost: 1.into() }) {
        Outcome::Decision(decision) => decision.allowed,
        unexpected => panic!("{unexpected:?}"),
    }
}

fn reserve(slots: &Slots, position: u64) -> Reservation {
    match apply(slots, position, Operation::Reserve { cost: 1.into(), max_wait: 0, min_wait: 0 }) {
        Outcome::Reserved(Reserved::Slot(reservation)) => reservation,
        unexpected => panic!("{unexpected:?}"),
    }
}

fn cell(slots: &Slots, key: u64) -> u64 {
    slots.table().cell(key)
}

#[test]
fn a_credit_and_a_charge_both_count() {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    in_every_order(PREEMPTIONS_OF_TWO, move || {
        let slots = Slots::new(1);
        assert!([10, 10, 10].into_iter().all(|position| check(&slots, position)));
        let theirs = Arc::clone(&slots);
        let credit = Operation::Credit { tokens: 1.into() };
        let (_, allowed) = both(move || apply(&theirs, 10, credit), || check(&slots, 10));
        assert_eq!(cell(&slots, KEY), 12 + u64::from(allowed));
        note.note(if allowed { "allowed" } else { "refused" });
    });
    outcomes.assert_all(&["allowed", "refused"]);
}

/// Only the credit makes the bucket full, so that another key can take its slot.
#[test]
fn a_credit_a_charge_and_a_reclaim() {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    in_every_order(2, move || {
        let slots = Slots::new(1);
        assert!(check(&slots, 10) && check(&slots, 10));
        let (theirs, others) = (Arc::clone(&slots), Arc::clone(&slots));
        let credit =
            thread::spawn(move || apply(&theirs, 10, Operation::Credit { tokens: 2.into() }));
        let other = thread::spawn(move || others.spend(OTHER, 11, 1));
        let allowed = check(&slots, 10);
        let (_, other) = (credit.join().unwrap(), other.join().unwrap());
        if allowed {
            assert!(other.is_err(), "{other:?}");
            // The cell is one higher if the slot was about to be taken.
            assert!(matches!(cell(&slots, KEY), 11 | 12), "{}", cell(&slots, KEY));
            note.note("charged");
        } else {
            assert_eq!(other, Ok(true));
            assert_eq!(cell(&slots, KEY), 0);
            // The cell is one higher if the check had read the very value that the other key's cell
            // now has.
            assert!(matches!(cell(&slots, OTHER), 12 | 13), "{}", cell(&slots, OTHER));
            note.note("taken");
        }
    });
    outcomes.assert_all(&["charged", "taken"]);
}

#[test]
fn a_cancelled_reservation_comes_back_or_a_charge_stands_on_it() {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    in_every_order(PREEMPTIONS_OF_TWO, move || {
        let slots = Slots::new(1);
        assert!(check(&slots, 10));
        let reserved = reserve(&slots, 10);
        let theirs = Arc::clone(&slots);
        let cancel = Operation::Cancel(reserved.charge);
        let (cancelled, allowed) = both(move || apply(&theirs, 10, cancel), || check(&slots, 10));
        assert!(allowed);
        let back = cancelled == Outcome::Cancelled(true);
        assert_eq!(cell(&slots, KEY), if back { 12 } else { 13 });
        note.note(if back { "came back" } else { "stays" });
    });
    outcomes.assert_all(&["came back", "stays"]);
}

/// Time has paid for the reservation when another key takes the bucket's slot.
#[test]
fn a_late_cancel_gives_another_key_nothing() {
    in_every_order(PREEMPTIONS_OF_TWO, || {
        let slots = Slots::new(1);
        assert!(check(&slots, 1));
        let cancel = Operation::Cancel(reserve(&slots, 10).charge);
        let theirs = Arc::clone(&slots);
        let (cancelled, other) =
            both(move || apply(&theirs, 12, cancel), || slots.spend(OTHER, 12, 1));
        assert_eq!(cancelled, Outcome::Cancelled(true), "time has paid it");
        match other {
            Ok(true) => assert_eq!((cell(&slots, KEY), cell(&slots, OTHER)), (0, 13)),
            // A slot that the cancel has made live again is free one position later.
            Err(full) => assert_eq!((full.cell, cell(&slots, KEY)), (12, 12)),
            Ok(false) => panic!("the debt of another key"),
        }
    });
}

/// Charges one token and gives it back when `elapsed` positions have passed.
fn charge_and_give_back(slots: &Slots, elapsed: u64) {
    let table = slots.table();
    let charged = table.charge(KEY, 10, |cell| Some(cell.max(10) + 1)).unwrap();
    table.give_back(&charged.receipt.unwrap(), 1, elapsed);
}

#[test]
fn a_charge_is_given_back_under_another() {
    for elapsed in [0, 1] {
        in_every_order(PREEMPTIONS_OF_TWO, move || {
            let slots = Slots::new(1);
            assert_eq!(slots.spend(KEY, 2, 1), Ok(true));
            let theirs = Arc::clone(&slots);
            let (_, spent) =
                both(move || charge_and_give_back(&theirs, elapsed), || slots.spend(KEY, 10, 5));
            assert_eq!(spent, Ok(true));
            let cell = cell(&slots, KEY);
            assert!(cell == 11 || cell == 11 + elapsed, "{cell} after {elapsed}");
        });
    }
}

#[test]
fn nothing_is_given_back_to_another_key() {
    in_every_order(PREEMPTIONS_OF_TWO, || {
        let slots = Slots::new(1);
        assert_eq!(slots.spend(KEY, 2, 1), Ok(true));
        let theirs = Arc::clone(&slots);
        let charge = move || {
            let table = theirs.table();
            let charged = table.charge(KEY, 10, |cell| (cell < 10).then_some(11));
            if let Ok(Some(receipt)) = charged.map(|charged| charged.receipt) {
                table.give_back(&receipt, 1, 0);
            }
        };
        let (_, other) = both(charge, || slots.spend(OTHER, 12, 1));
        match other {
            Ok(true) => assert_eq!(cell(&slots, OTHER), 13),
            Err(full) => assert!(cell(&slots, KEY) <= full.cell, "{full:?}"),
            Ok(false) => panic!("the debt of another key"),
        }
    });
}
