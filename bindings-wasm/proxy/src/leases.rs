//! Tokens of shared buckets that this worker has taken ahead, in memory that never grows.

use tidegate_core::{QuotaSlice, QuotaTerms};

use crate::buckets::place_of;

/// The tokens of one key. A slot that was never used is all zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseSlot {
    fingerprint: u64,
    /// The time from which on the slice contains nothing.
    empty_at: u64,
    slice: QuotaSlice,
}

impl LeaseSlot {
    pub(crate) const EMPTY: Self = Self { fingerprint: 0, empty_at: 0, slice: QuotaSlice::EMPTY };
}

/// Gives `act` the slice of a key. A key that is new takes the place of one that needs it no more, or else
/// for the shortest time: its tokens are lost, so fewer requests are allowed, never more.
pub(crate) fn with_slice<R>(
    slots: &mut [LeaseSlot],
    fingerprint: u64,
    now: u64,
    terms: &QuotaTerms,
    act: impl FnOnce(&mut QuotaSlice) -> R,
) -> Option<R> {
    let place = place_of(slots, |slot| (slot.fingerprint, slot.empty_at), fingerprint, now)?;
    let slot = slots.get_mut(place.index)?;
    if !place.is_known {
        *slot = LeaseSlot { fingerprint, ..LeaseSlot::EMPTY };
    }
    let result = act(&mut slot.slice);
    slot.empty_at = slot.slice.empty_at(terms);
    Some(result)
}
