//! Models of `OnFull::EvictIdlest`: a new key always finds a slot, and no key has two buckets. A
//! charge that runs at the same time as a drop may be forgotten, or count for the new key.

use loom::sync::Arc;

use super::{KEY, OTHER, PREEMPTIONS_OF_TWO, Slots, both, in_every_order, spend};
use crate::sync::Ordering;
use crate::{OnFull, Table, TableFull};

/// Charges one token of a bucket of five at position 10.
fn charge(slots: &Slots, key: u64) -> Result<bool, TableFull> {
    spend(&Table::new(&slots.0[..]).on_full(OnFull::EvictIdlest), key, 10, 5)
}

/// Checks that one of the keys has the slot, and owes its own charge and at most one more.
fn assert_one_holds_the_slot(slots: &Slots, keys: [u64; 2]) {
    let buckets = keys.map(|key| slots.buckets_of(key));
    assert!(buckets == [1, 0] || buckets == [0, 1], "{buckets:?}");
    let cell = slots.0[0][1].load(Ordering::Acquire);
    assert!(matches!(cell, 11 | 12), "{cell}");
}

#[test]
fn a_charge_that_meets_a_drop_gets_its_answer() {
    in_every_order(PREEMPTIONS_OF_TWO, || {
        let slots = Slots::new(1);
        assert_eq!(charge(&slots, KEY), Ok(true));
        let theirs = Arc::clone(&slots);
        let answers = both(move || charge(&theirs, KEY), || charge(&slots, OTHER));
        assert_eq!(answers, (Ok(true), Ok(true)));
        assert_one_holds_the_slot(&slots, [KEY, OTHER]);
    });
}

#[test]
fn two_keys_that_want_one_slot_both_get_their_answer() {
    in_every_order(PREEMPTIONS_OF_TWO, || {
        let slots = Slots::new(1);
        assert_eq!(charge(&slots, KEY), Ok(true));
        let theirs = Arc::clone(&slots);
        let answers = both(move || charge(&theirs, OTHER + 1), || charge(&slots, OTHER));
        assert_eq!(answers, (Ok(true), Ok(true)));
        assert_one_holds_the_slot(&slots, [OTHER, OTHER + 1]);
    });
}

#[test]
fn one_bucket_however_many_drop_others_for_it() {
    in_every_order(2, || {
        let slots = Slots::new(2);
        for key in [OTHER, OTHER + 1] {
            assert_eq!(charge(&slots, key), Ok(true));
        }
        let theirs = Arc::clone(&slots);
        let answers = both(move || charge(&theirs, KEY), || charge(&slots, KEY));
        assert_eq!(answers, (Ok(true), Ok(true)));
        assert_eq!(slots.buckets_of(KEY), 1);
        let cell = slots.table().cell(KEY);
        assert!(matches!(cell, 11 | 12), "at least the last charge counts: {cell}");
    });
}
