//! The values at which the outcome of a comparison in an operation changes. Mutation testing (`make
//! mutants`) needs them, beside those of the engine in `edges.rs`.
#![allow(clippy::panic, reason = "how a test fails")]

use tidegate_core::{
    Cells, Clock, Error, Limit, ManualClock, Operation, Outcome, Reserved, Source, apply, credit,
    decide_tiers, hold, reserve, reset,
};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 7 * SECOND;

fn limits<const N: usize>(texts: [&str; N]) -> [Limit; N] {
    texts.map(|text| Limit::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")))
}

#[test]
fn a_hold_moves_the_cell_to_one_token_short_of_empty_at_its_end() -> Result<(), Error> {
    let mut cells = Cells::default();
    hold(&limits(["2/s burst 3"]), &mut cells, NOW, 5 * SECOND)?;
    assert_eq!(cells[0], NOW + 5 * SECOND + 2 * SECOND / 2);
    Ok(())
}

/// The very integer stays, so that an earlier reservation can still be cancelled exactly.
#[test]
fn a_hold_or_a_credit_that_changes_nothing_leaves_the_cell_alone() -> Result<(), Error> {
    let limits = limits(["2/s burst 1"]);
    let mut cells = [5, 0, 0, 0];
    hold(&limits, &mut cells, NOW, 0)?;
    assert_eq!(cells, [5, 0, 0, 0]);
    credit(&limits, &mut cells, NOW, 0)?;
    credit(&limits, &mut cells, NOW, 9)?;
    assert_eq!(cells, [5, 0, 0, 0]);
    Ok(())
}

#[test]
fn a_reset_bucket_is_one_never_used() -> Result<(), Error> {
    let mut cells = Cells::default();
    decide_tiers(&limits(["2/s", "5/d window"]), &mut cells, NOW, 2)?;
    assert_ne!(cells, Cells::default());
    reset(&mut cells);
    assert_eq!(cells, Cells::default());
    Ok(())
}

#[test]
fn the_tier_with_the_longest_delay_binds_a_reservation() -> Result<(), Error> {
    for (texts, binding, delay) in [
        (["10/s burst 1", "1/s burst 1"], 1, SECOND),
        (["1/s burst 1", "10/s burst 1"], 0, SECOND),
        (["1/s burst 1", "1/s burst 1"], 0, SECOND),
    ] {
        let limits = limits(texts);
        let mut cells = Cells::default();
        decide_tiers(&limits, &mut cells, NOW, 1)?;
        let Reserved::Slot(slot) = reserve(&limits, &mut cells, NOW, 1, SECOND)? else {
            panic!("{texts:?}: the slot is a second away");
        };
        assert_eq!((slot.delay, slot.decision.tier), (delay, binding), "{texts:?}");
    }
    Ok(())
}

/// It does not come back before, because the slot behind it is fixed. The cell stays the very same
/// integer.
#[test]
fn a_reservation_with_another_behind_it_comes_back_when_time_has_paid_for_both() -> Result<(), Error>
{
    let limits = limits(["2/s burst 1"]);
    let paid = NOW + SECOND;
    for (now, comes_back) in [(NOW, false), (paid - 1, false), (paid, true)] {
        let mut cells = Cells::default();
        let mut taken = || reserve(&limits, &mut cells, NOW, 1, SECOND);
        let (Reserved::Slot(first), Reserved::Slot(_)) = (taken()?, taken()?) else { panic!() };
        let outcome = apply(&limits, &mut cells, now, Operation::Cancel(first.charge))?;
        assert_eq!(outcome, Outcome::Cancelled(comes_back), "at {now}");
        assert_eq!(cells, [paid, 0, 0, 0]);
    }
    Ok(())
}

#[test]
fn a_manual_clock_is_advanced_to_a_later_time_only() {
    let clock = ManualClock::new(NOW);
    for (to, shows) in [(NOW - 1, NOW), (NOW + 1, NOW + 1), (NOW, NOW + 1)] {
        clock.advance_to(to);
        assert_eq!(clock.now(), shows);
    }
}

/// A store marks its answers with its name.
#[test]
fn an_outcome_names_the_source_that_it_was_given() -> Result<(), Error> {
    let limits = limits(["2/s burst 1"]);
    let mut cells = Cells::default();
    let mut named = |operation| {
        apply(&limits, &mut cells, NOW, operation).map(|it| it.from_source(Source::Redis))
    };
    let reserve = |max_wait| Operation::Reserve { cost: 1.into(), max_wait, min_wait: 0 };
    let Outcome::Decision(decision) = named(Operation::Check { cost: 0.into() })? else { panic!() };
    assert_eq!(decision.source, Source::Redis);
    let Outcome::Reserved(Reserved::Slot(slot)) = named(reserve(0))? else { panic!() };
    assert_eq!((slot.decision.source, slot.charge.source), (Source::Redis, Source::Redis));
    let Outcome::Reserved(Reserved::TooFar(refused)) = named(reserve(0))? else { panic!() };
    assert_eq!(refused.source, Source::Redis);
    assert_eq!(named(Operation::Cancel(slot.charge))?, Outcome::Cancelled(true));
    Ok(())
}
