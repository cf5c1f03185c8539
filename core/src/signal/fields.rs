//! Numbers, durations and times in the values of headers.

use super::profile::Unit;
use super::{SECOND, dates};

/// A time as a header says it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// From now.
    After(u64),
    /// Since 1970.
    At(u64),
}

/// A decimal number: its sign, and the digits before and after the point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

/// From this size on a plain number counts milliseconds since 1970, if the unit is automatic.
const EPOCH_MILLISECONDS: u64 = 100_000_000_000;
/// From this size on it counts seconds since 1970: 2001, which is 31 years as a duration.
const EPOCH_SECONDS: u64 = 1_000_000_000;

impl<'a> Number<'a> {
    /// The number that is all of the text; `None` if it is none.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (number, rest) = Self::at_start(text)?;
        rest.is_empty().then_some(number)
    }

    /// The number at the start of the text, and what follows it.
    pub(super) fn at_start(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(text);
        let (fraction, rest) = match rest {
            [b'.', after @ ..] => digits(after),
            _ => (&rest[..0], rest),
        };
        let has_bare_point = fraction.is_empty() && text.get(whole.len()) == Some(&b'.');
        (!whole.is_empty() && !has_bare_point)
            .then_some((Self { is_negative, whole, fraction }, rest))
    }

    pub(super) const fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// The number rounded down; 0 if it is negative, the largest one if it is larger.
    pub(super) fn floor(&self) -> u64 {
        if self.is_negative { 0 } else { self.whole.iter().fold(0, append) }
    }

    /// The number times 10^`places`, rounded up; 0 if it is negative, the largest one if it is larger.
    pub(super) fn shifted(&self, places: usize) -> u64 {
        if self.is_negative {
            return 0;
        }
        let padded = self.fraction.iter().chain(core::iter::repeat(&b'0')).take(places);
        let shifted = self.whole.iter().chain(padded).fold(0, append);
        let is_exact = self.fraction.iter().skip(places).all(|&digit| digit == b'0');
        shifted.saturating_add(u64::from(!is_exact))
    }

    fn time(&self, unit: Unit) -> Time {
        match unit {
            Unit::Seconds => Time::After(self.shifted(9)),
            Unit::Milliseconds => Time::After(self.shifted(6)),
            Unit::EpochSeconds => Time::At(self.shifted(9)),
            Unit::EpochMilliseconds => Time::At(self.shifted(6)),
            Unit::Auto => match self.floor() {
                EPOCH_MILLISECONDS.. => Time::At(self.shifted(6)),
                EPOCH_SECONDS.. => Time::At(self.shifted(9)),
                _ => Time::After(self.shifted(9)),
            },
        }
    }
}

/// Reads a time: a number in this unit, a duration with units, or a date.
pub(super) fn time(text: &[u8], unit: Unit) -> Option<Time> {
    if let Some(number) = Number::parse(text) {
        return Some(number.time(unit));
    }
    if let Some(nanos) = duration(text) {
        return Some(Time::After(nanos));
    }
    dates::parse(text).map(Time::At)
}

/// Reads a duration such as `6m0s` or `1h2.5s`; 0 if it is negative.
fn duration(text: &[u8]) -> Option<u64> {
    let (is_negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = Number::at_start(rest)?;
        if number.is_negative {
            return None;
        }
        // The longer of two units that begin alike comes first.
        let units: [(&[u8], usize, u64); 8] = [
            (b"ms", 6, 1),
            (b"us", 3, 1),
            ("\u{b5}s".as_bytes(), 3, 1),
            (b"ns", 0, 1),
            (b"s", 9, 1),
            (b"m", 9, 60),
            (b"h", 9, 3_600),
            (b"d", 9, 86_400),
        ];
        let (after, places, factor) = units.iter().find_map(|&(unit, places, factor)| {
            Some((strip_prefix(after, unit)?, places, factor))
        })?;
        sum = sum.saturating_add(number.shifted(places).saturating_mul(factor));
        rest = after;
    }
    (!text.is_empty()).then_some(if is_negative { 0 } else { sum })
}

/// The values of a header that may be a list, without spaces around them. The comma after the day of
/// the week in a date separates nothing.
pub(super) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    core::iter::from_fn(move || {
        let text = rest?;
        let mut end = position(text, b',').unwrap_or(text.len());
        if is_day_of_week(text.get(..end).unwrap_or(text)) && end < text.len() {
            let after = text.get(end + 1..).unwrap_or_default();
            end += 1 + position(after, b',').unwrap_or(after.len());
        }
        rest = text.get(end + 1..);
        Some(trim(text.get(..end).unwrap_or(text)))
    })
    .filter(|item| !item.is_empty())
}

/// An item without its parameters, and the parameter `w`, a number of seconds, in nanoseconds.
pub(super) fn without_parameters(item: &[u8]) -> (&[u8], Option<u64>) {
    let mut parts = item.split(|&byte| byte == b';').map(trim);
    let bare = parts.next().unwrap_or_default();
    let window = parts.find_map(|part| Number::parse(strip_prefix(part, b"w=")?));
    (bare, window.map(|number| number.shifted(9)))
}

/// The value of a header without spaces around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// What follows the prefix, compared without case.
pub(super) fn strip_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// What comes before the suffix, compared without case.
pub(super) fn strip_suffix<'a>(text: &'a [u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let (start, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(start)
}

/// The unit of a time in milliseconds: since 1970 if its first number is as large as that, and else
/// from now.
pub(super) fn milliseconds(value: &[u8]) -> Unit {
    match items(value).find_map(Number::parse).map(|number| number.floor()) {
        Some(EPOCH_MILLISECONDS..) => Unit::EpochMilliseconds,
        _ => Unit::Milliseconds,
    }
}

/// Divides, rounding up; the largest number if the quotient is larger.
pub(super) fn divide_up(dividend: u128, divisor: u64) -> u64 {
    let quotient = dividend.div_ceil(u128::from(divisor.max(1)));
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

/// How long `points` take at `rate` points per second, in nanoseconds.
pub(super) fn time_at_rate(points: u64, rate: u64) -> u64 {
    divide_up(u128::from(points) * u128::from(SECOND), rate)
}

fn is_day_of_week(text: &[u8]) -> bool {
    let text = trim(text);
    let is_day = |day: &&[u8]| strip_prefix(text, day).is_some();
    let days: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
    text.len() <= b"wednesday".len()
        && text.iter().all(u8::is_ascii_alphabetic)
        && days.iter().any(is_day)
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn append(number: u64, digit: &u8) -> u64 {
    number.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
}

fn position(text: &[u8], wanted: u8) -> Option<usize> {
    text.iter().position(|&byte| byte == wanted)
}
