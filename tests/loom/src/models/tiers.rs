//! Models of checks of two limits: both are charged, or none is.

use loom::sync::Arc;
use loom::thread;

use super::{At, KEY, OTHER, Outcomes, PREEMPTIONS_OF_MORE, Slots, both, in_every_order};
use crate::{Limit, check_tables};

/// The tiers' positions are 10 and 5 now, and were 6 and 3 earlier.
const NOW: u64 = 5_000_000;
const EARLIER: u64 = 3_000_000;

type Tiers = [Arc<Slots>; 2];

/// Checks a limit of two tokens and one of a single token.
fn check(tiers: &Tiers, now: u64) -> bool {
    let limits = [Limit::stepped(2, 1_000_000, 2), Limit::stepped(1, 1_000_000, 1)];
    let limits = limits.map(Result::unwrap);
    let tables = [tiers[0].table(), tiers[1].table()];
    check_tables(&tables, &limits, &[KEY; 2], &At(now), 1).unwrap().allowed
}

fn cells(tiers: &Tiers) -> [u64; 2] {
    [tiers[0].table().cell(KEY), tiers[1].table().cell(KEY)]
}

/// Two calls compete for the single token of the second tier; the refused call leaves no trace.
fn one_of_two_is_charged(known: [bool; 2]) {
    in_every_order(PREEMPTIONS_OF_MORE, move || {
        let tiers = [Slots::new(1), Slots::new(1)];
        for (slots, position) in tiers.iter().zip([6, 3]) {
            if known[usize::from(position == 3)] {
                assert_eq!(slots.spend(KEY, position, 1), Ok(true));
            }
        }
        let theirs = tiers.clone();
        let (one, other) = both(move || check(&theirs, NOW), || check(&tiers, NOW));
        assert_ne!(one, other, "one token in the second tier");
        assert_eq!(cells(&tiers), [11, 6], "one token of each tier is charged");
    });
}

#[test]
fn tiers_charge_all_or_none_of_a_new_key() {
    one_of_two_is_charged([false, false]);
}

#[test]
fn tiers_charge_all_or_none_of_a_known_key() {
    one_of_two_is_charged([true, true]);
}

#[test]
fn tiers_charge_all_or_none_of_a_key_known_to_one() {
    one_of_two_is_charged([true, false]);
    one_of_two_is_charged([false, true]);
}

/// Another key takes the slot of the checked key in one of the tiers.
fn a_slot_is_taken_meanwhile(tier: usize) {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    in_every_order(PREEMPTIONS_OF_MORE, move || {
        let tiers = [Slots::new(1), Slots::new(1)];
        assert!(check(&tiers, EARLIER));
        let position = [10, 5][tier];
        let theirs = Arc::clone(&tiers[tier]);
        let (other, mine) = both(move || theirs.spend(OTHER, position, 1), || check(&tiers, NOW));
        let mut expected = if mine { [11, 6] } else { [7, 4] };
        if mine {
            assert!(other.is_err(), "{other:?}");
            note.note("charged");
        } else {
            assert_eq!(other, Ok(true));
            expected[tier] = 0;
            note.note("refused");
        }
        assert_eq!(cells(&tiers), expected);
        let cell = tiers[tier].table().cell(OTHER);
        assert_eq!(cell, if mine { 0 } else { position + 1 });
    });
    outcomes.assert_all(&["charged", "refused"]);
}

#[test]
fn tiers_charge_all_or_none_when_the_first_is_taken() {
    a_slot_is_taken_meanwhile(0);
}

#[test]
fn tiers_charge_all_or_none_when_the_last_is_taken() {
    a_slot_is_taken_meanwhile(1);
}

/// A charge is given back after a third call has charged the same bucket.
#[test]
fn a_charge_given_back_takes_no_other_charge_along() {
    in_every_order(2, || {
        let tiers = [Slots::new(1), Slots::new(1)];
        assert!(check(&tiers, EARLIER));
        let (theirs, first) = (tiers.clone(), Arc::clone(&tiers[0]));
        let other = thread::spawn(move || check(&theirs, NOW));
        let only_first = thread::spawn(move || first.spend(KEY, 10, 4));
        let mine = check(&tiers, NOW);
        let allowed = u64::from(mine) + u64::from(other.join().unwrap());
        assert_eq!(only_first.join().unwrap(), Ok(true));
        assert!(allowed <= 1, "one token in the second tier");
        assert_eq!(cells(&tiers), [11 + allowed, if allowed == 1 { 6 } else { 4 }]);
    });
}

/// A credit makes the first tier's bucket full; another key then takes its slot, and its charge
/// brings the cell to the value that the check had read.
#[test]
fn tiers_charge_all_or_none_when_a_lowered_cell_returns() {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    in_every_order(2, move || {
        let tiers = [Slots::new(1), Slots::new(1)];
        assert!(check_three(&tiers) && check_three(&tiers));
        assert_eq!(cells(&tiers), [12, 12]);
        let (credited, taken) = (Arc::clone(&tiers[0]), Arc::clone(&tiers[0]));
        let credit = thread::spawn(move || {
            credited.table().update(KEY, 10, |cell| (cell > 10).then(|| (cell - 2).max(10)))
        });
        let other = thread::spawn(move || taken.spend(OTHER, 11, 1));
        let mine = check_three(&tiers);
        credit.join().unwrap().unwrap_or_default();
        let other = other.join().unwrap();
        assert_ne!(mine, other == Ok(true), "{other:?}");
        assert_eq!(cells(&tiers)[1], 12 + u64::from(mine));
        note.note(if mine { "charged" } else { "refused" });
    });
    outcomes.assert_all(&["charged", "refused"]);
}

/// Checks two limits of three tokens, at position 10.
fn check_three(tiers: &Tiers) -> bool {
    let limits = [Limit::stepped(1, 1_000_000, 3).unwrap(); 2];
    let tables = [tiers[0].table(), tiers[1].table()];
    check_tables(&tables, &limits, &[KEY; 2], &At(10_000_000), 1).unwrap().allowed
}
