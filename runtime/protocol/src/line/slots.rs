//! The slots of a waiting line, in the order of their times.

use std::collections::VecDeque;

use tidegate_core::{Charge, MAX_TIERS};

use super::tokens::Tokens;

/// Tokens that may be spent from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The time, in nanoseconds.
    pub(super) at: u64,
    pub(super) tokens: Tokens,
    /// The charge that paid for them.
    pub(super) charge: Charge,
    /// When the reservation was sent; 0 if that is not known.
    pub(super) made: u64,
    /// Whether the charge cannot be cancelled, because others have charged the bucket since.
    pub(super) is_fixed: bool,
    /// Whether the bucket was held after the charge. The hold has then left the bucket as it was.
    pub(super) is_before_hold: bool,
}

impl Slot {
    /// When these tokens of it have come. `width` is the time between two tokens of the only limit, or
    /// 0 if all come together.
    pub(super) fn time_of(&self, tokens: Tokens, width: u64) -> u64 {
        self.time_in_tier(0, tokens.0[0], width)
    }

    /// When its first token comes.
    pub(super) fn starts_at(&self, width: u64) -> u64 {
        self.time_in_tier(0, self.tokens.0[0].min(1), width)
    }

    /// Removes the tokens that come before a time. What is left cannot be cancelled any more.
    pub(super) fn remove_before(&mut self, time: u64, width: u64) {
        if self.at < time {
            self.tokens = Tokens::NONE;
        } else if self.starts_at(width) < time {
            // Only one smooth limit has a width, so that its tokens come one by one.
            let left = (self.at - time) / width + 1;
            self.tokens.0[0] = self.tokens.0[0].min(left);
            self.is_fixed = true;
        }
    }

    fn time_in_tier(&self, tier: usize, tokens: u64, width: u64) -> u64 {
        self.at.saturating_sub(self.tokens.0[tier].saturating_sub(tokens).saturating_mul(width))
    }
}

/// How far a walk over the slots has come, for each limit.
pub(super) type Brought = [BroughtOfTier; MAX_TIERS];

#[derive(Debug, Default)]
pub(super) struct BroughtOfTier {
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
    tokens: Tokens,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self { slots: VecDeque::new(), tokens: Tokens::NONE }
    }

    /// Adds a slot, and answers whether it is the last. Almost always it is: only a bucket that was
    /// given tokens back has earlier slots again.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        let place = self.slots.iter().rposition(|other| other.at <= slot.at).map_or(0, |it| it + 1);
        self.slots.insert(place, slot);
        self.tokens = self.tokens.plus(slot.tokens);
        place + 1 == self.slots.len()
    }

    pub(super) fn first(&self) -> Option<&Slot> {
        self.slots.front()
    }

    pub(super) fn last(&self) -> Option<&Slot> {
        self.slots.back()
    }

    /// Takes tokens of the first slot. What is left of it cannot be cancelled any more.
    pub(super) fn take_first(&mut self, tokens: Tokens) {
        let Some(slot) = self.slots.front_mut() else { return };
        self.tokens = self.tokens.without(tokens);
        slot.tokens = slot.tokens.without(tokens);
        slot.is_fixed = true;
        if slot.tokens.is_none() {
            self.slots.pop_front();
        }
    }

    pub(super) fn remove_last(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_back()?;
        self.tokens = self.tokens.without(slot.tokens);
        Some(slot)
    }

    /// Removes all tokens that come before the end of a hold.
    pub(super) fn hold_until(&mut self, time: u64, width: u64) {
        let mut tokens = Tokens::NONE;
        self.slots.retain_mut(|slot| {
            slot.remove_before(time, width);
            slot.is_before_hold = true;
            tokens = tokens.plus(slot.tokens);
            !slot.tokens.is_none()
        });
        self.tokens = tokens;
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.tokens = Tokens::NONE;
    }

    pub(super) const fn tokens(&self) -> Tokens {
        self.tokens
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// When the slots will have brought these tokens; `None` if they are not enough.
    pub(super) fn covering(&self, tokens: Tokens, width: u64) -> Option<u64> {
        let mut tiers =
            (0..MAX_TIERS).map(|tier| self.covering_in_tier(tier, tokens.0[tier], width));
        tiers.try_fold(0, |latest, at| Some(at?.max(latest)))
    }

    fn covering_in_tier(&self, tier: usize, tokens: u64, width: u64) -> Option<u64> {
        let mut surplus = self.tokens.0[tier].checked_sub(tokens)?;
        if tokens == 0 {
            return Some(0);
        }
        // From the end, because most lines have no more slots than they need.
        for slot in self.slots.iter().rev() {
            let brings = slot.tokens.0[tier];
            if surplus < brings {
                return Some(slot.time_in_tier(tier, brings - surplus, width));
            }
            surplus -= brings;
        }
        Some(0)
    }

    /// [`covering`](Self::covering) of `needed`, for a walk in which `had`, the tokens that
    /// the callers before have, only grows.
    pub(super) fn covering_after(
        &self,
        brought: &mut Brought,
        had: Tokens,
        needed: Tokens,
        width: u64,
    ) -> Option<u64> {
        let mut latest = 0;
        for (tier, brought) in brought.iter_mut().enumerate() {
            let (had, needed) = (had.0[tier], needed.0[tier]);
            // A limit of which nothing more is needed delays nobody.
            if needed > had {
                latest =
                    self.covering_after_in_tier(tier, brought, had, needed, width)?.max(latest);
            }
        }
        Some(latest)
    }

    fn covering_after_in_tier(
        &self,
        tier: usize,
        brought: &mut BroughtOfTier,
        had: u64,
        needed: u64,
        width: u64,
    ) -> Option<u64> {
        while let Some(slot) = self.slots.get(brought.place)
            && brought.tokens + slot.tokens.0[tier] <= had
        {
            brought.tokens += slot.tokens.0[tier];
            brought.place += 1;
        }
        let mut sum = brought.tokens;
        for slot in self.slots.range(brought.place..) {
            let brings = slot.tokens.0[tier];
            sum += brings;
            if sum >= needed {
                return Some(slot.time_in_tier(tier, brings - (sum - needed), width));
            }
        }
        None
    }
}
