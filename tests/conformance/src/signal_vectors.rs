//! `signals.json`: responses, and what they say about their vendors' limits.

use serde::Deserialize;
use serde_json::Value;
use tidegate_core::{Meaning, Profile, Row, Signal, Unit};

/// Responses.
#[derive(Deserialize)]
pub struct SignalVectors {
    /// The responses.
    pub cases: Vec<SignalCase>,
}

/// A response, and what it says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalCase {
    /// What the case shows.
    pub name: String,
    /// The name of a built-in profile, or the rows of another one.
    pub profile: WrittenProfile,
    /// The status.
    pub status: u16,
    /// The wall clock, in nanoseconds.
    pub now: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body, or null.
    pub body: Value,
    /// What the response says.
    pub expect: ExpectedSignal,
}

/// A profile as the vectors write it.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum WrittenProfile {
    /// The name of a built-in one.
    Named(String),
    /// The rows of another one.
    Rows(Vec<WrittenRow>),
}

/// A row of a profile as the vectors write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenRow {
    header: String,
    meaning: String,
    unit: Option<String>,
    group: Option<String>,
}

/// A signal as the vectors write it.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSignal {
    hold: String,
    asked: String,
    scope: String,
    bucket: String,
    remaining: Option<String>,
    limit: Option<String>,
    limit_name: String,
    window: Option<String>,
    reset: Option<String>,
    should_retry: bool,
    kind: String,
    /// The name that the hold was read from, in lower case.
    pub source: String,
}

impl From<Signal<'_>> for ExpectedSignal {
    fn from(signal: Signal<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Names that headers tell have no case.
        let lower = |bytes: &[u8]| text(bytes).to_ascii_lowercase();
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        Self {
            hold: signal.hold.to_string(),
            asked: signal.asked.to_string(),
            scope: signal.scope.as_str().to_owned(),
            bucket: text(signal.bucket),
            remaining: number(signal.remaining),
            limit: number(signal.limit),
            limit_name: lower(signal.limit_name),
            window: number(signal.window),
            reset: number(signal.reset),
            should_retry: signal.should_retry,
            kind: signal.kind.as_str().to_owned(),
            source: lower(signal.source.as_bytes()),
        }
    }
}

impl WrittenProfile {
    /// The rows, of which a built-in profile has its own.
    ///
    /// # Panics
    /// When a word is not known.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let Self::Rows(rows) = self else { return Vec::new() };
        rows.iter()
            .map(|row| Row {
                header: &row.header,
                meaning: Meaning::parse(&row.meaning).expect("a meaning"),
                unit: Unit::parse(row.unit.as_deref().unwrap_or("auto")).expect("a unit"),
                group: row.group.as_deref().unwrap_or_default(),
            })
            .collect()
    }

    /// The profile, with the rows of [`rows`](Self::rows).
    ///
    /// # Panics
    /// When there is no built-in profile of the name.
    pub fn profile<'a>(&self, rows: &'a [Row<'a>]) -> Profile<'a> {
        match self {
            Self::Named(name) => *Profile::named(name).expect("a built-in profile"),
            Self::Rows(_) => Profile { rows, ..Profile::GENERIC },
        }
    }
}

/// The fields of a body, each with its path; the elements of a list have the list's, or `[]` if the
/// list is the whole body.
pub fn fields(body: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    add_fields(body, String::new(), &mut fields);
    fields
}

fn add_fields(value: &Value, path: String, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                add_fields(value, path, fields);
            }
        }
        Value::Array(elements) => {
            let path = if path.is_empty() { "[]".to_owned() } else { path };
            elements.iter().for_each(|value| add_fields(value, path.clone(), fields));
        }
        Value::Null => {}
        Value::String(text) => fields.push((path, text.clone())),
        Value::Bool(_) | Value::Number(_) => fields.push((path, value.to_string())),
    }
}
