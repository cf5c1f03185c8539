//! The fields of a map: each is taken once, and what nobody has taken is reported.

use super::report::Report;
use super::yaml::{Kind, Value};

/// The fields of a map that have not been taken yet.
pub(super) struct Fields<'v> {
    /// The path of the map within the file, such as `descriptors[0].rate_limit`.
    pub(super) path: String,
    pub(super) line: usize,
    all: &'v [(String, Value)],
    entries: Vec<(&'v str, &'v Value)>,
}

impl<'v> Fields<'v> {
    /// The fields of a map.
    ///
    /// # Errors
    /// A sentence with the place, if it is none.
    pub(super) fn of(path: String, value: &'v Value) -> Result<Self, String> {
        let Kind::Map(all) = &value.kind else {
            return Err(format!("line {}: {path}: it must be a map", value.line));
        };
        let entries = all.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Ok(Self { path, line: value.line, all, entries })
    }

    /// The path of a field.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The field of this name, unless it is missing or empty.
    pub(super) fn take(&mut self, name: &str) -> Option<&'v Value> {
        let place = self.entries.iter().position(|(key, _)| *key == name)?;
        let (_, value) = self.entries.remove(place);
        (!matches!(value.kind, Kind::Nothing)).then_some(value)
    }

    /// A text.
    ///
    /// # Errors
    /// A sentence with the place, if it is there and something else.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<&'v str>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value { kind: Kind::Text(text), .. }) => Ok(Some(text)),
            Some(value) => Err(self.wrong(name, value, "a text")),
        }
    }

    /// A whole number of 0 or more.
    ///
    /// # Errors
    /// A sentence with the place, if it is there and something else.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value.kind {
            // Some readers of YAML take it as octal, others as decimal.
            Kind::Text(text) if text.starts_with('0') && text.len() > 1 => {
                return Err(self.wrong(name, value, "a whole number, without a zero in front"));
            }
            Kind::Text(text) if text.bytes().all(|digit| digit.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(name, value, "a whole number of 0 or more"))
    }

    /// A switch, which is off unless it is given.
    ///
    /// # Errors
    /// A sentence with the place, if it is neither `true` nor `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(Value { kind: Kind::Text(text), .. }) if text == "true" => Ok(true),
            Some(Value { kind: Kind::Text(text), .. }) if text == "false" => Ok(false),
            Some(value) => Err(self.wrong(name, value, "true or false")),
        }
    }

    /// A list, which is empty unless it is given.
    ///
    /// # Errors
    /// A sentence with the place, if it is something else.
    pub(super) fn list(&mut self, name: &str) -> Result<&'v [Value], String> {
        match self.take(name) {
            None => Ok(&[]),
            Some(Value { kind: Kind::List(items), .. }) => Ok(items),
            Some(value) => Err(self.wrong(name, value, "a list")),
        }
    }

    /// Reports that a field, taken or not, cannot be said as it is.
    pub(super) fn note(&self, report: &mut Report, name: &str, why: &str) {
        let field = self.all.iter().find(|(key, _)| key == name);
        let line = field.map_or(self.line, |(_, value)| value.line);
        report.note(line, &self.at(name), why);
    }

    /// Reports the fields that nobody has taken.
    pub(super) fn finish(self, report: &mut Report) {
        for (name, _) in &self.entries {
            self.note(report, name, "the field is unknown");
        }
    }

    fn wrong(&self, name: &str, value: &Value, expected: &str) -> String {
        format!("line {}: {}: it must be {expected}", value.line, self.at(name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    #[test]
    fn numbers_and_switches_that_readers_of_yaml_take_for_different_things_are_refused_by_name()
    -> Result<(), String> {
        for (text, said) in [
            ("n: 010", "line 1: a.n: it must be a whole number, without a zero in front"),
            ("n: 0x10", "line 1: a.n: it must be a whole number, without a zero in front"),
            ("n: 0o10", "line 1: a.n: it must be a whole number, without a zero in front"),
            ("n: +5", "line 1: a.n: it must be a whole number of 0 or more"),
            ("n: 1_000", "line 1: a.n: it must be a whole number of 0 or more"),
            ("n: 1.0", "line 1: a.n: it must be a whole number of 0 or more"),
            ("f: yes", "line 1: a.f: it must be true or false"),
            ("f: True", "line 1: a.f: it must be true or false"),
        ] {
            let documents = yaml::read(text)?;
            let mut fields = Fields::of("a".to_owned(), &documents[0])?;
            let read = fields.number("n").and_then(|_| fields.flag("f"));
            assert_eq!(read.err().as_deref(), Some(said), "{text}");
        }
        let documents = yaml::read("n: 10\nz: 0\nf: true")?;
        let mut fields = Fields::of("a".to_owned(), &documents[0])?;
        assert_eq!(
            (fields.number("n")?, fields.number("z")?, fields.flag("f")?),
            (Some(10), Some(0), true)
        );
        Ok(())
    }
}
