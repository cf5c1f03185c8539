//! Numbers of tokens, one for each limit.

use tidegate_core::MAX_TIERS;

/// Tokens of each limit; 0 past the last limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens(pub(super) [u64; MAX_TIERS]);

impl Tokens {
    pub(super) const NONE: Self = Self([0; MAX_TIERS]);

    fn each(number: impl FnMut(usize) -> u64) -> Self {
        Self(core::array::from_fn(number))
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether there are as many of each as of `others`.
    pub(super) fn covers(&self, others: Self) -> bool {
        self.0.iter().zip(others.0).all(|(own, other)| *own >= other)
    }

    pub(super) fn plus(self, others: Self) -> Self {
        Self::each(|tier| self.0[tier].saturating_add(others.0[tier]))
    }

    /// What is left of each without `others`; none where there are more of them.
    pub(super) fn without(self, others: Self) -> Self {
        Self::each(|tier| self.0[tier].saturating_sub(others.0[tier]))
    }

    pub(super) fn min(self, others: Self) -> Self {
        Self::each(|tier| self.0[tier].min(others.0[tier]))
    }

    /// The largest of the numbers.
    pub(super) fn most(&self) -> u64 {
        self.0.into_iter().max().unwrap_or(0)
    }
}
