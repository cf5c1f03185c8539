//! The tokens that a call takes from each limit.

use crate::bounds::MAX_TIERS;
use crate::error::Error;
use crate::limit::Limit;

/// The tokens of a call: the same number for every limit, or one for each.
///
/// A number for each limit is for limits that count different things: one request and 1500 tokens of
/// a language model, or one message and its bytes. All of them are charged, or none is. A limit
/// whose number is 0 is neither asked nor charged.
///
/// ```
/// use tidegate_core::{Cells, Cost, Limit, decide_tiers};
/// let limits = [Limit::parse("60/min")?, Limit::parse("90_000/min")?];
/// let mut cells = Cells::default();
/// assert_eq!(decide_tiers(&limits, &mut cells, 0, [1, 1500])?.remaining, 59);
/// assert_eq!(Cost::from(3).of_tier(1), 3);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cost {
    /// One number for each limit; all are the same if one number is for every limit.
    tokens: [u64; MAX_TIERS],
    /// How many numbers were given; 0 if one number is for every limit.
    count: u8,
}

impl Cost {
    /// The same number for every limit.
    #[inline(always)]
    pub const fn same(tokens: u64) -> Self {
        Self { tokens: [tokens; MAX_TIERS], count: 0 }
    }

    /// One number for each limit, in the order of the limits.
    ///
    /// # Errors
    /// [`Error::TierCount`] unless there are one to [`MAX_TIERS`] numbers. Whether there are as many
    /// as limits is seen by the call that takes them.
    pub fn each(tokens: &[u64]) -> Result<Self, Error> {
        let count = tokens.len();
        let mut cost = Self::default();
        match (u8::try_from(count), cost.tokens.get_mut(..count)) {
            (Ok(number @ 1..), Some(places)) => {
                places.copy_from_slice(tokens);
                cost.count = number;
                Ok(cost)
            }
            _ => Err(Error::TierCount { count }),
        }
    }

    /// The number for the limit at this place. 0 past the last limit that has a number.
    #[inline(always)]
    pub const fn of_tier(&self, tier: usize) -> u64 {
        if tier < MAX_TIERS { self.tokens[tier] } else { 0 }
    }

    /// The number for every limit, if one number was given.
    #[inline(always)]
    pub const fn uniform(&self) -> Option<u64> {
        if self.count == 0 { Some(self.tokens[0]) } else { None }
    }

    /// The numbers as they were given: one, or one for each limit.
    pub fn numbers(&self) -> &[u64] {
        self.tokens.get(..usize::from(self.count.max(1))).unwrap_or(&self.tokens)
    }

    /// Whether no limit is charged.
    #[inline(always)]
    pub const fn is_zero(&self) -> bool {
        let [first, second, third, fourth] = self.tokens;
        first | second | third | fourth == 0
    }

    /// The numbers for these limits, of which there must be as many as numbers.
    ///
    /// # Errors
    /// [`Error::CostCount`].
    pub(crate) const fn check_count(&self, limits: usize) -> Result<(), Error> {
        let costs = self.count as usize;
        if costs == 0 || costs == limits { Ok(()) } else { Err(Error::CostCount { costs, limits }) }
    }

    /// What is left of each number without that of `other`; 0 where that is more.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let left = |tier| self.of_tier(tier).saturating_sub(other.of_tier(tier));
        Self { tokens: core::array::from_fn(left), count: self.count.max(other.count) }
    }

    /// The costs of some of the limits, by their places.
    #[must_use]
    pub(crate) fn pick(&self, places: impl IntoIterator<Item = usize>) -> Self {
        if self.count == 0 {
            return *self;
        }
        let mut picked = Self::default();
        for (tokens, place) in picked.tokens.iter_mut().zip(places) {
            *tokens = self.of_tier(place);
            picked.count += 1;
        }
        picked
    }

    /// Fails as [`check_count`](Self::check_count), and if a number is above the burst of its limit.
    pub(crate) fn check_bursts(&self, limits: &[Limit]) -> Result<(), Error> {
        self.check_count(limits.len())?;
        let costs = limits.iter().zip(self.tokens);
        match costs.clone().any(|(limit, cost)| cost > limit.burst()) {
            true => Err(self.too_large(limits.iter())),
            false => Ok(()),
        }
    }

    /// The error for a number above a burst: the smallest burst for a number that is for every limit,
    /// and otherwise the first limit whose own number is too large.
    #[cold]
    #[inline(never)]
    pub(crate) fn too_large<'l>(&self, limits: impl Iterator<Item = &'l Limit>) -> Error {
        let mut costs = limits.map(Limit::burst).zip(self.tokens);
        let first = match self.count {
            0 => costs.min(),
            _ => costs.find(|(burst, cost)| cost > burst),
        };
        let (burst, cost) = first.unwrap_or_default();
        Error::CostTooLarge { cost, burst }
    }
}

impl From<u64> for Cost {
    #[inline(always)]
    fn from(tokens: u64) -> Self {
        Self::same(tokens)
    }
}

impl<const N: usize> From<[u64; N]> for Cost {
    /// One number for each limit. More than [`MAX_TIERS`] numbers do not compile.
    fn from(tokens: [u64; N]) -> Self {
        const { assert!(N > 0 && N <= MAX_TIERS, "a cost has one to four numbers") }
        let mut cost = Self { count: N as u8, ..Self::default() };
        for (place, tokens) in cost.tokens.iter_mut().zip(tokens) {
            *place = tokens;
        }
        cost
    }
}
