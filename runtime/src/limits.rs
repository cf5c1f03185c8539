//! `Limits`: the limits of a call, parsed once.

use core::fmt;
use std::sync::Arc;

use tidegate_core::{AnyLimit, BucketTiers, Fixed, Limit, MAX_TIERS};

use crate::{Error, NamedLimit};

/// One to four limits that all must allow, such as a customer's plan, for
/// [`Limiter::with_limits`](crate::Limiter::with_limits).
///
/// Limits are parsed once and cheap to clone. Equal limits have the same numbers, shapes and names.
///
/// ```
/// use tidegate::Limits;
/// let plan = Limits::parse(&["10/s burst 20", "1000/d"])?;
/// assert_eq!(plan.named()[1].name, "1000/d");
/// assert_eq!(plan.to_string(), "10/s burst 20, 1000/d");
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Limits(Arc<Parsed>);

#[derive(PartialEq, Eq, Hash)]
struct Parsed {
    /// `None` if each is the limit's canonical text, which then need not be kept.
    names: Option<Box<[Box<str>]>>,
    parts: Parts,
}

#[derive(PartialEq, Eq, Hash)]
enum Parts {
    Rates(Arc<[Limit]>),
    /// With `unlimited` or `none` among them.
    Mixed(Box<[AnyLimit]>),
}

/// What decides calls under limits.
pub(crate) enum Decider {
    /// Buckets, one for each limit.
    Buckets(Arc<[Limit]>),
    /// No bucket could change the answers.
    Fixed(Fixed),
    /// Buckets for these limits, in these places among all.
    Some(Limits, BucketTiers),
}

impl Limits {
    /// Reads limits from their texts, such as `"100/min burst 20"`, `"unlimited"` and `"none"`.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`] for a text that is no limit or a limit that cannot be kept, and for a
    /// number of limits other than one to four.
    pub fn parse(texts: &[&str]) -> Result<Self, Error> {
        let named = texts.iter().map(|text| NamedLimit::parse(text, None));
        Self::new(&named.collect::<Result<Vec<_>, _>>()?)
    }

    /// Limits with names, by which decisions report them.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`] for a number of limits other than one to four.
    pub fn new(named: &[NamedLimit]) -> Result<Self, Error> {
        if !(1..=MAX_TIERS).contains(&named.len()) {
            let source = tidegate_core::Error::TierCount { count: named.len() };
            return Err(Error::InvalidLimit { text: None, source });
        }
        let are_canonical = named.iter().all(|named| is_canonical(&named.name, &named.limit));
        let names = named.iter().map(|named| named.name.as_str().into());
        let names = (!are_canonical).then(|| names.collect());
        let rates: Vec<Limit> =
            named.iter().filter_map(|named| named.limit.rate().copied()).collect();
        let parts = if rates.len() == named.len() {
            Parts::Rates(rates.into())
        } else {
            Parts::Mixed(named.iter().map(|named| named.limit).collect())
        };
        Ok(Self(Arc::new(Parsed { names, parts })))
    }

    /// The limits and their names, in the order of [`Decision::tier`](crate::Decision::tier).
    pub fn named(&self) -> Vec<NamedLimit> {
        let name = |place: usize, limit: AnyLimit| match &self.0.names {
            Some(names) => names.get(place).map_or_else(String::new, |name| name.to_string()),
            None => limit.to_string(),
        };
        let named = self.all().into_iter().enumerate();
        named.map(|(place, limit)| NamedLimit { name: name(place, limit), limit }).collect()
    }

    /// The number of limits: one to four.
    #[allow(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        match &self.0.parts {
            Parts::Rates(rates) => rates.len(),
            Parts::Mixed(all) => all.len(),
        }
    }

    fn all(&self) -> Vec<AnyLimit> {
        match &self.0.parts {
            Parts::Rates(rates) => rates.iter().copied().map(AnyLimit::Rate).collect(),
            Parts::Mixed(all) => all.to_vec(),
        }
    }

    /// What decides calls under these limits.
    pub(crate) fn decider(&self) -> Result<Decider, Error> {
        let all = match &self.0.parts {
            Parts::Rates(rates) => return Ok(Decider::Buckets(Arc::clone(rates))),
            Parts::Mixed(all) => all,
        };
        if let Some(fixed) = Fixed::new(all) {
            return Ok(Decider::Fixed(fixed));
        }
        let tiers = BucketTiers::new(all).map_err(Error::from_engine)?;
        let named: Vec<NamedLimit> = tiers.pick(&self.named()).cloned().collect();
        Ok(Decider::Some(Self::new(&named)?, tiers))
    }
}

/// Whether this is the limit's canonical text.
fn is_canonical(name: &str, limit: &AnyLimit) -> bool {
    use fmt::Write as _;
    /// What is left of a text that should begin with all that is written.
    struct Rest<'t>(&'t str);
    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(name);
    write!(rest, "{limit}").is_ok() && rest.0.is_empty()
}

/// The names of the limits, with a comma between them.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, named) in self.named().iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            f.write_str(&named.name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limits({self})")
    }
}
