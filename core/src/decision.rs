//! The answer of a limiter to a check, and where it was taken.

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
