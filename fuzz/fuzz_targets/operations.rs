//! Operations in any order keep the promises that can be checked without a second engine: nothing
//! is minted, a refusal changes nothing, no bucket comes to owe more than the bound, and no call
//! panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::{
    Cells, Cost, Error, Limit, MAX_SPAN, Operation, Outcome, Reservation, Reserved, Shape, apply,
};
use tidegate_fuzz::operations::{Operations, Step};

fuzz_target!(|input: Operations| {
    let Operations { limits, calls } = input;
    let mut cells = Cells::default();
    let mut reservations = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        let Some(operation) = operation(&call.step, &mut reservations) else { continue };
        let run = Run {
            place: format!("call {number} at {}: {operation:?} on {cells:?}", call.now),
            limits: &limits,
            now: call.now,
            before: cells,
        };
        let kind = Kind::new(&operation);
        let outcome = apply(&limits, &mut cells, call.now, operation);
        run.keeps_its_promises(&kind, &outcome, &cells);
        if let Ok(Outcome::Reserved(Reserved::Slot(slot))) = outcome {
            reservations.push(slot);
        }
    }
});

fn operation(step: &Step, reservations: &mut Vec<Reservation>) -> Option<Operation> {
    Some(match *step {
        Step::Check { cost } => Operation::Check { cost: cost.into() },
        Step::Peek { cost } => Operation::Peek { cost: cost.into() },
        Step::Reserve { cost, max_wait } => {
            Operation::Reserve { cost: cost.into(), max_wait, min_wait: 0 }
        }
        Step::Cancel { .. } if reservations.is_empty() => return None,
        Step::Cancel { which } => {
            let which = usize::from(which) % reservations.len();
            Operation::Cancel(reservations.swap_remove(which).charge)
        }
        Step::Settle { charged, actual } => {
            Operation::Settle { charged: charged.into(), actual: actual.into() }
        }
        Step::Credit { tokens } => Operation::Credit { tokens: tokens.into() },
        Step::Hold { wait } => Operation::Hold { wait },
        Step::Reset => Operation::Reset,
    })
}

/// The promises that a call must keep, by the kind of its operation.
enum Kind {
    Charge { cost: u64, max_wait: u64 },
    Peek { cost: u64 },
    GiveBack { at_most: u64 },
    TakeAlways,
    Cancel { before: Cells, after: Cells },
    Hold { wait: u64 },
    Reset,
}

impl Kind {
    fn new(operation: &Operation) -> Self {
        // The target's costs are one number for every limit.
        let number = |cost: &Cost| cost.of_tier(0);
        match operation {
            Operation::Check { cost } => Self::Charge { cost: number(cost), max_wait: 0 },
            Operation::Peek { cost } => Self::Peek { cost: number(cost) },
            Operation::Reserve { cost, max_wait, .. } => {
                Self::Charge { cost: number(cost), max_wait: *max_wait }
            }
            Operation::Cancel(charge) => {
                Self::Cancel { before: charge.before, after: charge.after }
            }
            Operation::Settle { charged, actual } if number(actual) > number(charged) => {
                Self::TakeAlways
            }
            Operation::Settle { charged, actual } => {
                Self::GiveBack { at_most: number(&charged.saturating_sub(actual)) }
            }
            Operation::Credit { tokens } => Self::GiveBack { at_most: number(tokens) },
            Operation::Hold { wait } => Self::Hold { wait: *wait },
            Operation::Reset => Self::Reset,
        }
    }
}

struct Run<'r> {
    place: String,
    limits: &'r [Limit],
    now: u64,
    before: Cells,
}

