//! Local buckets of a fixed number of keys, in memory that never grows.
//!
//! This table is not `tidegate_core::Table`. That one belongs to one set of limits, by which it
//! tells from a cell alone whether the bucket is full and its slot free. Here up to 256 plugins
//! with different limits share the slots of one VM, because a table for each would need 256 times
//! the memory; so each slot records when its buckets are full ([`Slot::full_at`]). A VM has one
//! thread, so the slots need no atomics either.

use tidegate_core::{Cells, Decision, Limit, decide, decide_tiers, settle as core_settle};

/// The number of consecutive slots in which a key may be found.
const REACH: usize = 8;

/// The buckets of one key. A slot that was never used is all zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    fingerprint: u64,
    /// The time, in nanoseconds since the Unix epoch, at which every bucket of the key is full.
    /// From then on the slot contains no information and is free.
    full_at: u64,
    cells: Cells,
}

impl Slot {
    pub(crate) const EMPTY: Self = Self { fingerprint: 0, full_at: 0, cells: [0; 4] };

    /// Notes when all buckets are full.
    fn tell_full(&mut self, limits: &[Limit], now: u64) {
        let full_in = limits.iter().zip(self.cells).map(|(limit, cell)| {
            let timeline = limit.timeline();
            timeline.until(now, cell.saturating_sub(timeline.position(now)))
        });
        self.full_at = now.saturating_add(full_in.max().unwrap_or(0));
    }
}

/// A decision, and what it did to the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) decision: Decision,
    /// Whether another key's debt was forgotten to make room for this one.
    pub(crate) evicted: bool,
    pub(crate) undo: Undo,
}

/// The slot of a key as it was before its buckets were charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    index: usize,
    before: Slot,
}

impl Undo {
    /// Takes the charge back, unless the slot has another key by now.
    pub(crate) fn apply(&self, slots: &mut [Slot]) {
        if let Some(slot) = slots.get_mut(self.index)
            && slot.fingerprint == self.before.fingerprint
        {
            *slot = self.before;
        }
    }
}

/// Spends `cost` tokens from the buckets of the key with this fingerprint. A cost above a limit's burst
/// is refused for ever.
///
/// A key may be in any of eight consecutive slots. When all of them belong to other keys in debt,
/// the one whose buckets are full soonest is evicted, because that mints the fewest tokens.
/// Returns `None` only when there are no slots or no limits.
pub(crate) fn check(
    slots: &mut [Slot],
    limits: &[Limit],
    fingerprint: u64,
    now: u64,
    cost: u32,
) -> Option<Checked> {
    let (index, evicted) = slot_of(slots, fingerprint, now)?;
    let slot = slots.get_mut(index)?;
    let undo = Undo { index, before: *slot };
    let decision = match decide_tiers(limits, &mut slot.cells, now, u64::from(cost)) {
        Ok(decision) => decision,
        Err(_) => never(limits, slot, now, cost)?,
    };
    slot.tell_full(limits, now);
    Some(Checked { decision, evicted, undo })
}

/// Corrects a charge of `charged` tokens once it is known that `actual` were used. What was used beyond the
/// charge is owed in any case.
pub(crate) fn settle(
    slots: &mut [Slot],
    limits: &[Limit],
    fingerprint: u64,
    now: u64,
    (charged, actual): (u32, u32),
) {
    let place = place_of(slots, |slot| (slot.fingerprint, slot.full_at), fingerprint, now);
    let Some(place) = place else { return };
    // The bucket of a key that is not there is full.
    if !place.is_known && actual <= charged {
        return;
    }
    let Some(slot) = slots.get_mut(place.index) else { return };
    if !place.is_known {
        *slot = Slot { fingerprint, ..Slot::EMPTY };
    }
    // There are as many costs as limits: one for all.
    let _ = core_settle(limits, &mut slot.cells, now, u64::from(charged), u64::from(actual));
    slot.tell_full(limits, now);
}

/// The refusal of a cost above the burst of a limit.
#[cold]
fn never(limits: &[Limit], slot: &Slot, now: u64, cost: u32) -> Option<Decision> {
    let (limit, cell) =
        limits.iter().zip(slot.cells).find(|(limit, _)| limit.burst() < u64::from(cost))?;
    let (held, _) = decide(limit, cell, now, 0).ok()?;
    Some(Decision { allowed: false, retry_after: u64::MAX, ..held })
}

/// The place of the slot of a key, which is emptied first if another key had it; and whether that key
/// was in debt.
fn slot_of(slots: &mut [Slot], fingerprint: u64, now: u64) -> Option<(usize, bool)> {
    let place = place_of(slots, |slot| (slot.fingerprint, slot.full_at), fingerprint, now)?;
    if !place.is_known {
        *slots.get_mut(place.index)? = Slot { fingerprint, ..Slot::EMPTY };
    }
    Some((place.index, place.is_taken))
}

/// The place of a key in a table.
pub(crate) struct Place {
    pub(crate) index: usize,
    /// Whether the key is there.
    pub(crate) is_known: bool,
    /// Whether another key is there, and still needed.
    pub(crate) is_taken: bool,
}

