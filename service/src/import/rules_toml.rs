//! Writes rules as the text of a rules file.

use core::fmt::Write as _;

use crate::rules_file::{EntryText, LimitText, RuleText};

/// A rule, and what its comment says.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) comment: String,
    pub(super) rule: RuleText,
}

impl Imported {
    /// The rule as a table of TOML.
    pub(super) fn to_toml(&self) -> String {
        let Self { comment, rule } = self;
        let mut text = comment_lines(comment) + "[[rules]]\n";
        let mut field = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a string cannot fail.
                _ = writeln!(text, "{name} = {value}");
            }
        };
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        let entries = |entries: &Option<Vec<EntryText>>| {
            entries.as_ref().map(|entries| list(entries.iter().map(entry).collect()))
        };
        let flag = |is_set: bool| is_set.then(|| "true".to_owned());
        field("name", rule.name.as_deref().map(quoted));
        field("domain", rule.domain.as_deref().map(quoted));
        field("match", entries(&rule.entries));
        field("has", entries(&rule.has));
        field("key", rule.key.as_deref().map(quoted));
        field("prefix", rule.prefix.as_deref().map(quoted));
        field("limits", Some(list(rule.limits.iter().map(limit).collect())));
        let replaces = || list(rule.replaces.iter().map(|name| quoted(name)).collect());
        field("replaces", (!rule.replaces.is_empty()).then(replaces));
        field("continue", flag(rule.goes_on));
        field("shadow", flag(rule.shadow));
        text
    }
}

/// The text as lines of comments. Control characters are escaped, so that a text of the file stays within
/// its comment.
pub(super) fn comment_lines(text: &str) -> String {
    let line = |line: &str| {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("# {}\n", line.trim_end())
    };
    text.lines().map(line).collect()
}

fn entry(EntryText { key, value, share }: &EntryText) -> String {
    let value = value.as_deref().map(|value| format!(", value = {}", quoted(value)));
    let share = share.then(|| ", share = true".to_owned());
    match (value, share) {
        (None, None) => quoted(key),
        (value, share) => format!(
            "{{ key = {}{}{} }}",
            quoted(key),
            value.unwrap_or_default(),
            share.unwrap_or_default()
        ),
    }
}

fn limit(LimitText { name, limit, .. }: &LimitText) -> String {
    match name {
        None => quoted(limit),
        Some(name) => format!("{{ name = {}, limit = {} }}", quoted(name), quoted(limit)),
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_read_back_as_it_was() -> Result<(), toml::de::Error> {
        for text in ["", "a\"b\\c", "line\nbreak\tand\u{7f}\u{85}", "é*"] {
            let table: toml::Table = toml::from_str(&format!("x = {}", quoted(text)))?;
            assert_eq!(table.get("x").and_then(|it| it.as_str()), Some(text));
        }
        assert_eq!(comment_lines("a\nb\rc"), "# a\n# b c\n");
        Ok(())
    }
}