impl Run<'_> {
    fn keeps_its_promises(&self, kind: &Kind, outcome: &Result<Outcome, Error>, after: &Cells) {
        let Self { place, limits, now, before } = self;
        let burst = limits.iter().map(Limit::burst).min().unwrap_or(0);
        match (kind, outcome) {
            (Kind::Charge { cost, .. }, Err(error)) => {
                assert_eq!(*error, Error::CostTooLarge { cost: *cost, burst }, "{place}");
                assert!(*cost > burst && after == before, "{place}");
            }
            (Kind::Peek { cost }, outcome) => {
                assert_eq!(after, before, "{place}: it changed");
                let check = Operation::Check { cost: (*cost).into() };
                let checked = apply(limits, &mut { *before }, *now, check);
                assert_eq!(*outcome, checked, "{place}");
            }
            (_, Err(error)) => panic!("{place}: {error}"),
            (Kind::Charge { cost, max_wait }, Ok(outcome)) => {
                let (allowed, delay) = match outcome {
                    Outcome::Decision(decision) => {
                        assert_eq!(decision.tiers().len(), limits.len(), "{place}");
                        (decision.allowed, 0)
                    }
                    Outcome::Reserved(Reserved::Slot(slot)) => {
                        assert_eq!(
                            (slot.charge.before, slot.charge.after),
                            (*before, *after),
                            "{place}"
                        );
                        (true, slot.delay)
                    }
                    _ => (false, 0),
                };
                assert!(delay <= *max_wait, "{place}: {outcome:?}");
                assert!(now.checked_add(delay).is_some(), "{place}: a slot past the clock's end");
                for tier in 0..limits.len() {
                    let charge = if allowed { i128::from(*cost) * self.width(tier) } else { 0 };
                    let spent = self.debt(tier, after) - self.debt(tier, before);
                    assert!(spent >= charge, "{place}: tier {tier} gave {charge} for {spent}");
                    assert!(charge > 0 || before == after, "{place}: it changed");
                    let room = i128::from(limits[tier].span()) + self.moves_in(tier, delay);
                    assert!(charge == 0 || self.debt(tier, after) <= room, "{place}: tier {tier}");
                }
            }
            (Kind::GiveBack { at_most }, Ok(_)) => {
                for tier in 0..limits.len() {
                    let back = self.debt(tier, before) - self.debt(tier, after);
                    let most = i128::from(*at_most) * self.width(tier);
                    assert!((0..=most).contains(&back), "{place}: tier {tier} gave {back} back");
                }
            }
            (Kind::TakeAlways, Ok(_)) => {
                self.only_takes(after);
            }
            (Kind::Hold { wait }, Ok(_)) => {
                self.only_takes(after);
                for tier in 0..limits.len() {
                    // A bucket that owed less than this would have a token before the end of the
                    // hold.
                    let wait = self.moves_in(tier, *wait);
                    let least = wait + i128::from(limits[tier].span())
                        - match limits[tier].shape() {
                            Shape::Smooth => self.width(tier),
                            Shape::Stepped => i128::from(limits[tier].tokens()),
                        };
                    let end = i128::from(u64::MAX) - self.position(tier, self.now);
                    let least = least.min(i128::from(MAX_SPAN)).min(end);
                    assert!(self.debt(tier, after) >= least, "{place}: tier {tier}");
                }
            }
            (Kind::Cancel { before: first, after: left }, Ok(Outcome::Cancelled(all))) => {
                let mut restored = true;
                for tier in 0..limits.len() {
                    let last = before[tier] == left[tier];
                    let expected = if last { first[tier] } else { before[tier] };
                    assert_eq!(after[tier], expected, "{place}: tier {tier}");
                    // A full bucket owes nothing and may have been forgotten.
                    let paid =
                        i128::from(before[tier].max(left[tier])) <= self.position(tier, *now);
                    restored &= last || first[tier] == left[tier] || paid;
                }
                assert_eq!(*all, restored, "{place}");
            }
            (Kind::Reset, Ok(_)) => assert_eq!(*after, Cells::default(), "{place}"),
            (_, Ok(outcome)) => panic!("{place}: {outcome:?}"),
        }
        for (tier, limit) in limits.iter().enumerate() {
            // A clock that stepped back shows a larger debt, which is not a new one.
            let most = i128::from(MAX_SPAN).max(self.debt(tier, before));
            let restored = matches!(kind, Kind::Cancel { .. });
            assert!(restored || self.debt(tier, after) <= most, "{place}: {limit}");
        }
        assert!(after[limits.len()..].iter().all(|&cell| cell == 0), "{place} at {now}");
    }

    fn only_takes(&self, after: &Cells) {
        for tier in 0..self.limits.len() {
            let taken = self.debt(tier, after) - self.debt(tier, &self.before);
            assert!(taken >= 0, "{}: tier {tier} gave {taken}", self.place);
        }
    }

    fn width(&self, tier: usize) -> i128 {
        let limit = &self.limits[tier];
        match limit.shape() {
            Shape::Smooth => i128::from(limit.period().div_ceil(limit.tokens())),
            Shape::Stepped => 1,
        }
    }

    /// A bucket's debt, as a distance on its timeline.
    fn debt(&self, tier: usize, cells: &Cells) -> i128 {
        (i128::from(cells[tier]) - self.position(tier, self.now)).max(0)
    }

    /// How far the timeline moves in `time`, up to the clock's end.
    fn moves_in(&self, tier: usize, time: u64) -> i128 {
        self.position(tier, self.now.saturating_add(time)) - self.position(tier, self.now)
    }

    fn position(&self, tier: usize, now: u64) -> i128 {
        let limit = &self.limits[tier];
        match limit.shape() {
            Shape::Smooth => i128::from(now),
            Shape::Stepped => i128::from(now / limit.period()) * i128::from(limit.tokens()),
        }
    }
}
