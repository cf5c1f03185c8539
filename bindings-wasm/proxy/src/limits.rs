//! The limits of a local bucket, and how they are read from the configuration.

use tidegate_core::{AnyLimit, BucketTiers, Fixed, Limit, MAX_TIERS};

use crate::config_error::{FieldPath, Problem};
use crate::config_fields::{ConfigReader, Read};

pub(crate) const LIMITS: &str = "a list of 1 to 4 limits, such as [\"100/s burst 20\"]";
const LIMIT: &str = "the text of a limit, such as \"100/s burst 20\"";

/// What stands where there is no limit.
const UNUSED: [Limit; MAX_TIERS] = match Limit::smooth(1, 1_000_000_000, 1) {
    Ok(limit) => [limit; MAX_TIERS],
    Err(_) => panic!("1/s is a limit"),
};

/// One to four limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    count: usize,
    /// The limits of the buckets; unused elements have no meaning.
    limits: [Limit; MAX_TIERS],
    fixed: Option<Fixed>,
}

impl Limits {
    /// The limits of the buckets, in the order in which they were given: all but `unlimited` and
    /// `none`.
    pub fn as_slice(&self) -> &[Limit] {
        self.limits.get(..self.count).unwrap_or_default()
    }

    /// The answers if no bucket could change them.
    pub fn fixed(&self) -> Option<&Fixed> {
        self.fixed.as_ref()
    }
}

#[inline(never)]
pub(crate) fn read_limits<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<Limits> {
    let mut read = [AnyLimit::None; MAX_TIERS];
    let count = reader.list(path, LIMITS, &mut |reader, path, index| {
        let (text, found) = reader.text(path, LIMIT)?;
        let limit = match AnyLimit::parse(text.as_str()) {
            Ok(limit) => limit,
            Err(error) => return Err(reader.refuse(path, Problem::Limit { found, error })),
        };
        match read.get_mut(index) {
            Some(place) => *place = limit,
            None => return Err(reader.refuse(path, Problem::FifthLimit)),
        }
        Ok(0)
    })?;
    let given = read.get(..count).unwrap_or_default();
    let mut limits = Limits { count: 0, limits: UNUSED, fixed: Fixed::new(given) };
    if let Ok(tiers) = BucketTiers::new(given) {
        limits.count = tiers.count();
        for (place, limit) in limits.limits.iter_mut().zip(tiers.rates(given)) {
            *place = limit;
        }
    }
    Ok(limits)
}
