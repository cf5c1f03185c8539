//! Quantities as text: times, rates, shares and latencies. All become integers.

use core::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::world::Stream;

const SECOND: u64 = 1_000_000_000;
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("min", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("d", 86_400 * SECOND),
];
/// The longest time, so that sums of times never overflow.
const LONGEST: u64 = 3660 * 86_400 * SECOND;

/// A time in nanoseconds, written as `10s`, `1.5s` or `300ms`; at most 10 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// A rate, written as `5/s`, `16.7/s` or `100/min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time between two calls, in nanoseconds, rounded down; at least 1.
    pub between: u64,
}

/// A share of calls in parts per million, written as `2%` or `0.02`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share(pub u64);

/// How long something takes, written as `1s`, `1s..10s` (any time between them, equally likely), `mean 1s`
/// (exponentially distributed) or `min 200ms p50 300ms p99 2s p999 5s` (straight lines between the points).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Always the same.
    Fixed(u64),
    /// Exponentially distributed, with this mean.
    Exponential(u64),
    /// Quantiles: the share of what is shorter, in parts per billion, and the time. Shares and times ascend.
    Quantiles(Vec<(u64, u64)>),
}

const BILLION: u64 = 1_000_000_000;

impl Default for Latency {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl Latency {
    /// The time in nanoseconds that half of the draws exceed.
    pub fn median(&self) -> u64 {
        match self {
            Self::Fixed(time) => *time,
            // ln 2 is 0.693147.
            Self::Exponential(mean) => mean / 1_000_000 * 693_147,
            Self::Quantiles(points) => between(points, BILLION / 2),
        }
    }

    pub(crate) fn draw(&self, stream: &mut Stream) -> u64 {
        match self {
            Self::Fixed(time) => *time,
            Self::Exponential(mean) => stream.exponential(*mean),
            Self::Quantiles(points) => between(points, stream.below(BILLION)),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some((least, most)) = text.split_once("..") {
            return points(&[(0, Span::parse(least)?), (BILLION, Span::parse(most)?)]);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        match *words.as_slice() {
            [time] => Ok(Self::Fixed(Span::parse(time)?.0)),
            ["mean", time] => Ok(Self::Exponential(Span::parse(time)?.0)),
            _ => {
                let mut found = Vec::new();
                for pair in words.chunks(2) {
                    let [name, time] = *pair else { return Err(wrong_latency(text)) };
                    let share = match name {
                        "min" => 0,
                        "p50" => BILLION / 2,
                        "p90" => BILLION / 10 * 9,
                        "p99" => BILLION / 100 * 99,
                        "p999" => BILLION / 1000 * 999,
                        "max" => BILLION,
                        _ => return Err(wrong_latency(text)),
                    };
                    found.push((share, Span::parse(time)?));
                }
                points(&found)
            }
        }
    }
}

fn points(found: &[(u64, Span)]) -> Result<Latency, String> {
    let ascend = found.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
    if found.is_empty() || !ascend {
        return Err("the shares and the times of a latency ascend, as in p50 1s p99 3s".to_owned());
    }
    Ok(Latency::Quantiles(found.iter().map(|(share, time)| (*share, time.0)).collect()))
}

fn wrong_latency(text: &str) -> String {
    format!("{text:?}: write 1s, 1s..10s, mean 1s, or min 200ms p50 300ms p99 2s p999 5s max 9s")
}

/// The time at a share, on the straight line between the points beside it.
fn between(points: &[(u64, u64)], share: u64) -> u64 {
    let after = points.partition_point(|(each, _)| *each <= share);
    match (after.checked_sub(1).and_then(|at| points.get(at)), points.get(after)) {
        (Some((low, from)), Some((high, to))) => {
            let part = u128::from(to - from) * u128::from(share - low) / u128::from(high - low);
            from + part as u64
        }
        (Some((_, only)), None) | (None, Some((_, only))) => *only,
        (None, None) => 0,
    }
}

impl Span {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write a number and a unit, as in 300ms, 1.5s or 2h");
        let text_of_unit = text.trim().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = text.trim().strip_suffix(text_of_unit).ok_or_else(wrong)?;
        let unit = text_of_unit.trim();
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let (count, scale) = decimal(number).ok_or_else(wrong)?;
        let total = u128::from(count) * u128::from(*nanos) / u128::from(scale);
        match u64::try_from(total) {
            Ok(total) if total <= LONGEST => Ok(Self(total)),
            _ => Err(format!("{text:?}: the longest time is 10 years")),
        }
    }
}

impl Rate {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write a number and a unit of time, as in 5/s or 100/min");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        let (count, scale) = decimal(count.trim()).ok_or_else(wrong)?;
        let between = (u128::from(unit.1) * u128::from(scale)).checked_div(u128::from(count));
        let between = between.and_then(|time| u64::try_from(time).ok()).ok_or_else(wrong)?;
        if between == 0 || between > LONGEST { Err(wrong()) } else { Ok(Self { between }) }
    }
}

impl Share {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write a share from 0 to 1, as in 2% or 0.02");
        let (number, per) =
            text.trim().strip_suffix('%').map_or_else(|| (text.trim(), 1), |number| (number, 100));
        let (count, scale) = decimal(number.trim()).ok_or_else(wrong)?;
        let parts = u128::from(count) * 1_000_000 / (u128::from(scale) * per);
        u64::try_from(parts).ok().filter(|parts| *parts <= 1_000_000).map(Self).ok_or_else(wrong)
    }
}

