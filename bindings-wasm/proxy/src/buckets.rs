//! Local buckets of a fixed number of keys, in memory that never grows.
//!
//! This table is not `tidegate_core::Table`. That one belongs to one set of limits, by which it
//! tells from a cell alone whether the bucket is full and its slot free. Here up to 256 plugins
//! with different limits share the slots of one VM, because a table for each would need 256 times
//! the memory; so each slot records when its buckets are full ([`Slot::full_at`]). A VM has one
//! thread, so the slots need no atomics either.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use tidegate_core::{Cells, Decision, Limit, decide_tiers};

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
}

/// A decision, and whether another key's debt was forgotten to make room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) decision: Decision,
    pub(crate) evicted: bool,
}

/// Spends one token from the buckets of the key with this fingerprint.
///
/// A key may be in any of eight consecutive slots. When all of them belong to other keys in debt,
/// the one whose buckets are full soonest is evicted, because that mints the fewest tokens.
/// Returns `None` only when there are no slots or no limits.
pub(crate) fn check(
    slots: &mut [Slot],
    limits: &[Limit],
    fingerprint: u64,
    now: u64,
) -> Option<Checked> {
    let (slot, evicted) = slot_of(slots, fingerprint, now)?;
    let decision = decide_tiers(limits, &mut slot.cells, now, 1).ok()?;
    let full_in = limits.iter().zip(slot.cells).map(|(limit, cell)| {
        let timeline = limit.timeline();
        timeline.until(now, cell.saturating_sub(timeline.position(now)))
    });
    slot.full_at = now.saturating_add(full_in.max().unwrap_or(0));
    Some(Checked { decision, evicted })
}

/// The slot of a key, which is emptied first if another key had it; and whether that key was
/// in debt.
fn slot_of(slots: &mut [Slot], fingerprint: u64, now: u64) -> Option<(&mut Slot, bool)> {
    let len = slots.len();
    let home = usize::try_from(fingerprint % u64::try_from(len).ok().filter(|&n| n > 0)?).ok()?;
    let mut best: Option<(usize, u64)> = None;
    for index in (home..home + REACH.min(len)).map(|index| index % len) {
        let slot = slots.get(index)?;
        if slot.fingerprint == fingerprint {
            return slots.get_mut(index).map(|slot| (slot, false));
        }
        // All free slots are equally good; of the others, the one that is full soonest.
        let full_at = if slot.full_at <= now { 0 } else { slot.full_at };
        if best.is_none_or(|(_, least)| full_at < least) {
            best = Some((index, full_at));
        }
    }
    let (index, full_at) = best?;
    let slot = slots.get_mut(index)?;
    *slot = Slot { fingerprint, ..Slot::EMPTY };
    Some((slot, full_at != 0))
}

/// The secret key of the fingerprints.
pub(crate) type Seed = (u64, u64);

/// The 64-bit hash by which keys are distinguished. Clients cannot predict it, so they cannot
/// choose keys that collide.
pub(crate) fn fingerprint(seed: Seed, key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{REACH, Slot, check, fingerprint};
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
            let found = check(&mut slots, &[limit], fingerprint((1, 2), &[key as u8]), now);
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
                assert_eq!(check(&mut slots, &[limit], key, 0).map(|c| c.evicted), Some(false));
            }
        }
        // All are in debt: key 0, which is full soonest, is evicted.
        assert_eq!(check(&mut slots, &[limit], 100, 0).map(|c| c.evicted), Some(true));
        let remaining =
            |slots: &mut [Slot], key| check(slots, &[limit], key, 0).map(|c| c.decision.remaining);
        assert_eq!(remaining(&mut slots, 7), Some(1));
        assert_eq!(remaining(&mut slots, 1), Some(7));
        // After 3 s the bucket of key 100 is full, so the next key evicts nobody.
        assert_eq!(check(&mut slots, &[limit], 200, 3 * SECOND).map(|c| c.evicted), Some(false));
        assert_eq!(check(&mut slots, &[limit], 1, 3 * SECOND).map(|c| c.evicted), Some(false));
    }

    #[test]
    fn a_slot_is_free_only_when_every_tier_is_full() {
        let limits = [limit("100/s burst 100"), limit("1/h window")];
        let mut slots = [Slot::EMPTY; REACH];
        assert_eq!(
            check(&mut slots, &limits, 5, 10 * SECOND).map(|c| c.decision.allowed),
            Some(true)
        );
        for key in 10..17 {
            check(&mut slots, &[limits[0]], key, 100 * SECOND);
        }
        for key in 20..27 {
            check(&mut slots, &[limits[0]], key, 3599 * SECOND);
        }
        let again =
            |slots: &mut [Slot], now| check(slots, &limits, 5, now).map(|c| c.decision.allowed);
        assert_eq!(again(&mut slots, 3599 * SECOND), Some(false));
        assert_eq!(again(&mut slots, 3600 * SECOND), Some(true));
    }

    #[test]
    fn no_slots_or_no_limits_give_no_answer() {
        assert!(check(&mut [], &[limit("1/s")], 1, 0).is_none());
        assert!(check(&mut [Slot::EMPTY], &[], 1, 0).is_none());
    }

    #[test]
    fn fingerprints_depend_on_the_seed() {
        assert_ne!(fingerprint((1, 2), b"a"), fingerprint((1, 3), b"a"));
        assert_ne!(fingerprint((1, 2), b"a"), fingerprint((1, 2), b"b"));
    }
}
