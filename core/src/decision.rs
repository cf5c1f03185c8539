//! The answer of a limiter to a check, and where it was taken.

use core::ops::Deref;

use crate::bounds::MAX_TIERS;

/// The answer to one check, as a value: a refusal is not an error.
///
/// Times are durations in nanoseconds, relative to the `now` of the call, so
/// they mean the same on hosts whose clocks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether the cost was charged. A refused call has changed nothing.
    pub allowed: bool,
    /// The burst of the tier that bound the answer, in tokens.
    pub limit: u64,
    /// Whole tokens that can still be spent at once from that tier, after this call.
    pub remaining: u64,
    /// The shortest time after which the same call would be allowed if no other call came; 0 when
    /// it was allowed. [`u64::MAX`] past the end of the timeline.
    pub retry_after: u64,
    /// The time until that tier's bucket is full again.
    pub reset_after: u64,
    /// Which of the limiter's limits bound the answer, counted from 0: the
    /// longest `retry_after` when refused, the least `remaining` when allowed,
    /// the first on a tie.
    pub tier: u8,
    /// Where the bucket that answered lives.
    pub source: Source,
}

/// What one limit of a limiter says to a call.
///
/// After an allowed check it is what remains of the limit. After a refused one nothing was charged:
/// it is what the limit holds, and `retry_after` is the time after which this limit alone would
/// allow the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TierDecision {
    /// Which of the limiter's limits it is, counted from 0.
    pub tier: u8,
    /// The limit's burst, in tokens; [`u64::MAX`] for `unlimited`, 0 for `none`.
    pub limit: u64,
    /// Whole tokens that can still be spent at once from this limit, after the call.
    pub remaining: u64,
    /// The shortest time, in nanoseconds, after which this limit alone would allow the same call; 0
    /// when it allows it now. [`u64::MAX`] past the end of the timeline.
    pub retry_after: u64,
    /// The time until this limit's bucket is full again, in nanoseconds.
    pub reset_after: u64,
}

impl TierDecision {
    /// What `unlimited` says to everything.
    pub(crate) const UNLIMITED: Self =
        Self { tier: 0, limit: u64::MAX, remaining: u64::MAX, retry_after: 0, reset_after: 0 };
}

impl From<&Decision> for TierDecision {
    /// What the binding limit says.
    #[inline]
    fn from(decision: &Decision) -> Self {
        let Decision { tier, limit, remaining, retry_after, reset_after, .. } = *decision;
        Self { tier, limit, remaining, retry_after, reset_after }
    }
}

/// A [`Decision`], together with what each limit of the limiter says.
///
/// ```
/// use tidegate_core::{Cells, Limit, decide_each_tier};
/// let limits = [Limit::parse("10/s")?, Limit::parse("500/h")?];
/// let checked = decide_each_tier(&limits, &mut Cells::default(), 7, 3)?;
/// assert_eq!(checked.tiers().iter().map(|tier| tier.remaining).collect::<Vec<_>>(), [7, 497]);
/// assert_eq!((checked.allowed, checked.tier), (true, 0));
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TieredDecision {
    decision: Decision,
    /// What each limit says, or only the binding one; the rest is unused.
    tiers: [TierDecision; MAX_TIERS],
    count: u8,
}

impl TieredDecision {
    /// A decision, and what each limit says to the same call, in the limiter's order. At most
    /// [`MAX_TIERS`] are kept. The binding limit says what the decision does.
    #[inline]
    pub fn new(decision: Decision, each: impl IntoIterator<Item = TierDecision>) -> Self {
        let mut tiers = [TierDecision::default(); MAX_TIERS];
        let mut count = 0;
        for (place, tier) in tiers.iter_mut().zip(each) {
            *place = if tier.tier == decision.tier { TierDecision::from(&decision) } else { tier };
            count += 1;
        }
        Self { decision, tiers, count }
    }

    /// The decision alone: that of the limit that binds.
    #[inline]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What each limit says, in the limiter's order. It is the binding limit alone where the answer
    /// was taken without asking the buckets of the others: by a lease, by `none`, or by a line of
    /// waiting callers that refuses one of them.
    #[inline]
    pub fn tiers(&self) -> &[TierDecision] {
        self.tiers.get(..usize::from(self.count)).unwrap_or(&self.tiers)
    }

    /// The same answer, from another source.
    #[must_use]
    #[inline]
    pub const fn from_source(mut self, source: Source) -> Self {
        self.decision.source = source;
        self
    }
}

impl From<Decision> for TieredDecision {
    /// The decision of the binding limit, where nothing is known of others.
    #[inline]
    fn from(decision: Decision) -> Self {
        Self::new(decision, [TierDecision::from(&decision)])
    }
}

impl From<TieredDecision> for Decision {
    #[inline]
    fn from(tiered: TieredDecision) -> Self {
        tiered.decision
    }
}

impl Deref for TieredDecision {
    type Target = Decision;

    #[inline]
    fn deref(&self) -> &Decision {
        &self.decision
    }
}

/// Where a [`Decision`] was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A bucket in this process.
    #[default]
    Memory,
    /// A bucket that the processes of this host share.
    Shm,
    /// The bucket in Redis that the fleet shares.
    Redis,
    /// A slice of the bucket in Redis, which this process has leased.
    Lease,
    /// The limiter's policy for a failing store.
    Fallback,
}

impl Source {
    /// Every source. A source is written as its index here where a binding sends an answer as
    /// numbers.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Shm, Self::Redis, Self::Lease, Self::Fallback];

    /// The source of that name.
    ///
    /// ```
    /// use tidegate_core::Source;
    /// assert!(Source::ALL.iter().all(|source| Source::parse(source.as_str()) == Some(*source)));
    /// assert_eq!(Source::parse("elsewhere"), None);
    /// ```
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// The name that every binding uses: `"memory"`, `"shm"`, `"redis"`,
    /// `"lease"` or `"fallback"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Shm => "shm",
            Self::Redis => "redis",
            Self::Lease => "lease",
            Self::Fallback => "fallback",
        }
    }
}