/// A decimal number as a numerator and a power of ten.
pub(super) fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let scale = 10u64.pow(part.len() as u32);
    Some((format!("{whole}{part}").parse().ok()?, scale))
}

struct Text<T>(fn(&str) -> Result<T, String>, &'static str);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a text, such as {:?}", self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

macro_rules! from_text {
    ($($type:ident $example:literal),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text($type::parse, $example))
            }
        }
    )*};
}
from_text!(Span "10s", Rate "5/s", Share "2%", Latency "1s..10s");

#[cfg(test)]
mod tests {
    use super::{Latency, Rate, Share, Span};
    use crate::world::Stream;

    #[test]
    fn quantities_are_exact() {
        assert_eq!(Span::parse("1.305s"), Ok(Span(1_305_000_000)));
        assert_eq!(Span::parse("2 h"), Ok(Span(7_200_000_000_000)));
        assert_eq!(Rate::parse("16.7/s").map(|rate| rate.between), Ok(59_880_239));
        assert_eq!(Rate::parse("100/min").map(|rate| rate.between), Ok(600_000_000));
        assert_eq!(Share::parse("2.5%"), Ok(Share(25_000)));
        for wrong in ["", "5", "s", "-1s", "1.2.3s", "1e3s", "9999999d", "1 fortnight"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["5", "0/s", "5/fortnight", "/s", "99999999999999999999/s"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Share::parse("101%").is_err());
    }

    #[test]
    fn latencies_keep_their_quantiles() -> Result<(), String> {
        let latency = Latency::parse("min 100ms p50 300ms p99 2s p999 5s")?;
        assert_eq!(latency.median(), 300_000_000);
        let mut stream = Stream::new(1, "test");
        let mut drawn: Vec<u64> = (0..100_000).map(|_| latency.draw(&mut stream)).collect();
        drawn.sort_unstable();
        for (at, wanted) in [(50_000, 300_000_000), (99_000, 2_000_000_000)] {
            assert!(drawn[at].abs_diff(wanted) < wanted / 20, "{} {wanted}", drawn[at]);
        }
        assert_eq!(drawn[99_999], 5_000_000_000, "what is beyond the last point is the last point");
        for wrong in ["", "p50", "p98 1s", "p99 1s p50 2s", "2s..1s"] {
            assert!(Latency::parse(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }
}
