//! The figures of a run: names, units, and what they are in the ideal.

use core::fmt;

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in files.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Its value in this unit.
    pub value: u64,
    /// Its value in the ideal: one bucket at the vendor's rate that knows of every message at once.
    pub ideal: Option<u64>,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A time in nanoseconds.
    Nanoseconds,
    /// A rate in thousandths of a call in a second.
    ThousandthsPerSecond,
    /// A share in parts per million.
    PartsPerMillion,
}

impl Unit {
    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Nanoseconds => "ns",
            Self::ThousandthsPerSecond => "per 1000 s",
            Self::PartsPerMillion => "ppm",
        }
    }

    /// The unit of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Count, Self::Nanoseconds, Self::ThousandthsPerSecond, Self::PartsPerMillion]
            .into_iter()
            .find(|unit| unit.as_str() == name)
    }

    /// A value in this unit as people write it. Made from integers, so that it is the same everywhere.
    pub fn show(self, value: u64) -> Shown {
        Shown(self, value)
    }
}

/// A value with its unit, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Shown(Unit, u64);

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(unit, value) = *self;
        let text = match unit {
            Unit::Count => value.to_string(),
            Unit::Nanoseconds => {
                let millis = (value + 500_000) / 1_000_000;
                format!("{}.{:03} s", millis / 1000, millis % 1000)
            }
            Unit::ThousandthsPerSecond => format!("{}.{:03}/s", value / 1000, value % 1000),
            Unit::PartsPerMillion => {
                let hundredths = (value + 50) / 100;
                format!("{}.{:02} %", hundredths / 100, hundredths % 100)
            }
        };
        out.pad(&text)
    }
}

/// What each figure says, in the order of tables.
const FIGURES: [(&str, Unit, &str); 32] = [
    ("produced", Unit::Count, "messages that arrived"),
    ("done", Unit::Count, "messages whose call succeeded"),
    ("lost", Unit::Count, "messages that were put aside or given up"),
    ("lost_received", Unit::Count, "of these, received too often"),
    ("lost_given_up", Unit::Count, "of these, given up for their age in the queue of the function"),
    ("lost_failed", Unit::Count, "of these, failed too often"),
    ("lost_stale", Unit::Count, "of these, put aside because they were older than the deadline"),
    ("unfinished", Unit::Count, "messages that were neither when the run ended"),
    ("time", Unit::Nanoseconds, "from the beginning to the end of the last message that was done"),
    ("mean_rate", Unit::ThousandthsPerSecond, "messages that were done, over that time"),
    (
        "steady_rate",
        Unit::ThousandthsPerSecond,
        "messages done between the first and the last tenth of them, over that time",
    ),
    ("used", Unit::PartsPerMillion, "the share of what the vendor's limit allows in that time"),
    (
        "most_in_any_second",
        Unit::Count,
        "calls that reached the vendor in some second, whenever it began",
    ),
    (
        "most_in_any_window",
        Unit::Count,
        "calls that reached the vendor in some window of its limit, whenever it began",
    ),
    ("wait_mean", Unit::Nanoseconds, "from a message's arrival to its first call"),
    ("wait_p50", Unit::Nanoseconds, "the wait that half of them exceed"),
    ("wait_p99", Unit::Nanoseconds, "the wait that 1 in 100 exceeds"),
    ("wait_max", Unit::Nanoseconds, "the longest wait"),
    ("late", Unit::Count, "first calls of messages that were older than the deadline"),
    ("calls", Unit::Count, "calls that reached the vendor"),
    ("refused", Unit::Count, "of these, refused"),
    ("failed", Unit::Count, "of these, failed for another reason"),
    ("duplicates", Unit::Count, "calls for a message whose call had succeeded"),
    ("receives", Unit::Count, "messages that were received from the queue, each time counted"),
    ("throttles", Unit::Count, "batches that the function had no room for, each offer counted"),
    ("killed", Unit::Count, "batches that ended with their timeout or a crash"),
    ("max_concurrency", Unit::Count, "the most batches at a time"),
    ("instances", Unit::Count, "instances of the function that were started"),
    ("store_errors", Unit::Count, "questions to the store that it did not answer"),
    (
        "seed_mean",
        Unit::ThousandthsPerSecond,
        "calls in a second, averaged over the seconds with a call: it hides the others",
    ),
    ("seed_most", Unit::Count, "the most calls in a second of the clock"),
    ("seed_least", Unit::Count, "the fewest calls in a second of the clock that has one"),
];

/// The names of all figures.
pub fn figure_names() -> impl Iterator<Item = &'static str> {
    FIGURES.iter().map(|(name, ..)| *name)
}

/// What a figure says.
pub fn about(name: &str) -> &'static str {
    FIGURES.iter().find(|(each, ..)| *each == name).map_or("", |(_, _, about)| about)
}

pub(crate) fn unit_of(name: &str) -> Option<Unit> {
    FIGURES.iter().find(|(each, ..)| *each == name).map(|(_, unit, _)| *unit)
}

/// A figure of [`FIGURES`].
pub(crate) fn figure(name: &'static str, value: u64, ideal: Option<u64>) -> Figure {
    Figure { name, unit: unit_of(name).unwrap_or(Unit::Count), value, ideal }
}

/// The mean of each figure over all runs, rounded to the nearest.
pub(crate) fn mean(runs: &[Vec<Figure>]) -> Vec<Figure> {
    let Some(first) = runs.first() else { return Vec::new() };
    let count = runs.len() as u128;
    let over = |values: &dyn Fn(&Vec<Figure>) -> u64| {
        let sum: u128 = runs.iter().map(|run| u128::from(values(run))).sum();
        ((sum + count / 2) / count) as u64
    };
    (0..first.len())
        .map(|at| Figure {
            value: over(&|run| run[at].value),
            ideal: first[at].ideal.map(|_| over(&|run| run[at].ideal.unwrap_or_default())),
            ..first[at]
        })
        .collect()
}
