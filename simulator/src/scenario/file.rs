//! Reads a scenario's file: `extends`, `[matrix]`, and mistakes with the nearest name.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Scenario;
use super::shipped::shipped;
use crate::world::fnv1a;

/// A chain of `extends` that is longer goes round in a circle.
const MOST_EXTENDS: u32 = 8;
const MOST_IN_MATRIX: usize = 1000;

pub(super) fn parse(text: &str, changes: &[(String, String)]) -> Result<Vec<Scenario>, String> {
    let mut table = extended(table(text)?, 0)?;
    for (path, value) in changes {
        set(&mut table, path, &value_of(value))?;
    }
    let matrix = match table.remove("matrix") {
        None => Vec::new(),
        Some(Value::Table(matrix)) => axes(matrix)?,
        Some(_) => return Err("matrix: it is a table of lists".to_owned()),
    };
    chosen(table, &matrix)?.into_iter().map(scenario).collect()
}

fn table(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error: toml::de::Error| error.to_string())
}

/// The table with what it leaves out taken from the scenario that it extends.
fn extended(mut table: Table, depth: u32) -> Result<Table, String> {
    let Some(base) = table.remove("extends") else { return Ok(table) };
    let name = base.as_str().ok_or("extends: it is the name of a shipped scenario")?;
    if depth == MOST_EXTENDS {
        return Err("extends: it goes round in a circle".to_owned());
    }
    let Some(found) = shipped().iter().find(|each| each.name == name) else {
        return Err(format!(
            "extends: no scenario is shipped as {name:?}{}",
            suggestion(name, shipped().iter().map(|each| each.name))
        ));
    };
    let mut whole = extended(self::table(found.text)?, depth + 1)?;
    // A new scenario is no test of the old one's figures.
    whole.remove("expect");
    merge(&mut whole, table);
    Ok(whole)
}

/// Tables are merged; everything else takes the place of what was there. `"none"` takes a table away.
fn merge(base: &mut Table, over: Table) {
    for (name, value) in over {
        match (base.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(Value::Table(_)), Value::String(text)) if text == "none" => {
                base.remove(&name);
            }
            (_, value) => {
                base.insert(name, value);
            }
        }
    }
}

/// The paths of a matrix with their values.
fn axes(matrix: Table) -> Result<Vec<(String, Vec<Value>)>, String> {
    matrix
        .into_iter()
        .map(|(path, values)| match values {
            Value::Array(values) if !values.is_empty() => Ok((path, values)),
            _ => Err(format!(
                "matrix: {path} is a list of values; a path is a text, as in \"queue.visibility\""
            )),
        })
        .collect()
}

/// A table for each choice of one value on every axis.
fn chosen(table: Table, axes: &[(String, Vec<Value>)]) -> Result<Vec<Table>, String> {
    let mut tables = vec![table];
    for (path, values) in axes {
        if tables.len() * values.len() > MOST_IN_MATRIX {
            return Err(format!("matrix: it makes more than {MOST_IN_MATRIX} scenarios"));
        }
        let mut next = Vec::new();
        for table in &tables {
            for value in values {
                let mut table = table.clone();
                set(&mut table, path, value)?;
                let shown = value.as_str().map_or_else(|| json(value), str::to_owned);
                let name = table.get("name").and_then(Value::as_str).unwrap_or_default();
                let name = format!("{name} {path}={shown}");
                table.insert("name".to_owned(), Value::String(name));
                next.push(table);
            }
        }
        tables = next;
    }
    Ok(tables)
}

/// A value as TOML writes it; what TOML cannot read is a text, so that `10s` needs no quotes.
fn value_of(text: &str) -> Value {
    let table: Option<Table> = format!("value = {text}").parse().ok();
    let value = table.and_then(|mut table| table.remove("value"));
    match value {
        // A clock time or a number with a point is meant as a text.
        Some(Value::Datetime(_) | Value::Float(_)) | None => Value::String(text.to_owned()),
        Some(value) => value,
    }
}

fn set(table: &mut Table, path: &str, value: &Value) -> Result<(), String> {
    match path.split_once('.') {
        None => {
            let mut over = Table::new();
            over.insert(path.to_owned(), value.clone());
            merge(table, over);
            Ok(())
        }
        Some((first, rest)) => {
            let below = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(below) = below else {
                return Err(format!("{path}: {first} is no table"));
            };
            set(below, rest, value)
        }
    }
}

fn scenario(table: Table) -> Result<Scenario, String> {
    let hash = fnv1a(json(&table).as_bytes());
    let mut scenario =
        Scenario::deserialize(Value::Table(table)).map_err(|error| readable(&error))?;
    scenario.check()?;
    scenario.hash = hash;
    Ok(scenario)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The error on one line, with the name that was probably meant.
fn readable(error: &toml::de::Error) -> String {
    let text = error.to_string().trim().replace('\n', " ");
    let Some(rest) = text.split_once("unknown field `").map(|(_, rest)| rest) else { return text };
    let mut names = rest.split('`').step_by(2);
    let found = names.next().unwrap_or_default();
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    format!("{text}{}", suggestion(found, known.into_iter()))
}

/// The known name with the least changes to it, unless that is most of the name.
fn suggestion<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (changes(found, name), name))
        .min()
        .filter(|(changes, name)| *changes <= name.len().max(3) / 2)
        .map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

/// The letters to insert, drop or replace between two words (Levenshtein).
fn changes(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, against) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
