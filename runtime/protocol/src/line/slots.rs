//! The slots of a waiting line, in the order of their times.

use std::collections::VecDeque;

use tidegate_core::Charge;

/// Tokens that may be spent from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The time, in nanoseconds.
    pub(super) at: u64,
    pub(super) tokens: u64,
    /// The charge that paid for them.
    pub(super) charge: Charge,
    /// When the reservation was sent; 0 if that is not known.
    pub(super) made: u64,
    /// Whether the charge cannot be cancelled, because others have charged the bucket since.
    pub(super) is_fixed: bool,
}

impl Slot {
    /// When this many of its tokens have come, if there are `width` nanoseconds between two.
    pub(super) const fn time_of(&self, tokens: u64, width: u64) -> u64 {
        self.at.saturating_sub((self.tokens - tokens).saturating_mul(width))
    }
}

/// How far a walk over the slots has come.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// The first slot that has not been passed.
    place: usize,
    /// The tokens of the slots before it.
    tokens: u64,
}

#[derive(Debug)]
pub(super) struct Slots {
    /// Ascending by time.
    slots: VecDeque<Slot>,
    /// The sum of their tokens.
    tokens: u64,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self { slots: VecDeque::new(), tokens: 0 }
    }

    /// Adds a slot, and answers whether it is the last. Almost always it is: only a bucket that was
    /// given tokens back has earlier slots again.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        let place = self.slots.iter().rposition(|other| other.at <= slot.at).map_or(0, |it| it + 1);
        self.slots.insert(place, slot);
        self.tokens += slot.tokens;
        place + 1 == self.slots.len()
    }

    pub(super) fn first(&self) -> Option<&Slot> {
        self.slots.front()
    }

    pub(super) fn last(&self) -> Option<&Slot> {
        self.slots.back()
    }

    /// Takes tokens of the first slot. What is left of it cannot be cancelled any more.
    pub(super) fn take_first(&mut self, tokens: u64) {
        let Some(slot) = self.slots.front_mut() else { return };
        self.tokens -= tokens;
        slot.tokens -= tokens;
        slot.is_fixed = true;
        if slot.tokens == 0 {
            self.slots.pop_front();
        }
    }

    pub(super) fn remove_last(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_back()?;
        self.tokens -= slot.tokens;
        Some(slot)
    }

    /// Removes all slots before a time.
    pub(super) fn remove_before(&mut self, time: u64) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.at < time) {
            self.tokens -= slot.tokens;
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.tokens = 0;
    }

    pub(super) const fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// When the slots will have brought this many tokens; `None` if they are not enough.
    pub(super) fn covering(&self, tokens: u64, width: u64) -> Option<u64> {
        let mut surplus = self.tokens.checked_sub(tokens)?;
        if tokens == 0 {
            return Some(0);
        }
        // From the end, because most lines have no more slots than they need.
        for slot in self.slots.iter().rev() {
            if surplus < slot.tokens {
                return Some(slot.time_of(slot.tokens - surplus, width));
            }
            surplus -= slot.tokens;
        }
        Some(0)
    }

    /// [`covering`](Self::covering) for a walk in which `had`, the tokens that the callers before
    /// have, only grows. It is less than `tokens`, unless `tokens` is 0.
    pub(super) fn covering_after(
        &self,
        brought: &mut Brought,
        had: u64,
        tokens: u64,
        width: u64,
    ) -> Option<u64> {
        if tokens == 0 {
            return Some(0);
        }
        while let Some(slot) = self.slots.get(brought.place)
            && brought.tokens + slot.tokens <= had
        {
            brought.tokens += slot.tokens;
            brought.place += 1;
        }
        let mut sum = brought.tokens;
        for slot in self.slots.range(brought.place..) {
            sum += slot.tokens;
            if sum >= tokens {
                return Some(slot.time_of(slot.tokens - (sum - tokens), width));
            }
        }
        None
    }
}
