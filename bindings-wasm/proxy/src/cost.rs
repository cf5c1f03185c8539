//! The cost of a request: the tokens that it takes of a descriptor's buckets.

use crate::descriptors::MAX_DESCRIPTORS;
use crate::host::Host;
use crate::names::{Name, Names};
use crate::source::{self, NoKey};

/// The largest cost: what the service's protocol can carry for a whole request.
pub(crate) const MAX_COST: u32 = u32::MAX;

/// The costs of a request, by the places of its descriptors.
pub(crate) type Costs = [u32; MAX_DESCRIPTORS];

/// How the cost of a request is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    Fixed(u32),
    /// The number in a header; `absent` without that header.
    Header {
        property: Name,
        most: u32,
        absent: u32,
    },
    /// One for each `per` bytes of the body, rounded up; `unknown` for a body whose length is not told.
    BodyBytes {
        per: u32,
        unknown: Option<u32>,
    },
}

/// How a response tells what has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    /// A header; `property` is the path of its property.
    Header { property: Name },
    /// The number at this path of its JSON.
    Json { path: Name },
}

/// Why a request has no cost: it is refused, because no cost that the filter could choose for it would
/// be safe from clients that leave the true one out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadCost {
    /// The header is repeated, or has no whole number within its bounds.
    Header(Name),
    /// The body has no `content-length`.
    NoLength,
    /// The `content-length` is none.
    BadLength,
}

impl Cost {
    pub(crate) const ONE: Self = Self::Fixed(1);

    /// The cost of the current request, at least 1.
    #[inline]
    pub(crate) fn read(
        &self,
        names: &Names,
        host: &impl Host,
        has_body: bool,
    ) -> Result<u32, BadCost> {
        match *self {
            Self::Fixed(cost) => Ok(cost),
            _ => self.read_request(names, host, has_body),
        }
    }

    #[inline(never)]
    fn read_request(
        &self,
        names: &Names,
        host: &impl Host,
        has_body: bool,
    ) -> Result<u32, BadCost> {
        match *self {
            Self::Fixed(cost) => Ok(cost),
            Self::Header { property, most, absent } => {
                match source::header(host, names.get(property)) {
                    Ok(value) => number(value)
                        .filter(|cost| (1..=u64::from(most)).contains(cost))
                        .map(|cost| cost as u32)
                        .ok_or(BadCost::Header(property)),
                    Err(NoKey::Missing) => Ok(absent),
                    Err(_) => Err(BadCost::Header(property)),
                }
            }
            Self::BodyBytes { per, unknown } => {
                match source::header(host, b"request\0headers\0content-length") {
                    Ok(length) => {
                        let length = number(length).ok_or(BadCost::BadLength)?;
                        Ok(length.div_ceil(u64::from(per)).clamp(1, u64::from(MAX_COST)) as u32)
                    }
                    Err(NoKey::Missing) if !has_body => Ok(1),
                    Err(NoKey::Missing) => unknown.ok_or(BadCost::NoLength),
                    Err(_) => Err(BadCost::BadLength),
                }
            }
        }
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::ONE
    }
}

/// The number that is written in digits, and nothing else; `None` also above 2^64 - 1.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    digits.filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{BadCost, Cost, MAX_COST};
    use crate::fake_host::FakeHost;
    use crate::host::Status;
    use crate::names::Names;

    const PROPERTY: &[u8] = b"request\0headers\0x-cost";
    const LENGTH: &[u8] = b"request\0headers\0content-length";

    #[test]
    fn a_header_has_a_whole_number_within_its_bounds_or_the_request_is_refused() {
        let mut names = Names::EMPTY;
        let Some(property) = names.add(PROPERTY) else { panic!("there is room") };
        let cost = Cost::Header { property, most: 100, absent: 7 };
        let host = FakeHost::default();
        let read = |value: Result<&[u8], Status>| {
            host.set_property(PROPERTY, value);
            cost.read(&names, &host, false)
        };
        assert_eq!(read(Ok(b"1")), Ok(1));
        assert_eq!(read(Ok(b"100")), Ok(100));
        assert_eq!(read(Err(Status::NOT_FOUND)), Ok(7));
        host.set_header(b"x-cost", Ok(b"5"));
        for bad in
            ["0", "101", "-1", "+1", "1.5", "1e2", "", " 5", "5,6", "0x5", "18446744073709551617"]
        {
            assert_eq!(read(Ok(bad.as_bytes())), Err(BadCost::Header(property)), "{bad}");
        }
        assert_eq!(read(Err(Status(12))), Err(BadCost::Header(property)));
    }

    #[test]
    fn a_body_costs_its_length_and_one_of_unknown_length_what_is_configured() {
        let host = FakeHost::default();
        let read = |value: Result<&[u8], Status>, unknown, has_body| {
            host.set_property(LENGTH, value);
            Cost::BodyBytes { per: 1000, unknown }.read(&Names::EMPTY, &host, has_body)
        };
        for (length, cost) in [("0", 1), ("1", 1), ("1000", 1), ("1001", 2), ("2500", 3)] {
            assert_eq!(read(Ok(length.as_bytes()), None, true), Ok(cost), "{length}");
        }
        assert_eq!(read(Ok(b"18446744073709551615"), None, true), Ok(MAX_COST));
        assert_eq!(read(Ok(b"1k"), Some(5), true), Err(BadCost::BadLength));
        assert_eq!(read(Err(Status::NOT_FOUND), None, false), Ok(1));
        assert_eq!(read(Err(Status::NOT_FOUND), None, true), Err(BadCost::NoLength));
        assert_eq!(read(Err(Status::NOT_FOUND), Some(5), true), Ok(5));
    }
}
