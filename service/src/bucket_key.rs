//! The key of a descriptor's bucket, and its template in a rule.

use core::fmt;

/// The form of a bucket's key, which is made from the values of a descriptor.
///
/// A single value is the key unchanged, as in `limiter.check(value)` in any language, except that
/// a leading `%` is doubled. Several values are joined with `/` after the mark `%/`, which so begins
/// no single value. `%` and `/` in them are escaped (`%25`, `%2F`). So different lists of values never
/// share a bucket, whatever a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BucketKey {
    /// The values.
    Values,
    /// A template such as `login/{client}`.
    Template(Vec<TemplatePart>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplatePart {
    Literal(String),
    /// The value of the entry with this index.
    Value(usize),
}

/// A mistake in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// The template is the empty text.
    Empty,
    /// A brace has no counterpart.
    Unbalanced,
    /// The name is not an entry key of the rule.
    UnknownName { name: String, known: Vec<String> },
    /// The name is the key of several entries of the rule.
    AmbiguousName { name: String },
}

impl BucketKey {
    /// Parses a template, in which `{name}` stands for the value of the entry with that key.
    pub(crate) fn template(text: &str, entry_keys: &[&str]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal_end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (literal, after) = rest.split_at(literal_end);
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(literal.to_owned()));
            }
            rest = after;
            if !rest.is_empty() {
                let inside = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
                let (name, after) = inside.ok_or(TemplateError::Unbalanced)?;
                parts.push(TemplatePart::Value(position_of(name, entry_keys)?));
                rest = after;
            }
        }
        if parts.is_empty() { Err(TemplateError::Empty) } else { Ok(Self::Template(parts)) }
    }

    /// The bucket's key for a descriptor with these values.
    pub(crate) fn write(&self, values: &[&str]) -> String {
        match self {
            Self::Values => match values {
                [value] if value.starts_with('%') => format!("%{value}"),
                [value] => (*value).to_owned(),
                values => {
                    let mut key = "%/".to_owned();
                    for (index, value) in values.iter().enumerate() {
                        if index > 0 {
                            key.push('/');
                        }
                        push_escaped(&mut key, value);
                    }
                    key
                }
            },
            Self::Template(parts) => match parts.as_slice() {
                [TemplatePart::Value(index)] => value_at(values, *index).to_owned(),
                parts => {
                    let mut key = String::new();
                    for part in parts {
                        match part {
                            TemplatePart::Literal(text) => key.push_str(text),
                            TemplatePart::Value(index) => {
                                push_escaped(&mut key, value_at(values, *index))
                            }
                        }
                    }
                    key
                }
            },
        }
    }
}

fn position_of(name: &str, entry_keys: &[&str]) -> Result<usize, TemplateError> {
    let mut places = entry_keys.iter().enumerate().filter(|(_, key)| **key == name);
    match (places.next(), places.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some(_), Some(_)) => Err(TemplateError::AmbiguousName { name: name.to_owned() }),
        (None, _) => Err(TemplateError::UnknownName {
            name: name.to_owned(),
            known: entry_keys.iter().map(|key| (*key).to_owned()).collect(),
        }),
    }
}

/// The value with this index, which exists because the rule has matched the descriptor.
fn value_at<'a>(values: &[&'a str], index: usize) -> &'a str {
    values.get(index).copied().unwrap_or_default()
}

fn push_escaped(key: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '%' => key.push_str("%25"),
            '/' => key.push_str("%2F"),
            other => key.push(other),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it must not be empty"),
            Self::Unbalanced => f.write_str("each \"{\" needs its \"}\", around one entry key"),
            Self::UnknownName { name, known } => write!(
                f,
                "{{{name}}} is not an entry key that `match` lists; it lists {}",
                known.join(", ")
            ),
            Self::AmbiguousName { name } => write!(
                f,
                "{{{name}}} is the key of several entries of `match`; leave `key` out, and all values \
                 make the key"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_the_key_and_several_are_joined_without_collisions() {
        let key = BucketKey::Values;
        assert_eq!(key.write(&["50%/a"]), "50%/a");
        assert_eq!(key.write(&["%/a"]), "%%/a");
        assert_eq!(key.write(&["a", "b"]), "%/a/b");
        assert_eq!(key.write(&["a/b", "c"]), "%/a%2Fb/c");
        assert_eq!(key.write(&["a", "b/c"]), "%/a/b%2Fc");
        assert_eq!(key.write(&["100%", "é"]), "%/100%25/é");
        assert_eq!(key.write(&["", ""]), "%//");
        assert_eq!(key.write(&[""]), "");
    }

    /// All lists of up to three values of up to three characters that have a meaning in a key.
    #[test]
    fn different_values_have_different_keys() {
        let mut values = vec![String::new()];
        for length in 1..=3 {
            for text in values.clone().iter().filter(|text| text.len() == length - 1) {
                values.extend(["%", "/", "2"].map(|character| format!("{text}{character}")));
            }
        }
        let mut seen = std::collections::HashMap::new();
        let mut note = |list: Vec<&str>| {
            let key = BucketKey::Values.write(&list);
            let list: Vec<String> = list.into_iter().map(str::to_owned).collect();
            if let Some(other) = seen.insert(key.clone(), list.clone()) {
                assert_eq!(other, list, "both have the key {key}");
            }
        };
        for a in &values {
            note(vec![a]);
            for b in &values {
                note(vec![a, b]);
                values.iter().for_each(|c| note(vec![a, b, c]));
            }
        }
        assert_eq!(seen.len(), 40 + 40 * 40 + 40 * 40 * 40);
    }

    #[test]
    fn templates_order_values_and_add_text() -> Result<(), TemplateError> {
        let keys = ["api_key", "path"];
        let write = |text| Ok(BucketKey::template(text, &keys)?.write(&["k/1", "/x"]));
        assert_eq!(write("{path}:{api_key}")?, "%2Fx:k%2F1");
        assert_eq!(write("{api_key}")?, "k/1");
        assert_eq!(write("user/{api_key}")?, "user/k%2F1");
        assert_eq!(write("everyone")?, "everyone");
        Ok(())
    }

    #[test]
    fn wrong_templates_are_refused() {
        let wrong = |text| BucketKey::template(text, &["api_key"]).err();
        assert_eq!(wrong(""), Some(TemplateError::Empty));
        for text in ["{", "}", "a}", "{api_key", "{{api_key}", "x{api_key}}"] {
            let error = wrong(text);
            assert!(
                matches!(
                    error,
                    Some(TemplateError::Unbalanced | TemplateError::UnknownName { .. })
                ),
                "{text}: {error:?}"
            );
        }
        let twice = BucketKey::template("{a}", &["a", "b", "a"]);
        assert_eq!(twice, Err(TemplateError::AmbiguousName { name: "a".to_owned() }));
        let message = wrong("{user}").map(|error| error.to_string());
        let said = "{user} is not an entry key that `match` lists; it lists api_key";
        assert_eq!(message.as_deref(), Some(said));
    }
}
