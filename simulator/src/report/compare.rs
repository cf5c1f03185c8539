//! What differs between two summaries.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::json::VERSION;
use crate::figures::{Unit, figure_names};

#[derive(Deserialize)]
struct Summary {
    version: u64,
    scenarios: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    mean: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Value {
    value: u64,
    unit: String,
}

/// The figures that differ between two summaries, as text. Scenarios are matched by their names; if each
/// summary has one, these two are compared.
///
/// # Errors
/// A text that is no summary, or one of another version; and summaries that share no scenario.
pub fn compare(one: &str, other: &str) -> Result<String, String> {
    let (one, other) = (
        read(one).map_err(|error| format!("the first: {error}"))?,
        read(other).map_err(|error| format!("the second: {error}"))?,
    );
    let pairs: Vec<(&Entry, &Entry)> = match (&*one.scenarios, &*other.scenarios) {
        ([one], [other]) => vec![(one, other)],
        (ones, others) => ones
            .iter()
            .filter_map(|one| {
                others.iter().find(|other| other.name == one.name).map(|other| (one, other))
            })
            .collect(),
    };
    if pairs.is_empty() {
        return Err("the summaries share no scenario".to_owned());
    }
    Ok(pairs.into_iter().map(|(one, other)| differences(one, other)).collect())
}

fn read(text: &str) -> Result<Summary, String> {
    let summary: Summary = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if summary.version == VERSION {
        Ok(summary)
    } else {
        Err(format!("it is of version {}; this is version {VERSION}", summary.version))
    }
}

fn differences(one: &Entry, other: &Entry) -> String {
    let title = if one.name == other.name {
        one.name.clone()
    } else {
        format!("{} | {}", one.name, other.name)
    };
    let mut out = format!("{title}\n");
    let mut changed = 0;
    for name in figure_names() {
        let (Some(a), Some(b)) = (one.mean.get(name), other.mean.get(name)) else { continue };
        if a.value != b.value {
            changed += 1;
            let unit = Unit::named(&a.unit).unwrap_or(Unit::Count);
            let _ = writeln!(
                out,
                "  {name:<20}{:>14}{:>14}{:>11}",
                unit.show(a.value),
                unit.show(b.value),
                change(a.value, b.value)
            );
        }
    }
    if changed == 0 {
        out += "  no figure differs\n";
    }
    out
}

/// The change in tenths of a percent, rounded towards 0.
fn change(from: u64, to: u64) -> String {
    let (sign, difference) = if to >= from { ('+', to - from) } else { ('-', from - to) };
    match (u128::from(difference) * 1000).checked_div(u128::from(from)) {
        Some(tenths) => format!("{sign}{}.{} %", tenths / 10, tenths % 10),
        None => "new".to_owned(),
    }
}