/// Finds the place of a key among slots that tell their fingerprint, and the time from which on they
/// contain nothing.
pub(crate) fn place_of<S>(
    slots: &[S],
    tell: impl Fn(&S) -> (u64, u64),
    fingerprint: u64,
    now: u64,
) -> Option<Place> {
    let len = slots.len();
    let home = usize::try_from(fingerprint % u64::try_from(len).ok().filter(|&n| n > 0)?).ok()?;
    let mut best: Option<(usize, u64)> = None;
    for index in (home..home + REACH.min(len)).map(|index| index % len) {
        let (known, empty_at) = tell(slots.get(index)?);
        if known == fingerprint {
            return Some(Place { index, is_known: true, is_taken: false });
        }
        // All free slots are equally good; of the others, the one that is free soonest.
        let empty_at = if empty_at <= now { 0 } else { empty_at };
        if best.is_none_or(|(_, least)| empty_at < least) {
            best = Some((index, empty_at));
        }
    }
    best.map(|(index, empty_at)| Place { index, is_known: false, is_taken: empty_at != 0 })
}

/// The secret key of the fingerprints: the 64-bit hashes by which keys are distinguished. Clients cannot
/// predict them, so they cannot choose keys that collide.
pub(crate) type Seed = (u64, u64);

#[cfg(test)]
mod tests {
    use super::{REACH, Slot, check};
    use tidegate_core::{Limit, decide};

    const SECOND: u64 = 1_000_000_000;

    fn limit(text: &str) -> Limit {
        Limit::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn decisions_equal_those_of_the_engine_for_every_key() {
        let limit = limit("3/s burst 2");
        let mut slots = [Slot::EMPTY; 64];
        let mut cells = [0; 5];
        for step in 0..200 {
            let now = step * SECOND / 7;
            let key = (step * step % 5) as usize;
            let expect = decide(&limit, cells[key], now, 1).map(|(decision, cell)| {
                cells[key] = cell;
                decision
            });
            let found = check(&mut slots, &[limit], key as u64 * 7919, now, 1);
            assert_eq!(
                found.map(|checked| (checked.decision, checked.evicted)),
                expect.ok().map(|d| (d, false))
            );
        }
    }

    #[test]
    fn a_new_key_takes_a_full_bucket_or_evicts_the_one_that_is_full_soonest() {
        let limit = limit("1/s burst 10");
        let mut slots = [Slot::EMPTY; REACH];
        // Keys 0 to 7 are 1 to 8 seconds in debt.
        for key in 0..8 {
            for _ in 0..=key {
                assert_eq!(check(&mut slots, &[limit], key, 0, 1).map(|c| c.evicted), Some(false));
            }
        }
        // All are in debt: key 0, which is full soonest, is evicted.
        assert_eq!(check(&mut slots, &[limit], 100, 0, 1).map(|c| c.evicted), Some(true));
        let remaining = |slots: &mut [Slot], key| {
            check(slots, &[limit], key, 0, 1).map(|c| c.decision.remaining)
        };
        assert_eq!(remaining(&mut slots, 7), Some(1));
        assert_eq!(remaining(&mut slots, 1), Some(7));
        // After 3 s the bucket of key 100 is full, so the next key evicts nobody.
        assert_eq!(check(&mut slots, &[limit], 200, 3 * SECOND, 1).map(|c| c.evicted), Some(false));
        assert_eq!(check(&mut slots, &[limit], 1, 3 * SECOND, 1).map(|c| c.evicted), Some(false));
    }

    #[test]
    fn a_cost_above_the_burst_is_refused_for_ever_and_a_charge_can_be_taken_back() {
        let limits = [limit("100/s"), limit("10/s")];
        let mut slots = [Slot::EMPTY; REACH];
        let check = |slots: &mut [Slot], cost| check(slots, &limits, 5, 0, cost);
        let refused = check(&mut slots, 11).map(|checked| checked.decision);
        let seen = refused.map(|refused| {
            (refused.allowed, refused.limit, refused.remaining, refused.retry_after)
        });
        assert_eq!(seen, Some((false, 10, 10, u64::MAX)));
        let Some(charged) = check(&mut slots, 7) else { panic!("there are slots") };
        assert_eq!((charged.decision.allowed, charged.decision.remaining), (true, 3));
        charged.undo.apply(&mut slots);
        assert_eq!(check(&mut slots, 10).map(|checked| checked.decision.remaining), Some(0));
        // The slot of another key is left alone.
        slots.iter_mut().for_each(|slot| slot.fingerprint = 6);
        charged.undo.apply(&mut slots);
        assert!(slots.iter().all(|slot| slot.fingerprint == 6));
    }

    #[test]
    fn a_slot_is_free_only_when_every_tier_is_full() {
        let limits = [limit("100/s burst 100"), limit("1/h window")];
        let mut slots = [Slot::EMPTY; REACH];
        assert_eq!(
            check(&mut slots, &limits, 5, 10 * SECOND, 1).map(|c| c.decision.allowed),
            Some(true)
        );
        for key in 10..17 {
            check(&mut slots, &[limits[0]], key, 100 * SECOND, 1);
        }
        for key in 20..27 {
            check(&mut slots, &[limits[0]], key, 3599 * SECOND, 1);
        }
        let again =
            |slots: &mut [Slot], now| check(slots, &limits, 5, now, 1).map(|c| c.decision.allowed);
        assert_eq!(again(&mut slots, 3599 * SECOND), Some(false));
        assert_eq!(again(&mut slots, 3600 * SECOND), Some(true));
    }

    #[test]
    fn no_slots_or_no_limits_give_no_answer() {
        assert!(check(&mut [], &[limit("1/s")], 1, 0, 1).is_none());
        assert!(check(&mut [Slot::EMPTY], &[], 1, 0, 1).is_none());
    }
}
