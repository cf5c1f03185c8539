//! What should come of a scenario, which makes it a test.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::quantity::{Share, Span, decimal};
use crate::figures::{Figure, Unit, figure_names, unit_of};

/// A figure and its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The name of the figure.
    pub figure: String,
    /// What was written.
    pub text: String,
    /// What the figure may be.
    pub bound: Bound,
    /// Whether the bound is for the mean of all runs; otherwise each run must keep it.
    pub of_mean: bool,
}

/// What a figure may be, both ends included, in the figure's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// From the one to the other.
    Between(u64, u64),
    /// At most the ideal's figure times a number of thousandths.
    AtMostOfIdeal(u64),
    /// At least the ideal's figure times a number of thousandths.
    AtLeastOfIdeal(u64),
}

/// Whether a bound is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The bound.
    pub expectation: Expectation,
    /// The figure: the mean, or that of the first run which breaks the bound, or else of the first run.
    pub found: Figure,
    /// Whether it is kept.
    pub is_met: bool,
}

impl Expectation {
    /// Judges the figures of all runs.
    pub(crate) fn judge(&self, runs: &[Vec<Figure>], mean: &[Figure]) -> Option<Verdict> {
        let named =
            |figures: &[Figure]| figures.iter().find(|each| each.name == self.figure).copied();
        let is_idle =
            |figures: &[Figure]| figures.iter().any(|each| each.name == "done" && each.value == 0);
        let judged: Vec<&[Figure]> =
            if self.of_mean { vec![mean] } else { runs.iter().map(Vec::as_slice).collect() };
        // A run that does nothing takes no time, and is no quick one.
        let is_kept = |run: &[Figure], figure: &Figure| {
            self.bound.allows(figure) && !(figure.unit == Unit::Nanoseconds && is_idle(run))
        };
        let candidates: Vec<(Figure, bool)> = judged
            .into_iter()
            .filter_map(|run| named(run).map(|figure| (figure, is_kept(run, &figure))))
            .collect();
        let broken = candidates.iter().find(|(_, is_kept)| !is_kept).copied();
        let (found, is_met) = broken.or_else(|| candidates.first().copied())?;
        Some(Verdict { expectation: self.clone(), found, is_met })
    }
}

impl Bound {
    fn allows(self, figure: &Figure) -> bool {
        let of_ideal = |thousandths: u64| {
            figure.ideal.map(|ideal| (u128::from(ideal) * u128::from(thousandths)).div_ceil(1000))
        };
        match self {
            Self::Between(least, most) => (least..=most).contains(&figure.value),
            Self::AtMostOfIdeal(times) => {
                of_ideal(times).is_some_and(|most| u128::from(figure.value) <= most)
            }
            Self::AtLeastOfIdeal(times) => {
                of_ideal(times).is_some_and(|least| u128::from(figure.value) >= least)
            }
        }
    }

    fn parse(text: &str, unit: Unit) -> Result<Self, String> {
        let value = |text: &str| value(text.trim(), unit);
        if let Some((least, most)) = text.split_once("..") {
            return Ok(Self::Between(value(least)?, value(most)?));
        }
        let (sign, rest) = ["<=", ">=", "="]
            .into_iter()
            .find_map(|sign| text.trim().strip_prefix(sign).map(|rest| (sign, rest.trim())))
            .ok_or_else(|| {
                format!("{text:?}: write <= 10, >= 10, = 10, 10..20, or <= 1.04x of the ideal")
            })?;
        match (sign, rest.strip_suffix('x')) {
            ("<=", Some(times)) => Ok(Self::AtMostOfIdeal(thousandths(times)?)),
            (">=", Some(times)) => Ok(Self::AtLeastOfIdeal(thousandths(times)?)),
            (_, Some(_)) => Err(format!("{text:?}: write <= or >= before a multiple of the ideal")),
            ("<=", None) => Ok(Self::Between(0, value(rest)?)),
            (">=", None) => Ok(Self::Between(value(rest)?, u64::MAX)),
            (_, None) => value(rest).map(|value| Self::Between(value, value)),
        }
    }
}

fn value(text: &str, unit: Unit) -> Result<u64, String> {
    match unit {
        Unit::Count => text.parse().map_err(|_| format!("{text:?}: write a whole number")),
        Unit::Nanoseconds => Span::parse(text).map(|span| span.0),
        Unit::ThousandthsPerSecond => thousandths(text.trim_end_matches("/s")),
        Unit::PartsPerMillion => Share::parse(text).map(|share| share.0),
    }
}

fn thousandths(text: &str) -> Result<u64, String> {
    let (count, scale) = decimal(text.trim()).ok_or_else(|| format!("{text:?}: write a number"))?;
    let thousandths = u128::from(count) * 1000 / u128::from(scale);
    u64::try_from(thousandths).map_err(|_| format!("{text:?}: it is too large"))
}

/// Reads `[expect]`: figures with bounds, and `mean` with those for the mean of all runs.
pub(super) fn expectations<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<Expectation>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Bound(String),
        Mean(BTreeMap<String, String>),
    }
    let entries = BTreeMap::<String, Entry>::deserialize(from)?;
    let mut found = Vec::new();
    for (name, entry) in entries {
        match entry {
            Entry::Bound(text) => {
                found.push(expectation(name, text, false).map_err(de::Error::custom)?)
            }
            Entry::Mean(bounds) if name == "mean" => {
                for (name, text) in bounds {
                    found.push(expectation(name, text, true).map_err(de::Error::custom)?);
                }
            }
            Entry::Mean(_) => {
                return Err(de::Error::custom(format_args!("expect.{name}: write a text")));
            }
        }
    }
    Ok(found)
}

fn expectation(figure: String, text: String, of_mean: bool) -> Result<Expectation, String> {
    let unit = unit_of(&figure).ok_or_else(|| {
        let names: Vec<String> = figure_names().map(|name| format!("`{name}`")).collect();
        format!("unknown field `{figure}`, expected one of {}", names.join(", "))
    })?;
    let bound = Bound::parse(&text, unit).map_err(|error| format!("expect.{figure}: {error}"))?;
    Ok(Expectation { figure, text, bound, of_mean })
}
