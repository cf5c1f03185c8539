//! Limits as a text may give them: a rate, or one of the two words that need no bucket.

use core::{fmt, str::FromStr};

use crate::bounds::MAX_TIERS;
use crate::cost::Cost;
use crate::decision::{Decision, TierDecision, TieredDecision};
use crate::error::Error;
use crate::fixed::Fixed;
use crate::limit::Limit;

/// A limit of a limiter: a rate, which buckets keep, or one of the two limits whose answer is the
/// same for every bucket.
///
/// The engine knows rates only, so a host decides at construction with [`Fixed::new`] and
/// [`BucketTiers::new`] what is left for buckets, and no check becomes slower.
///
/// ```
/// use tidegate_core::AnyLimit;
/// let plan: AnyLimit = "unlimited".parse()?;
/// assert_eq!((plan, plan.burst()), (AnyLimit::Unlimited, u64::MAX));
/// let paid: AnyLimit = "100/min burst 20".parse()?;
/// assert_eq!((paid.tokens(), paid.burst()), (100, 20));
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnyLimit {
    /// A rate.
    Rate(Limit),
    /// `unlimited`: every call is allowed, whatever its cost, and charges nothing.
    Unlimited,
    /// `none`: every call with a cost above 0 is refused.
    None,
}

impl AnyLimit {
    /// Reads the text form: `"unlimited"`, `"none"`, or that of [`Limit::parse`].
    ///
    /// # Errors
    /// As [`Limit::parse`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is = |word: &str| text.trim_ascii().eq_ignore_ascii_case(word);
        if is("unlimited") {
            Ok(Self::Unlimited)
        } else if is("none") {
            Ok(Self::None)
        } else {
            Limit::parse(text).map(Self::Rate)
        }
    }

    /// The rate, if it is one.
    pub const fn rate(&self) -> Option<&Limit> {
        match self {
            Self::Rate(limit) => Some(limit),
            Self::Unlimited | Self::None => None,
        }
    }

    /// Tokens per period: [`u64::MAX`] for `unlimited`, 0 for `none`.
    pub const fn tokens(&self) -> u64 {
        match self {
            Self::Rate(limit) => limit.tokens(),
            Self::Unlimited => u64::MAX,
            Self::None => 0,
        }
    }

    /// The period, in nanoseconds; 0 for `unlimited` and `none`, which have none.
    pub const fn period(&self) -> u64 {
        match self {
            Self::Rate(limit) => limit.period(),
            Self::Unlimited | Self::None => 0,
        }
    }

    /// The most tokens that can be spent at once: [`u64::MAX`] for `unlimited`, 0 for `none`.
    pub const fn burst(&self) -> u64 {
        match self {
            Self::Rate(limit) => limit.burst(),
            Self::Unlimited => u64::MAX,
            Self::None => 0,
        }
    }

    /// The name of how tokens come back, the same in every language: `"smooth"`, `"stepped"`,
    /// `"unlimited"` or `"none"`.
    pub const fn shape_name(&self) -> &'static str {
        match self {
            Self::Rate(limit) => limit.shape().as_str(),
            Self::Unlimited => "unlimited",
            Self::None => "none",
        }
    }
}

impl From<Limit> for AnyLimit {
    fn from(limit: Limit) -> Self {
        Self::Rate(limit)
    }
}

impl FromStr for AnyLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// The canonical text, which parses back to an equal limit.
impl fmt::Display for AnyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(limit) => limit.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
            Self::None => f.write_str("none"),
        }
    }
}

/// The limits of a limiter that have buckets: each is a tier of the engine.
///
/// The tiers are the limiter's rates, or none of them if its answers are [`Fixed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketTiers {
    /// The place of each tier's limit among all limits.
    places: [u8; MAX_TIERS],
    count: usize,
    /// How many limits there are with those that have no bucket.
    all: u8,
}

impl BucketTiers {
    /// The tiers of these limits, in their order.
    ///
    /// # Errors
    /// [`Error::TierCount`] unless there are one to [`MAX_TIERS`] limits.
    ///
    /// ```
    /// use tidegate_core::{AnyLimit, BucketTiers, Limit};
    /// let limits = ["10/s", "unlimited", "1000/h"].map(|text| AnyLimit::parse(text).unwrap());
    /// let tiers = BucketTiers::new(&limits)?;
    /// assert!(tiers.rates(&limits).eq([Limit::parse("10/s")?, Limit::parse("1000/h")?]));
    /// assert!(tiers.pick(&["user", "plan", "all"]).eq([&"user", &"all"]));
    /// assert_eq!(tiers.place(1), 2);
    /// # Ok::<(), tidegate_core::Error>(())
    /// ```
    pub fn new(limits: &[AnyLimit]) -> Result<Self, Error> {
        if limits.is_empty() || limits.len() > MAX_TIERS {
            return Err(Error::TierCount { count: limits.len() });
        }
        let mut tiers = Self::default();
        if Fixed::new(limits).is_some() {
            return Ok(tiers);
        }
        tiers.all = limits.len() as u8;
        for (place, _) in (0u8..).zip(limits).filter(|(_, limit)| limit.rate().is_some()) {
            tiers.places[tiers.count] = place;
            tiers.count += 1;
        }
        Ok(tiers)
    }

    /// The number of tiers.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The items of the tiers' limits, of `items` with one for each limit.
    pub fn pick<'i, T>(&self, items: &'i [T]) -> impl Iterator<Item = &'i T> {
        let places = self.places;
        places.into_iter().take(self.count).filter_map(|place| items.get(usize::from(place)))
    }

    /// The costs of the tiers, of a cost for all limits.
    pub fn pick_cost(&self, cost: &Cost) -> Cost {
        cost.pick(self.places.into_iter().take(self.count).map(usize::from))
    }

    /// The limits of the tiers.
    pub fn rates(&self, limits: &[AnyLimit]) -> impl Iterator<Item = Limit> {
        self.pick(limits).filter_map(AnyLimit::rate).copied()
    }

    /// The place among all limits of a tier's limit. A number that is no tier's is a place already,
    /// as it is in the answers of [`Fixed`].
    #[inline]
    pub fn place(&self, tier: u8) -> u8 {
        let tiers = self.places.get(..self.count).unwrap_or(&self.places);
        tiers.get(usize::from(tier)).copied().unwrap_or(tier)
    }

    /// The answer of the tiers as that of all limits, each in its place. A limit without a bucket is
    /// `unlimited`: it is added, unless the answer knows only the binding limit.
    #[must_use]
    pub fn place_all(&self, tiered: &TieredDecision) -> TieredDecision {
        let decision = Decision { tier: self.place(tiered.tier), ..**tiered };
        let known = tiered.tiers();
        let placed = |tier: &TierDecision| TierDecision { tier: self.place(tier.tier), ..*tier };
        if known.len() < self.count || self.count == 0 {
            return TieredDecision::new(decision, known.iter().map(placed));
        }
        let each = (0..self.all).map(|place| {
            let own = known.iter().map(placed).find(|tier| tier.tier == place);
            own.unwrap_or(TierDecision { tier: place, ..TierDecision::UNLIMITED })
        });
        TieredDecision::new(decision, each)
    }
}
